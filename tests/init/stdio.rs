//! stdin, stdout and stderr are the app's, whatever state they are in.

use super::support::*;

#[test]
fn stdin() {
    for mode in modes() {
        let wrapper = "import os, sys
r, w = os.pipe(); os.write(w, b'some words'); os.close(w); os.dup2(r, 0)
os.execv(sys.argv[1], sys.argv[1:])";
        let mut command = wrapped_in_python(mode, wrapper);
        command.args(["sh", "-c", "cat; echo; echo end"]);
        let run = start_command(mode, command);
        run.expect("some words");
        run.expect("end");
    }
}

/// The same open files: what the app finds is what the init was given; the init writes nothing to stdout.
#[test]
fn stdout_stderr() {
    for mode in modes() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (path(&dir, "out"), path(&dir, "err"));
        let wrapper = format!("exec \"$@\" > {out} 2> {err}");
        let app = "readlink /proc/$$/fd/1 /proc/$$/fd/2; echo error >&2";
        let (status, rest, log) =
            output(command(mode, &["sh", "-c", &wrapper, "sh"], &Settings::default()), &["sh", "-c", app]);
        assert_eq!((status, rest.as_slice()), (0, b"".as_slice()), "{mode:?}: {log}");
        assert_eq!(read(&out), format!("{out}\n{err}\n"), "{mode:?}: only the app writes to stdout");
        assert!(read(&err).lines().any(|line| line == "error"), "{mode:?}");
    }
}

#[test]
fn closed() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let wrapper = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
        let app = format!("echo here > {note}; exit 4");
        let (status, ..) = output(command(mode, &wrapper, &Settings::default()), &["sh", "-c", &app]);
        assert_eq!((status, read(&note).as_str()), (4, "here\n"), "{mode:?}");
    }
}

/// The app runs, is told to stop, and its status arrives, although nobody reads the log.
fn with_stderr(prepare: &str) {
    let wrapper = format!("import os, sys\n{prepare}\nos.execv(sys.argv[1], sys.argv[1:])");
    for mode in modes() {
        let mut command = wrapped_in_python(mode, &wrapper);
        command.args([
            "sh",
            "-c",
            "exec 2>/dev/null; trap 'exit 3' TERM; echo ready; while :; do sleep .01; done",
        ]);
        let mut run = start_command(mode, command);
        run.expect("ready");
        run.signal(TERM);
        assert_eq!(run.status(), 3, "{mode:?}");
    }
}

#[test]
fn broken_pipe() {
    with_stderr("r, w = os.pipe(); os.close(r); os.dup2(w, 2)");
}

#[test]
fn stuck_pipe() {
    with_stderr(
        "r, w = os.pipe(); os.set_inheritable(r, True); os.set_blocking(w, False)
try:
    while True: os.write(w, b'x' * 4096)
except BlockingIOError: pass
os.set_blocking(w, True); os.dup2(w, 2)",
    );
}
