//! Exit statuses, and commands that cannot be run.

use super::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_apps_status_is_ours() {
    let table = [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("kill -37 $$", 165), // real-time
        ("kill -64 $$", 192),
        (":", 0), // ends before we wait
    ];
    for mode in MODES {
        for (script, status) in table {
            assert_eq!(sh(mode, script).status(), status, "{mode:?}: {script}");
        }
    }
}

fn file(dir: &tempfile::TempDir, name: &str, content: &str, mode: u32) -> String {
    let path = path(dir, name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn what_cannot_be_run_is_named_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let forbidden = file(&dir, "forbidden", "#!/bin/sh\n", 0o644);
    let no_interpreter = file(&dir, "no-interpreter", "#!/no/such/thing\n", 0o755);
    let directory = path(&dir, "");
    let table = [
        ("/no/such/file", 127, "not found"),
        ("no-such-command-anywhere", 127, "not found in PATH"),
        (&no_interpreter, 127, "interpreter"),
        (&forbidden, 126, "ermission denied"),
        (&directory, 126, "ermission denied"),
    ];
    for mode in MODES {
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
fn a_file_without_shebang_is_a_shell_script() {
    let dir = tempfile::tempdir().unwrap();
    let script = file(&dir, "no-shebang", "echo \"$1-$2\"; exit 6\n", 0o755);
    for mode in MODES {
        let mut run = start(mode, &Settings::default(), &[&script, "a b", ""]);
        run.expect("a b-");
        assert_eq!(run.status(), 6);
        // Found in PATH, behind an entry that is not there and one that may not be run.
        fs::create_dir_all(dir.path().join("first")).unwrap();
        fs::write(dir.path().join("first/no-shebang"), "").unwrap();
        let mut command = command(mode, &[], &Settings::default());
        let first = path(&dir, "first");
        let path = format!("/no/such:{first}:{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).args(["no-shebang", "x", "y"]);
        let mut run = start_command(mode, command);
        run.expect("x-y");
        assert_eq!(run.status(), 6);
    }
}

#[test]
fn no_command_is_refused() {
    for mode in MODES {
        let (status, out, log) = output(command(mode, &[], &Settings::default()), &[] as &[&str]);
        assert_eq!((status, out.as_slice()), (78, b"".as_slice()), "{mode:?}: {log}");
        assert!(!log.is_empty());
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_matter() {
    // A closed pipe: SIGPIPE or an error; a full one: a writer that waits for ever.
    let wrappers = [
        "python=$1; shift; exec \"$python\" -c 'import os, sys
r, w = os.pipe(); os.close(r); os.dup2(w, 2); os.execv(sys.argv[1], sys.argv[1:])' \"$@\"",
        "python=$1; shift; exec \"$python\" -c 'import os, sys
r, w = os.pipe(); os.set_inheritable(r, True); os.set_blocking(w, False)
try:
    while True: os.write(w, b\"x\" * 4096)
except BlockingIOError: pass
os.set_blocking(w, True); os.dup2(w, 2); os.execv(sys.argv[1], sys.argv[1:])' \"$@\"",
    ];
    for mode in MODES {
        for wrapper in wrappers {
            let mut command = command(mode, &["sh", "-c", wrapper, "sh", python()], &Settings::default());
            command.args(["sh", "-c", "exec 2>/dev/null; trap 'exit 3' TERM; echo ready; while :; do sleep .01; done"]);
            let mut run = start_command(mode, command);
            run.expect("ready");
            run.signal(TERM);
            assert_eq!(run.status(), 3, "{mode:?}: {wrapper}");
        }
    }
}
