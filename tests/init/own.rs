//! What litevisor promises beyond any other init: settings, restarts, and its own log.

mod guard;
mod hidden;
mod ready;
mod receiver;
mod rights;
mod start;
mod thaw;

use super::child::stdout;
use super::stop::app;
use super::support::*;
use std::time::{Duration, Instant};

const IGNORES: &str = "trap '' TERM INT; echo ready; while :; do sleep .01; done";

#[test]
fn an_app_that_ignores_the_stop_is_killed_in_time() {
    let settings = Settings { grace_ms: Some(20_000), app_timeout_ms: Some(600), ..Settings::default() };
    for mode in modes() {
        let mut run = app(mode, &settings, IGNORES);
        let asked = Instant::now();
        run.signal(TERM);
        assert_eq!(run.status(), 137, "{mode:?}");
        assert!(asked.elapsed() >= Duration::from_millis(600), "{mode:?}: it had its time");
        assert!(asked.elapsed() < Duration::from_secs(15), "{mode:?}: and no more");
    }
}

#[test]
fn a_second_stop_kills_the_app_now() {
    let settings = Settings { grace_ms: Some(600_000), app_timeout_ms: Some(500_000), ..Settings::default() };
    for mode in modes() {
        let mut run = app(mode, &settings, "trap 'echo told' TERM; echo ready; while :; do sleep .01; done");
        run.signal(TERM);
        run.expect("told");
        run.signal(TERM);
        assert_eq!(run.status(), 137, "{mode:?}");
    }
}

#[test]
fn the_apps_own_stop_signal() {
    let settings = Settings { stop_signal: Some(QUIT), ..Settings::default() };
    let script = "trap 'exit 11' QUIT; trap 'exit 1' TERM INT; echo ready; while :; do sleep .01; done";
    for mode in modes() {
        for signal in [TERM, INT, QUIT] {
            let mut run = app(mode, &settings, script);
            run.signal(signal);
            assert_eq!(run.status(), 11, "{mode:?}: {signal}");
        }
    }
}

#[test]
fn what_the_app_hears_is_configured() {
    let settings = Settings::app(&["signals={ TERM = \"QUIT\", HUP = \"none\", USR1 = \"SIGRTMIN+3\" }"]);
    let printer = SIGNAL_PRINTER.replace("got == 15", "got == 3");
    for mode in modes() {
        let mut run = start(mode, &settings, &[python(), "-S", "-c", &printer]);
        run.expect("ready");
        for signal in [HUP, USR1, HUP, USR2] {
            run.signal(signal);
        }
        let mut heard = [run.line(), run.line()];
        heard.sort();
        assert_eq!(heard, ["12", "37"], "{mode:?}: no HUP, USR1 translated, USR2 as it is");
        run.signal(TERM);
        run.expect("3");
        assert_eq!(run.status(), 0, "{mode:?}");
    }
}

#[test]
fn a_status_that_is_a_success() {
    let settings = Settings::app(&["success_codes=[143, 3]"]);
    for mode in modes() {
        for (script, status) in [("exit 3", 0), ("exit 4", 4), ("kill -TERM $$", 0)] {
            let mut run = start(mode, &settings, &["sh", "-c", script]);
            assert_eq!(run.status(), status, "{mode:?}: {script}");
        }
        let mut run = app(mode, &settings, "echo ready; exec sleep 1000");
        run.signal(TERM);
        assert_eq!(run.status(), 0, "{mode:?}");
    }
}

/// Counts its lives in a file, and does `script` in each.
fn lives(restart: &str, backoff: &str, script: &str) -> (Settings, tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("echo x >> {0}/lives; n=$(wc -l < {0}/lives); {script}", dir.path().display());
    let settings = Settings::app(&[&format!("restart={restart:?}"), &format!("backoff={backoff}")]);
    (settings, dir, script)
}

const QUICK: &str = "{ limit = 3, delay = \"20ms\" }";

#[test]
fn a_failed_app_is_started_again_with_its_helpers_gone() {
    for mode in modes() {
        // Each life leaves a helper, and looks for the last one's.
        let helper = "sh -c 'trap \"\" HUP; echo $$ > $DIR/helper; while :; do sleep .01; done' >/dev/null \
            2>&1 & while ! [ -s $DIR/helper ]; do sleep .01; done";
        let script = format!(
            "if [ $n -gt 1 ]; then kill -0 $(cat $DIR/helper) 2>/dev/null && echo there || echo gone; rm \
             $DIR/helper; fi; [ $n = 3 ] && exit 0; {helper}; exit 5"
        );
        let (settings, dir, script) = lives("on-failure", QUICK, &script);
        let script = format!("DIR={}; export DIR; {script}", dir.path().display());
        let mut run = start(mode, &settings, &["sh", "-c", &script]);
        run.expect("gone");
        run.expect("gone");
        assert_eq!(run.status(), 0, "{mode:?}");
        assert_eq!(read(dir.path().join("lives")).len(), 6, "{mode:?}");
        let log = run.whole_log();
        assert!(log.contains("restart 2 of 3") && log.contains("\"times\":3"), "{log}");
    }
}

#[test]
fn restarts_have_a_limit() {
    for mode in modes() {
        let (settings, dir, script) = lives("always", QUICK, "exit $n");
        let mut run = start(mode, &settings, &["sh", "-c", &script]);
        assert_eq!(run.status(), 4, "{mode:?}: the status of the fourth life");
        assert_eq!(read(dir.path().join("lives")).len(), 8, "{mode:?}");
        assert!(run.whole_log().contains("not started again"));
    }
}

#[test]
fn a_stop_while_it_waits_to_be_started_again() {
    for mode in modes() {
        let (settings, dir, script) = lives("always", "{ delay = \"30s\" }", "exit 6");
        let mut run = start(mode, &settings, &["sh", "-c", &script]);
        until("it waits", || run.log().contains("restart 1 of"));
        let asked = Instant::now();
        run.signal(TERM);
        assert_eq!(run.status(), 6, "{mode:?}: the app's last status");
        assert!(asked.elapsed() < Duration::from_secs(10), "{mode:?}");
        assert_eq!(read(dir.path().join("lives")).len(), 2, "{mode:?}");
    }
}

#[test]
fn an_app_that_is_asked_to_stop_is_not_started_again() {
    for mode in modes() {
        let (settings, dir, script) =
            lives("always", QUICK, "trap 'exit 7' TERM; echo ready; while :; do sleep .01; done");
        let mut run = app(mode, &settings, &script);
        run.signal(TERM);
        assert_eq!(run.status(), 7, "{mode:?}");
        assert_eq!(read(dir.path().join("lives")).len(), 2, "{mode:?}");
    }
}

/// The same directory, descriptors and terminal-less stdin as the first time.
#[test]
fn a_further_life_finds_what_the_first_one_found() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().canonicalize().unwrap();
    for mode in modes() {
        let (settings, _count, script) = lives(
            "on-failure",
            QUICK,
            // Of the grep, which begins as the shell began: a shell that waits blocks signals itself.
            "pwd; umask; (cd /proc/$$/fd; echo *); grep SigBlk /proc/self/status; [ $n = 2 ] || exit 1",
        );
        let wrapper = format!("cd {}; umask 0137; exec \"$@\" 7</dev/null", there.display());
        let mut command = command(mode, &["sh", "-c", &wrapper, "sh"], &settings);
        command.args(["bash", "-c", &format!("umask 0137; {}", script.replacen("umask 0137; ", "", 1))]);
        let mut run = start_command(mode, command);
        let first: Vec<String> = (0..4).map(|_| run.line()).collect();
        let second: Vec<String> = (0..4).map(|_| run.line()).collect();
        assert_eq!(first[0], there.to_str().unwrap(), "{mode:?}");
        assert_eq!(first, second, "{mode:?}");
        assert_eq!(run.status(), 0, "{mode:?}");
    }
}

#[test]
fn those_who_stay_are_killed_before_we_end() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        for session in ["", "setsid"] {
            let note = path(&dir, &format!("{mode:?}{session}"));
            let helper = format!("trap \"\" TERM; : > {note}; while :; do sleep .01; done");
            let script =
                format!("{session} sh -c '{helper}' & while ! [ -e {note} ]; do sleep .01; done; exit 3");
            let mut run = sh(mode, &script);
            assert_eq!(run.status(), 3, "{mode:?} {session}");
            assert!(run.started.elapsed() >= Duration::from_secs(2), "{mode:?} {session}: it had its time");
            assert!(run.started.elapsed() < Duration::from_secs(20), "{mode:?} {session}");
            assert!(!anyone_mentions(&note), "{mode:?} {session}: it is still there");
        }
    }
}

#[test]
fn a_daemon_that_is_asked_may_finish() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let helper = format!(
            "trap \"sleep .3; echo clean > {note}; exit\" TERM; : > {note}.up; while :; do sleep .01; done"
        );
        let script =
            format!("setsid sh -c '{helper}' & while ! [ -e {note}.up ]; do sleep .01; done; exit 3");
        assert_eq!(sh(mode, &script).status(), 3, "{mode:?}");
        assert_eq!(read(&note), "clean\n", "{mode:?}");
    }
}

#[test]
fn who_was_there_before_the_app_is_left_alone() {
    // `exec > >(tee log)` before `exec litevisor`: the tee is our child, and ends after us.
    let wrapper = "sleep 1000 >/dev/null 2>&1 & echo $!; exec \"$@\"";
    let mut command = command(Mode::Plain, &["sh", "-c", wrapper, "sh"], &Settings::default());
    command.args(["sh", "-c", "exit 2"]);
    let mut run = start_command(Mode::Plain, command);
    let before = run.line().parse().unwrap();
    assert_eq!(run.status(), 2);
    assert!(stat(before).is_some_and(|stat| stat.state == 'S'), "it was ended with the app");
    assert!(run.started.elapsed() < Duration::from_secs(2), "it was waited for");
    kill(before, KILL);
}

#[test]
fn the_working_directory_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().canonicalize().unwrap();
    std::os::unix::fs::symlink("/bin/pwd", there.join("app")).unwrap();
    let settings = |dir: &str| Settings { working_dir: Some(dir.into()), ..Settings::default() };
    for mode in modes() {
        // A relative command is looked for there.
        let text = stdout(mode, &[], &settings(there.to_str().unwrap()), &["./app"]);
        assert_eq!(text.trim(), there.to_str().unwrap(), "{mode:?}");
        let (status, _, log) = output(command(mode, &[], &settings("/no/such")), &["pwd"]);
        assert_eq!(status, 126, "{mode:?}");
        assert!(log.contains("/no/such") && log.contains("No such file"), "{log}");
    }
}

#[test]
fn another_user_for_good() {
    let settings = |user: &str| Settings { user: Some(user.into()), ..Settings::default() };
    let show = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s '\\t ' ' '; echo $HOME $USER $LOGNAME; \
        setpriv --reuid 0 true 2>/dev/null && echo regained; exit 0";
    let show = ["sh", "-c", show];
    for mode in modes() {
        let (status, _, log) = output(command(mode, &[], &settings("no-such-user")), &["true"]);
        assert_eq!(status, 78, "{mode:?}");
        assert!(log.contains("no-such-user") && log.contains("/etc/passwd"), "{log}");
        if !is_root() {
            let (status, _, log) = output(command(mode, &[], &settings("12345:12345")), &["true"]);
            assert_eq!(status, 126, "{mode:?}: {log}");
            continue;
        }
        let text = stdout(mode, &[], &settings("12345:23456"), &show);
        let ids = "Uid: 12345 12345 12345 12345\nGid: 23456 23456 23456 23456\nGroups: 23456 \n/\n";
        assert_eq!(text, ids, "{mode:?}");
        let text = stdout(mode, &[], &settings("nobody"), &show);
        assert!(text.ends_with("nobody nobody\n") && !text.contains(" 0 "), "{mode:?}: {text}");
        // The parent-death signal must come after the change of user, which clears it.
        let run = start(mode, &settings("12345:12345"), &["sh", "-c", "echo ready; exec sleep 1000"]);
        run.expect("ready");
        let app = app_of(&run);
        run.signal(KILL);
        until("the app is gone", || stat(app).is_none_or(|stat| stat.state == 'Z'));
    }
}

#[test]
fn no_new_privileges_when_asked_for() {
    let asked = Settings { no_new_privs: true, ..Settings::default() };
    for mode in modes() {
        let text = stdout(mode, &[], &asked, &["grep", "NoNewPrivs", "/proc/self/status"]);
        assert_eq!(text, "NoNewPrivs:\t1\n", "{mode:?}");
    }
}

#[test]
fn what_cannot_be_run_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let directory = path(&dir, "");
    let table = [
        ("/no/such/file", 127, "not found"),
        ("no-such-command-anywhere", 127, "not found in PATH"),
        (&directory, 126, "ermission denied"),
    ];
    for mode in modes() {
        for (program, status, reason) in table {
            let mut run = start(mode, &Settings::default(), &[program, "word"]);
            assert_eq!(run.status(), status, "{mode:?}: {program}");
            let log = run.whole_log();
            let named = log.lines().any(|line| line.contains(program) && line.contains(reason));
            assert!(named, "{mode:?}: no line with {program} and {reason}:\n{log}");
        }
    }
}

#[test]
fn the_last_line_is_the_summary() {
    for mode in modes() {
        let mut run = sh(mode, "exit 5");
        assert_eq!(run.status(), 5);
        let log = run.whole_log();
        let last = log.lines().last().unwrap();
        assert!(
            last.contains("exited with status 5") && last.contains("restore") && last.contains("ms"),
            "{log}"
        );
    }
}
