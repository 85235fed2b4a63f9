//! Processes that `/proc` does not show: mounted with hidepid=2 (systemd's ProtectProc), an ordinary user, an
//! undumpable process. `wait` still says that there are children.

use crate::support::*;

/// A daemon in a session of its own, undumpable, that ignores the stop signal and writes.
const DAEMON: &str = "
import ctypes, os, signal, sys, time
note = sys.argv[1]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        signal.signal(15, signal.SIG_IGN)
        while True:
            with open(note, 'a') as f: f.write('x')
            time.sleep(.01)
    os._exit(0)
while not os.path.exists(note): time.sleep(.01)
print('ready', flush=True)
sys.exit(3)
";

#[test]
fn who_is_hidden_is_ended_all_the_same() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let hide = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 12345 --regid 12345 --clear-groups \"$@\"";
    for mode in modes() {
        let note = path(&dir, &format!("{mode:?}"));
        let wrapper = ["unshare", "--mount", "sh", "-c", hide, "sh"];
        // As PID 1 the namespace is there already: only its mounts are made private.
        let wrapper = if mode == Mode::Pid1 { &wrapper[2..] } else { &wrapper[..] };
        let mut command = command(mode, wrapper, &Settings::default());
        command.args([shared_python(), "-S", "-c", DAEMON, &note]);
        let mut run = start_command(mode, command);
        run.expect("ready");
        let status = run.status();
        let size = std::fs::metadata(&note).unwrap().len();
        std::thread::sleep(std::time::Duration::from_millis(200)); // The subject is what happens afterwards.
        assert_eq!(std::fs::metadata(&note).unwrap().len(), size, "{mode:?}: it still writes");
        assert!(!anyone_mentions(&note), "{mode:?}: it is still there");
        assert_eq!(status, 3, "{mode:?}: {}", run.whole_log());
        assert!(run.started.elapsed().as_secs() >= 2, "{mode:?}: it had its time");
    }
}
