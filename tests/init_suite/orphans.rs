//! Adopted processes are waited for, as PID 1 and as subreaper, and nothing is done while there is nothing to do.

use super::support::*;
use std::time::Duration;

#[test]
fn orphans_are_adopted() {
    // Prints the parent of a process whose parent has ended: us.
    let script = "sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!' > $1; read pid < $1; \
        while :; do set -- $(grep PPid /proc/$pid/status); [ $2 = $PPID ] && break; sleep .01; done; echo adopted; exit 0";
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        let note = path(&dir, "pid");
        let mut run = start(mode, &Settings::default(), &["sh", "-c", script, "sh", &note]);
        run.expect("adopted");
        assert_eq!(run.status(), 0, "{mode:?}");
    }
}

#[test]
fn no_orphan_stays_a_zombie_and_none_takes_the_apps_status() {
    let script = "i=0; while [ $i -lt 300 ]; do sh -c 'exit 9 &'; i=$((i+1)); done; echo made; \
        trap 'i=0; while [ $i -lt 50 ]; do sh -c \"exit 9 &\"; i=$((i+1)); done; exit 42' USR1; while :; do sleep .01; done";
    for mode in MODES {
        let mut run = sh(mode, script);
        run.expect("made");
        until("only the app is left", || children_of(run.init).len() == 1);
        run.signal(USR1);
        assert_eq!(run.status(), 42, "{mode:?}");
    }
}

#[test]
fn a_stopped_child_is_not_a_dead_one() {
    for mode in MODES {
        let mut run = sh(mode, "trap 'exit 4' USR1; echo ready; while :; do sleep .01; done");
        run.expect("ready");
        let app = children_of(run.init)[0].pid;
        kill(app, STOP);
        until("it is stopped", || stat(app).unwrap().state == 'T');
        kill(app, CONT);
        until("it goes on", || stat(app).unwrap().state != 'T');
        run.signal(USR1);
        assert_eq!(run.status(), 4, "{mode:?}");
    }
}

#[test]
fn nothing_wakes_the_supervising_thread_while_nothing_happens() {
    for mode in MODES {
        let run = sh(mode, "echo ready; exec sleep 1000");
        run.expect("ready");
        until("it sleeps", || stat(run.init).unwrap().state == 'S' && wakeups(run.init) == settled(run.init));
        let before = wakeups(run.init);
        std::thread::sleep(Duration::from_millis(1500)); // The subject of this test is time.
        assert_eq!(wakeups(run.init), before, "{mode:?}");
    }
}

/// Voluntary context switches of the main thread, which is alone with signals, fork and wait.
fn wakeups(pid: i32) -> u64 {
    let text = read(format!("/proc/{pid}/task/{pid}/status"));
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn settled(pid: i32) -> u64 {
    std::thread::sleep(Duration::from_millis(300));
    wakeups(pid)
}
