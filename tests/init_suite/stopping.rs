//! From the stop signal to the end: who is told, who is waited for, who is killed, and when.

use super::support::*;
use std::fs;
use std::time::Duration;

const IGNORES: &str = "trap '' TERM INT; echo ready; while :; do sleep .01; done";

fn app(mode: Mode, settings: &Settings, script: &str) -> Run {
    let run = start(mode, settings, &["sh", "-c", script]);
    run.expect("ready");
    run
}

#[test]
fn what_the_app_makes_of_a_stop_is_our_status() {
    let table = [
        ("echo ready; exec sleep 1000", TERM, 143),
        ("echo ready; exec sleep 1000", INT, 130),
        ("trap 'sleep .3; exit 9' TERM; echo ready; while :; do sleep .01; done", TERM, 9),
        ("trap 'exit 0' TERM; echo ready; while :; do sleep .01; done", TERM, 0),
        ("trap 'exit 8' INT; echo ready; while :; do sleep .01; done", INT, 8),
        // A wrapper that neither execs nor forwards, and only waits: its child must be told, too.
        ("trap : TERM; sh -c 'trap \"exit 5\" TERM; echo ready; while :; do sleep .01; done'; exit $?", TERM, 5),
        // A frozen app is told and woken.
        ("trap 'exit 6' TERM; echo ready; kill -STOP $$; while :; do sleep .01; done", TERM, 6),
    ];
    for mode in MODES {
        for (script, signal, status) in table {
            let mut run = app(mode, &Settings::default(), script);
            run.signal(signal);
            assert_eq!(run.status(), status, "{mode:?}: {script}");
        }
    }
}

#[test]
fn the_apps_own_stop_signal() {
    let settings = Settings { stop_signal: Some(QUIT), ..Settings::default() };
    let script = "trap 'exit 11' QUIT; trap 'exit 1' TERM INT; echo ready; while :; do sleep .01; done";
    for mode in MODES {
        for signal in [TERM, INT, QUIT] {
            let mut run = app(mode, &settings, script);
            run.signal(signal);
            assert_eq!(run.status(), 11, "{mode:?}: {signal}");
        }
    }
}

#[test]
fn an_app_that_ignores_the_stop_is_killed_in_time() {
    let settings = Settings { grace_ms: Some(20_000), app_timeout_ms: Some(600), ..Settings::default() };
    for mode in MODES {
        let mut run = app(mode, &settings, IGNORES);
        let asked = std::time::Instant::now();
        run.signal(TERM);
        assert_eq!(run.status(), 137, "{mode:?}");
        assert!(asked.elapsed() >= Duration::from_millis(600), "{mode:?}: it had its time");
        assert!(asked.elapsed() < Duration::from_secs(15), "{mode:?}: and no more");
    }
}

#[test]
fn a_second_stop_kills_the_app_now() {
    let settings = Settings { grace_ms: Some(600_000), app_timeout_ms: Some(500_000), ..Settings::default() };
    for mode in MODES {
        let mut run =
            app(mode, &settings, &format!("trap 'echo told' TERM; {}", &IGNORES["trap '' TERM INT; ".len()..]));
        run.signal(TERM);
        run.expect("told");
        run.signal(TERM);
        assert_eq!(run.status(), 137, "{mode:?}");
    }
}

#[test]
fn those_who_are_left_are_asked_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        for session in ["", "setsid"] {
            let note = path(&dir, &format!("{mode:?}{session}"));
            let helper = format!(
                "trap \"sleep .3; echo clean > {note}; exit\" TERM; : > {note}.up; while :; do sleep .01; done"
            );
            let script = format!("{session} sh -c '{helper}' & while ! [ -e {note}.up ]; do sleep .01; done; exit 3");
            assert_eq!(sh(mode, &script).status(), 3, "{mode:?} {session}");
            assert_eq!(read(&note), "clean\n", "{mode:?} {session}: it could not finish");
        }
    }
}

#[test]
fn those_who_stay_are_killed_before_we_end() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        for session in ["", "setsid"] {
            let note = path(&dir, &format!("{mode:?}{session}"));
            let helper = format!("trap \"\" TERM; : > {note}; while :; do sleep .01; done");
            let script = format!("{session} sh -c '{helper}' & while ! [ -e {note} ]; do sleep .01; done; exit 3");
            let mut run = sh(mode, &script);
            assert_eq!(run.status(), 3, "{mode:?} {session}");
            assert!(run.started.elapsed() >= Duration::from_secs(2), "{mode:?} {session}: it had its time");
            assert!(run.started.elapsed() < Duration::from_secs(20), "{mode:?} {session}");
            assert!(!anyone_mentions(&note), "{mode:?} {session}: it is still there");
        }
    }
}

/// A process with this text in its command line.
fn anyone_mentions(text: &str) -> bool {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter(|e| e.file_name().as_encoded_bytes()[0].is_ascii_digit());
    pids.map(|e| read(e.path().join("cmdline"))).any(|line| line.contains(text))
}

#[test]
fn a_daemon_keeps_nothing_alive() {
    for mode in MODES {
        let mut run = sh(mode, "setsid sleep 1000 & (setsid sh -c 'exec sleep 1001' &); exit 4");
        assert_eq!(run.status(), 4);
        assert!(run.started.elapsed() < Duration::from_secs(2), "{mode:?}");
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
fn the_app_does_not_outlive_us() {
    for mode in MODES {
        let run = sh(mode, "echo ready; exec sleep 1000");
        run.expect("ready");
        let app = children_of(run.init)[0].pid;
        run.signal(KILL);
        until("the app is gone", || stat(app).is_none_or(|stat| stat.state == 'Z'));
    }
}

#[test]
fn the_last_line_is_the_summary() {
    for mode in MODES {
        let mut run = sh(mode, "exit 5");
        assert_eq!(run.status(), 5);
        let log = run.whole_log();
        let last = log.lines().last().unwrap();
        assert!(last.contains("exited with status 5") && last.contains("restore") && last.contains("ms"), "{log}");
    }
}
