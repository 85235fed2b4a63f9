//! With a terminal (`docker run -it`): the app has its foreground, what it types arrives once, and so does
//! its end.

use super::support::*;
use std::process::Command;

/// Runs argv on a terminal, does what it is told once the app is ready, and prints the
/// app's notes and our status.
const DRIVER: &str = "
LIMIT = 30
import fcntl, os, pty, select, struct, subprocess, sys, termios, time
act, note, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
master, slave = pty.openpty()
process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
os.close(slave)
def read(): return open(note).read() if os.path.exists(note) else ''
def wait_for(text):
    end = time.time() + LIMIT
    while text not in read():
        assert time.time() < end, 'no %r in %r' % (text, read())
        time.sleep(.005)
wait_for('ready')
if act == 'ctrl-c': os.write(master, b'\\x03'); wait_for('got 2\\n')
if act == 'ctrl-z': os.write(master, b'\\x1a'); wait_for('got 20\\n')
if act == 'nothing': time.sleep(1)  # The subject is time.
if act == 'only-ctrl-c': os.write(master, b'\\x03')
if act == 'job':
    time.sleep(.3); os.write(master, b'\\x1a'); wait_for('stopped'); time.sleep(.3); os.write(master, b'\\x04')
if act == 'winch': fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 20, 30, 0, 0)); wait_for('got 28\\n')
if act == 'read': os.write(master, b'typed\\n'); wait_for('typed\\n')
if act == 'hangup': os.close(master); wait_for('got 1\\n')
if act in ('ctrl-c', 'ctrl-z', 'winch', 'hangup', 'nothing'): open(note + '.end', 'w').close()
end = time.time() + LIMIT
while True:
    status = process.poll()
    if status is not None: break
    assert time.time() < end, 'it does not end: %r' % read()
    if act != 'hangup':
        if select.select([master], [], [], .01)[0]:
            try: os.read(master, 4096)
            except OSError: pass
    else: time.sleep(.01)
print(status if status >= 0 else 128 - status)
";

/// Notes every signal in a file, and ends when it is told to by another.
const APP: &str = "
import os, signal, sys, time
note = open(sys.argv[1], 'a', buffering=1)
every = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_SETMASK, every)
note.write('foreground %s\\n' % (os.tcgetpgrp(0) == os.getpgrp()))
note.write('ready\\n')
while not os.path.exists(sys.argv[1] + '.end'):
    got = signal.sigtimedwait(every - {18}, .01)
    if got: note.write('got %d\\n' % got.si_signo)
time.sleep(.1)
while (got := signal.sigtimedwait(every - {18}, .05)): note.write('got %d\\n' % got.si_signo)
sys.exit(5)
";

fn on_a_terminal(mode: Mode, act: &str, app: &[&str]) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let note = path(&dir, "note");
    // As in a container: litevisor leads the session whose terminal it is.
    let run = command(mode, &["setsid", "--ctty"], &Settings::default());
    let mut driver = Command::new(python());
    with_default_signals(&mut driver);
    driver
        .args([
            "-S",
            "-c",
            &DRIVER.replace("LIMIT = 30", &format!("LIMIT = {}", limit().as_secs())),
            act,
            &note,
        ])
        .arg(run.get_program())
        .args(run.get_args());
    driver.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = driver.args(app).arg(&note).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{mode:?} {act}: {errors}\nnotes: {}", read(&note));
    (String::from_utf8(out.stdout).unwrap().trim().to_string(), read(&note))
}

fn arrives_once(act: &str, signal: i32) {
    for mode in modes() {
        let (status, notes) = on_a_terminal(mode, act, &[python(), "-S", "-c", APP]);
        assert_eq!(notes, format!("foreground True\nready\ngot {signal}\n"), "{mode:?} {act}");
        assert_eq!(status, "5", "{mode:?} {act}");
    }
}

#[test]
fn ctrl_c_once() {
    arrives_once("ctrl-c", INT);
}

#[test]
fn ctrl_z_once() {
    arrives_once("ctrl-z", TSTP);
}

#[test]
fn winch() {
    arrives_once("winch", 28);
}

#[test]
fn hangup() {
    arrives_once("hangup", HUP);
}

#[test]
fn no_spurious_hup() {
    for mode in modes() {
        let (status, notes) = on_a_terminal(mode, "nothing", &[python(), "-S", "-c", APP]);
        assert!(!notes.contains("got"), "{mode:?}: {notes}");
        assert_eq!(status, "5", "{mode:?}");
    }
}

#[test]
fn ctrl_c_ends_default_child() {
    let app = ["sh", "-c", "echo ready > $1; exec sleep 1000", "sh"];
    for mode in modes() {
        let (status, _) = on_a_terminal(mode, "only-ctrl-c", &app);
        assert_eq!(status, "130", "{mode:?}");
    }
}

/// It may read what is typed, without being stopped for it.
#[test]
fn foreground() {
    let app = ["sh", "-c", "echo ready > $1; read word; echo $word >> $1; exit 5", "sh"];
    for mode in modes() {
        let (status, notes) = on_a_terminal(mode, "read", &app);
        assert_eq!((status.as_str(), notes.as_str()), ("5", "ready\ntyped\n"), "{mode:?}");
    }
}

/// An interactive shell as the app: its own jobs are stopped with Ctrl-Z and fetched back.
#[test]
fn job_control() {
    let script = "echo ready >> $1; cat; echo stopped >> $1; fg %1; echo back >> $1";
    let script = format!("set -m; {script}");
    let app = ["bash", "-c", &script, "bash"];
    for mode in modes() {
        let (status, notes) = on_a_terminal(mode, "job", &app);
        assert_eq!(notes, "ready\nstopped\nback\n", "{mode:?}");
        assert_eq!(status, "0", "{mode:?}");
    }
}

/// Started in the background of an interactive session: the foreground stays whose it is.
#[test]
fn not_taken_from_the_background() {
    let script = "import os, pty, sys
pid, master = pty.fork()
if pid == 0:
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.execvp(sys.argv[1], sys.argv[1:])
    os.waitpid(job, 0)
    os._exit(0 if os.tcgetpgrp(0) == os.getpgrp() else 1)
while True:
    try:
        if not os.read(master, 4096): break
    except OSError: break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let dir = tempfile::tempdir().unwrap();
    let app = "import os, sys
open(sys.argv[1], 'w').write(str(os.tcgetpgrp(0) == os.getpgrp()))";
    // Not in a namespace of its own: groups outside all look the same from there, and the foreground is the
    // usual case.
    for mode in modes().into_iter().filter(|mode| *mode == Mode::Plain) {
        let note = path(&dir, &format!("{mode:?}"));
        let run = command(mode, &[], &Settings::default());
        let mut driver = Command::new(python());
        with_default_signals(&mut driver);
        driver.args(["-S", "-c", script]).arg(run.get_program()).args(run.get_args());
        let status = driver.args([python(), "-S", "-c", app, &note]).status().unwrap();
        assert!(status.success(), "the foreground was taken");
        assert_eq!(read(&note), "False");
    }
}
