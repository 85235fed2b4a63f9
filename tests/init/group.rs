//! The app's process group, and who is left of it when its main process has ended.

use super::support::*;
use std::time::Duration;

#[test]
fn own() {
    for mode in modes() {
        let (status, out, log) =
            output(command(mode, &[], &Settings::default()), &["sh", "-c", "cut -d' ' -f1,5 /proc/$$/stat"]);
        assert_eq!(status, 0, "{log}");
        let text = String::from_utf8(out).unwrap();
        let (pid, group) = text.trim().split_once(' ').unwrap();
        assert_eq!(pid, group, "{mode:?}");
    }
}

#[test]
fn term_reaches_grandchild() {
    // A wrapper that only waits, and does not die of the signal.
    let script =
        "trap : TERM; sh -c 'trap \"exit 5\" TERM; echo ready; while :; do sleep .01; done'; exit $?";
    for mode in modes() {
        let mut run = sh(mode, script);
        run.expect("ready");
        run.signal(TERM);
        assert_eq!(run.status(), 5, "{mode:?}");
    }
}

/// A wrapper that neither execs nor forwards: after the end its app is gone as well.
#[test]
fn sh_c_wrapper() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let mut run = sh(mode, &format!("sh -c 'echo ready; while :; do sleep .01; done # {note}'; true"));
        run.expect("ready");
        run.signal(TERM);
        assert_eq!(run.status(), 143, "{mode:?}");
        std::thread::sleep(Duration::from_millis(300)); // Whoever was told may need a moment.
        assert!(!anyone_mentions(&note), "{mode:?}: the app is still there");
    }
}

#[test]
fn no_straggler() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let helper = format!("trap \"\" HUP; : > {note}; while :; do sleep .01; done");
        let script = format!("sh -c '{helper}' & while ! [ -e {note} ]; do sleep .01; done; exit 3");
        let mut run = sh(mode, &script);
        assert_eq!(run.status(), 3, "{mode:?}");
        // In a namespace of its own the end of PID 1 ends everybody: then it must be gone before that.
        let still = mode == Mode::Plain && anyone_mentions(&note);
        assert!(!still, "{mode:?}: it is still there");
    }
}

#[test]
fn straggler_termed() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let helper = format!(
            "trap \"sleep .3; echo clean > {note}; exit\" TERM; : > {note}.up; while :; do sleep .01; done"
        );
        let script = format!("sh -c '{helper}' & while ! [ -e {note}.up ]; do sleep .01; done; exit 3");
        assert_eq!(sh(mode, &script).status(), 3, "{mode:?}");
        assert_eq!(read(&note), "clean\n", "{mode:?}: it could not finish before the init's end");
    }
}
