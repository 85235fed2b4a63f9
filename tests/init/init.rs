//! The init itself: what it costs, what it holds, and when it ends.

use super::support::*;
use std::time::Duration;

/// Nothing wakes the thread that supervises while nothing happens.
#[test]
fn idle_wakeups() {
    for mode in modes() {
        let run = sh(mode, "echo ready; exec sleep 1000");
        run.expect("ready");
        let settled = |pid| {
            let before = wakeups(pid);
            std::thread::sleep(Duration::from_millis(300));
            wakeups(pid) == before
        };
        until("it sleeps", || stat(run.init).unwrap().state == 'S' && settled(run.init));
        let before = wakeups(run.init);
        std::thread::sleep(Duration::from_millis(2500)); // The subject of this test is time.
        assert_eq!(wakeups(run.init), before, "{mode:?}");
    }
}

/// Voluntary context switches of the main thread, which is alone with signals, fork and wait.
fn wakeups(pid: i32) -> u64 {
    let text = read(format!("/proc/{pid}/task/{pid}/status"));
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn does_not_pin_cwd() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let wrapper = format!("cd {}; exec \"$@\"", dir.path().display());
        let mut command = command(mode, &["sh", "-c", &wrapper, "sh"], &Settings::default());
        command.args(["sh", "-c", "echo ready; exec sleep 1000"]);
        let run = start_command(mode, command);
        run.expect("ready");
        until("the init leaves the directory", || {
            std::fs::read_link(format!("/proc/{}/cwd", run.init)).is_ok_and(|cwd| cwd.as_os_str() == "/")
        });
    }
}

/// What the app was given and closes is closed: whoever waits for its end is not kept waiting.
#[test]
fn does_not_pin_fds() {
    for mode in modes() {
        let wrapper = "import os, sys
r, w = os.pipe()
if os.fork() == 0: os.close(w); os.read(r, 1); os.write(1, b'closed\\n'); os._exit(0)
os.close(r); os.dup2(w, 7); os.close(w); os.execv(sys.argv[1], sys.argv[1:])";
        let mut command = wrapped_in_python(mode, wrapper);
        command.args(["sh", "-c", "echo ready; exec 7>&-; exec sleep 1000"]);
        let run = start_command(mode, command);
        run.expect("ready");
        run.expect("closed");
    }
}

/// A daemon in a session of its own keeps nothing alive.
#[test]
fn ends_with_child() {
    for mode in modes() {
        let mut run = sh(
            mode,
            "setsid sleep 1000 >/dev/null 2>&1 & (setsid sh -c 'exec sleep 1001' >/dev/null 2>&1 &); exit 4",
        );
        assert_eq!(run.status(), 4, "{mode:?}");
        assert!(run.started.elapsed() < Duration::from_secs(3), "{mode:?}");
    }
}
