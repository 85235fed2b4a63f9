//! Signals without the right to send them: root that was started without CAP_KILL, and an app with another
//! user.

use crate::stop::app;
use crate::support::*;
use std::time::{Duration, Instant};

/// What hardened pods leave: enough to become another user, not enough to signal one.
const WITHOUT_KILL: [&str; 3] = ["setpriv", "--bounding-set", "-kill"];

fn user(grace_ms: u64, app_timeout_ms: u64) -> Settings {
    Settings {
        user: Some("12345:12345".into()),
        grace_ms: Some(grace_ms),
        app_timeout_ms: Some(app_timeout_ms),
        ..Settings::default()
    }
}

fn started(mode: Mode, settings: &Settings, words: &[&str]) -> Run {
    let mut command = command(mode, &WITHOUT_KILL, settings);
    command.args(words);
    let run = start_command(mode, command);
    run.expect("ready");
    run
}

#[test]
fn the_app_of_another_user_hears_every_signal() {
    if !is_root() {
        return;
    }
    for mode in modes() {
        let mut run = started(mode, &user(20_000, 15_000), &[shared_python(), "-S", "-c", SIGNAL_PRINTER]);
        for signal in [HUP, USR1, 37] {
            run.signal(signal);
            run.expect(&signal.to_string());
        }
        let asked = Instant::now();
        run.signal(TERM);
        assert_eq!(run.status(), 0, "{mode:?}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{mode:?}: it was not told");
    }
}

#[test]
fn it_is_killed_when_its_time_is_over() {
    if !is_root() {
        return;
    }
    let ignores = "trap '' TERM; echo ready; while :; do sleep .01; done";
    for mode in modes() {
        let mut run = started(mode, &user(20_000, 500), &["sh", "-c", ignores]);
        run.signal(TERM);
        assert_eq!(run.status(), 137, "{mode:?}: {}", run.whole_log());
    }
}

/// A helper that became a third user by itself (`su-exec`, a pre-forking server's workers).
#[test]
fn the_rest_is_asked_and_killed_whoever_it_runs_as() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let helper = format!("trap \"\" TERM; : > {note}; while :; do sleep .01; done");
        let drop = "setpriv --reuid 23456 --regid 23456 --clear-groups";
        let script = format!(
            "{drop} sh -c '{helper}' & while ! [ -e {note} ]; do sleep .01; done; echo ready; exit 3"
        );
        let mut run = started(mode, &Settings::default(), &["sh", "-c", &script]);
        assert_eq!(run.status(), 3, "{mode:?}: {}", run.whole_log());
        assert!(!anyone_mentions(&note), "{mode:?}: it is still there");
    }
}

/// The parent-death signal needs the right of the one that dies.
#[test]
fn the_app_dies_with_us() {
    if !is_root() {
        return;
    }
    for mode in modes() {
        let run = started(mode, &user(20_000, 15_000), &["sh", "-c", "echo ready; exec sleep 1000"]);
        let app = app_of(&run);
        run.signal(KILL);
        until("the app is gone", || stat(app).is_none_or(|stat| stat.state == 'Z'));
    }
}

/// What cannot be signalled is said, and not taken for done: without CAP_KILL and CAP_SETUID.
#[test]
fn a_signal_that_is_refused_is_not_logged_as_sent() {
    if !is_root() {
        return;
    }
    // The app becomes another user by a setuid program: litevisor itself has neither right.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let becomes = path(&dir, "becomes");
    std::fs::write(&becomes, std::fs::read("/usr/bin/setpriv").unwrap()).unwrap();
    std::fs::set_permissions(&becomes, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let wrapper = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"];
    let settings = Settings { grace_ms: Some(3_000), app_timeout_ms: Some(1_000), ..Settings::default() };
    let mut command = command(Mode::Plain, &wrapper, &settings);
    command.arg(&becomes).args(["--reuid", "23456", "--regid", "23456", "--clear-groups"]);
    command.args(["sh", "-c", "echo ready; exec sleep 8"]);
    let mut run = start_command(Mode::Plain, command);
    run.expect("ready");
    run.signal(TERM);
    assert_eq!(run.status(), 74, "it could not be ended");
    let log = run.whole_log();
    assert!(!log.contains("SIGTERM sent to the app") && !log.contains("SIGKILL sent"), "{log}");
    assert!(log.contains("could not be sent") && log.contains("CAP_KILL"), "{log}");
}

/// The usual case is told as it was.
#[test]
fn a_signal_that_was_sent_is_logged() {
    for mode in modes() {
        let mut run = app(mode, &Settings::default(), "echo ready; exec sleep 1000");
        run.signal(TERM);
        assert_eq!(run.status(), 143, "{mode:?}");
        assert!(run.whole_log().contains("SIGTERM sent to the app"), "{mode:?}");
    }
}
