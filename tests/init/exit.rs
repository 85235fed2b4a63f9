//! Exit statuses, and commands that cannot be run.

use super::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn statuses(table: &[(&str, i32)]) {
    for mode in modes() {
        for (script, status) in table {
            assert_eq!(sh(mode, script).status(), *status, "{mode:?}: {script}");
        }
    }
}

#[test]
fn zero() {
    statuses(&[("exit 0", 0)]);
}

#[test]
fn codes() {
    statuses(&[("exit 1", 1), ("exit 42", 42), ("exit 126", 126), ("exit 143", 143), ("exit 255", 255)]);
}

#[test]
fn signal_128n() {
    statuses(&[
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("kill -HUP $$", 129),
    ]);
}

#[test]
fn signal_realtime() {
    statuses(&[("kill -37 $$", 165), ("kill -64 $$", 192)]);
}

/// It has ended before anybody waits for it.
#[test]
fn race_fast_child() {
    for mode in modes() {
        for _ in 0..20 {
            let mut run = start(mode, &Settings::default(), &["/bin/true"]);
            assert_eq!(run.status(), 0, "{mode:?}");
            assert!(run.started.elapsed().as_secs() < 3, "{mode:?}: it took {:?}", run.started.elapsed());
        }
    }
}

#[test]
fn status_not_stolen() {
    // Many orphans end in the same instant as the app.
    let script =
        "i=0; while [ $i -lt 50 ]; do sh -c 'sleep .05; exit 9' & i=$((i+1)); done; sleep .05; exit 42";
    let script = format!("sh -c '{}' & wait; exit 42", script.replace("'sleep .05; exit 9'", "\"exit 9 &\""));
    for mode in modes() {
        for _ in 0..3 {
            assert_eq!(sh(mode, &script).status(), 42, "{mode:?}");
        }
    }
}

fn file(dir: &tempfile::TempDir, name: &str, content: &str, mode: u32) -> String {
    let path = path(dir, name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// The status, and one line on stderr that names the file.
fn cannot_run(program: &str, status: i32) {
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &[program, "word"]);
        assert_eq!(run.status(), status, "{mode:?}: {program}");
        let log = run.whole_log();
        assert!(log.contains(program), "{mode:?}: {program} is not named:\n{log}");
    }
}

#[test]
fn exec_missing_127() {
    cannot_run("/no/such/file", 127);
}

#[test]
fn exec_missing_in_path_127() {
    cannot_run("no-such-command-anywhere", 127);
}

#[test]
fn exec_forbidden_126() {
    let dir = tempfile::tempdir().unwrap();
    cannot_run(&file(&dir, "forbidden", "#!/bin/sh\n", 0o644), 126);
    cannot_run(&path(&dir, ""), 126);
}

#[test]
fn exec_missing_interpreter() {
    let dir = tempfile::tempdir().unwrap();
    cannot_run(&file(&dir, "no-interpreter", "#!/no/such/thing\n", 0o755), 127);
}

#[test]
fn exec_no_shebang() {
    let dir = tempfile::tempdir().unwrap();
    let script = file(&dir, "no-shebang", "echo \"$1-$2\"; exit 6\n", 0o755);
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &[&script, "a b", ""]);
        run.expect("a b-");
        assert_eq!(run.status(), 6);
    }
}

#[test]
fn no_command() {
    for mode in modes() {
        let (status, out, log) = output(command(mode, &[], &Settings::default()), &[] as &[&str]);
        assert!(status != 0 && status < 128, "{mode:?}: {status}");
        assert!(!log.is_empty() || !out.is_empty(), "{mode:?}: no usage");
    }
}
