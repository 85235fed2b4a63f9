//! litevisor is killed while it is not PID 1: its guard ends the app, wherever that stands.

use crate::support::*;
use std::time::Duration;

/// Lines that a process appends as long as it lives: the file no longer grows once it is dead.
fn writer(note: &str) -> String {
    format!("while :; do echo x >> {note}; sleep .01; done")
}

fn stops_growing(what: &str, note: &str) {
    let mut last = None;
    let mut same = 0;
    until(what, || {
        std::thread::sleep(Duration::from_millis(20));
        let size = std::fs::metadata(note).map(|meta| meta.len()).ok();
        same = if size == last { same + 1 } else { 0 };
        last = size;
        same >= 20
    });
}

/// Neither does what stands behind a shell, a change of user, or in a session of its own: the kernel tells
/// the direct child alone of our death.
#[test]
fn init_killed_with_the_app_behind_a_wrapper() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for mode in modes() {
        for (name, before) in [
            ("shell", "sh -c '%'; true"),
            ("setpriv", "setpriv --reuid 12345 --regid 12345 --clear-groups sh -c '%'; true"),
            ("daemon", "setsid sh -c '%' & wait"),
            ("orphan", "(setsid sh -c '%' &); sleep 1000"),
        ] {
            if name == "setpriv" && !is_root() {
                continue;
            }
            let note = path(&dir, &format!("{mode:?}-{name}"));
            let run = sh(mode, &before.replace('%', &writer(&note)));
            until("it writes", || read(&note).len() > 10);
            run.signal(KILL);
            stops_growing(&format!("{mode:?}: the writer behind {name} ends"), &note);
            assert!(!anyone_mentions(&note), "{mode:?}: {name} is still there");
        }
    }
}

/// The process that watches over litevisor's life goes with it, and costs nothing.
#[test]
fn the_guard_is_small_and_ends_with_us() {
    let mut run = sh(Mode::Plain, "trap 'exit 3' TERM; echo ready; while :; do sleep .01; done");
    run.expect("ready");
    let guards = || {
        children_of(run.init).iter().map(|child| child.pid).filter(|pid| is_guard(*pid)).collect::<Vec<_>>()
    };
    until("the guard has set itself up", || guards().len() == 1);
    let guard = guards()[0];
    until("it holds its pipe alone", || std::fs::read_dir(format!("/proc/{guard}/fd")).unwrap().count() == 1);
    let kb =
        |name| status_field(guard, name).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert!(kb("RssAnon") < 2048, "{} kB", kb("RssAnon"));
    let line = read(format!("/proc/{guard}/cmdline"));
    assert_eq!(line.trim_end_matches('\0'), "litevisor-guard", "the app's words are not its own");
    run.signal(TERM);
    assert_eq!(run.status(), 3);
    until("the guard is gone", || stat(guard).is_none_or(|stat| stat.state == 'Z'));
}
