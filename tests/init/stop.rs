//! From the stop signal to the end.

use super::support::*;
use std::time::{Duration, Instant};

pub fn app(mode: Mode, settings: &Settings, script: &str) -> Run {
    let run = start(mode, settings, &["sh", "-c", script]);
    run.expect("ready");
    run
}

fn stopped(script: &str, status: i32) {
    for mode in modes() {
        let mut run = app(mode, &Settings::default(), script);
        run.signal(TERM);
        assert_eq!(run.status(), status, "{mode:?}: {script}");
    }
}

#[test]
fn default_child_143() {
    stopped("echo ready; exec sleep 1000", 143);
}

#[test]
fn child_code_after_term() {
    stopped("trap 'exit 0' TERM; echo ready; while :; do sleep .01; done", 0);
    stopped("trap 'exit 9' TERM; echo ready; while :; do sleep .01; done", 9);
}

#[test]
fn waits_for_cleanup() {
    for mode in modes() {
        let script = "trap 'sleep .7; echo clean; exit 3' TERM; echo ready; while :; do sleep .01; done";
        let mut run = app(mode, &Settings::default(), script);
        let asked = Instant::now();
        run.signal(TERM);
        assert_eq!(run.status(), 3, "{mode:?}");
        assert!(asked.elapsed() >= Duration::from_millis(700), "{mode:?}: it was not waited for");
        assert_eq!(run.rest(), ["clean"], "{mode:?}");
    }
}

/// It has its time: the init stays as long as it does (within the grace, where there is one).
#[test]
fn child_ignores_term() {
    for mode in modes() {
        let script = "trap '' TERM; trap 'exit 5' USR1; echo ready; while :; do sleep .01; done";
        let mut run = app(mode, &Settings::default(), script);
        run.signal(TERM);
        std::thread::sleep(Duration::from_millis(500)); // The subject is time.
        run.signal(USR1);
        assert_eq!(run.status(), 5, "{mode:?}");
    }
}

/// A second stop signal is no less than the first: it is passed on, or makes an end.
#[test]
fn second_term() {
    let script = "n=0; trap 'n=$((n+1)); echo told $n; [ $n = 2 ] && exit 7' TERM; echo ready; while :; do \
                  sleep .01; done";
    for mode in modes() {
        let mut run = app(mode, &Settings::default(), script);
        run.signal(TERM);
        run.expect("told 1");
        run.signal(TERM);
        let status = run.status();
        assert!([7, 137].contains(&status), "{mode:?}: {status}");
    }
}

#[test]
fn frozen_child() {
    for mode in modes() {
        let mut run =
            app(mode, &Settings::default(), "trap 'exit 6' TERM; echo ready; while :; do sleep .01; done");
        let app = app_of(&run);
        kill(app, STOP);
        until("it is frozen", || stat(app).unwrap().state == 'T');
        run.signal(TERM);
        assert_eq!(run.status(), 6, "{mode:?}");
    }
}

#[test]
fn stopped_child_is_not_dead() {
    for mode in modes() {
        let mut run =
            app(mode, &Settings::default(), "trap 'exit 4' USR1; echo ready; while :; do sleep .01; done");
        let app = app_of(&run);
        kill(app, STOP);
        until("it is stopped", || stat(app).unwrap().state == 'T');
        kill(app, CONT);
        until("it goes on", || stat(app).unwrap().state != 'T');
        run.signal(USR1);
        assert_eq!(run.status(), 4, "{mode:?}");
    }
}

/// The app's program has begun, but has not asked for signals yet.
#[test]
fn term_while_starting() {
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &["sleep", "1000"]);
        until("the app's program has begun", || {
            children_of(run.init)
                .iter()
                .any(|child| read(format!("/proc/{}/cmdline", child.pid)).starts_with("sleep"))
        });
        run.signal(TERM);
        assert_eq!(run.status(), 143, "{mode:?}");
    }
}
