//! The watchdog is fed while litevisor, its engine and an app that takes part are alive.

use super::*;
use nix::libc;
use nix::sys::signal::{Signal, kill};

/// Of the manager. The machine of the tests is slow.
const WATCHDOG: Duration = Duration::from_secs(3);

/// No message for as long as systemd would wait.
fn wait_for_silence(manager: &Manager) {
    wait_until("silence", SOON, || manager.last_fed().is_none_or(|fed| fed.elapsed() > WATCHDOG));
}

fn is_fed(manager: &Manager) {
    let before = manager.values("WATCHDOG").len();
    wait_until("a fed watchdog", SOON, || manager.values("WATCHDOG").len() > before + 1);
}

/// systemd sends SIGABRT then: the hung app ends, and its last commits are uploaded.
#[test]
fn an_app_that_hangs() {
    let mut place = Talker::new("restart = \"always\"");
    let manager = Manager::at_path(&place.0);
    place.0.env = manager.env(Some(WATCHDOG));
    let mut run = place.run();
    place.env();
    place.say("READY=1");
    manager.wait_for("READY=1");
    is_fed(&manager);
    std::fs::write(place.home("beat"), "").unwrap();
    is_fed(&manager);
    assert!(!run.log_text().contains("is not fed"), "{}", run.log_text());
    kill(run.app(), Signal::SIGSTOP).unwrap();
    wait_for_silence(&manager);
    run.wait_for_log("the reason", SOON, |line| line.contains("the app has sent no WATCHDOG=1 for 3s"));
    kill(run.app(), Signal::SIGCONT).unwrap();
    is_fed(&manager);
    std::fs::remove_file(place.home("beat")).unwrap();
    wait_for_silence(&manager);
    run.signal(Signal::SIGABRT);
    assert_eq!(run.wait(SOON).code, 134, "not started again: {}", run.log_text());
    manager.wait_for("STOPPING=1");
}

/// Not the main thread alone: replication must be alive.
#[test]
fn an_engine_that_hangs() {
    let mut site = Site::in_directory();
    let manager = Manager::at_path(&site);
    site.env = manager.env(Some(WATCHDOG));
    let mut run = site.run(&["sleep", "60"]);
    manager.wait_for("READY=1");
    is_fed(&manager);
    let frozen = Frozen::new(thread(run.pid().as_raw(), "engine"));
    wait_for_silence(&manager);
    run.wait_for_log("the reason", SOON, |line| line.contains("the engine thread hangs"));
    drop(frozen);
    is_fed(&manager);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

/// One thread of a child stands still until this is dropped.
struct Frozen(i32);

impl Frozen {
    fn new(thread: i32) -> Frozen {
        // SAFETY: system calls on numbers; the thread belongs to a child of this process.
        unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0);
            assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
            let frozen = Frozen(thread);
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0), 0);
            assert_eq!(libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL), thread);
            frozen
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

fn thread(pid: i32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found = tasks.map(|task| task.path()).find(named).unwrap();
    found.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Another process's watchdog is not litevisor's to feed.
#[test]
fn a_watchdog_of_another_process() {
    let mut site = Site::in_directory();
    let manager = Manager::at_path(&site);
    site.env = manager.env(Some(Duration::from_millis(200)));
    site.env.push(("WATCHDOG_PID".into(), "1".into()));
    let mut run = site.run(&["sleep", "60"]);
    manager.wait_for("READY=1");
    // SIGABRT is the app's then, as ever.
    run.wait_for_app();
    run.signal(Signal::SIGABRT);
    assert_eq!(run.wait(SOON).code, 134, "{}", run.log_text());
    assert_eq!(manager.values("WATCHDOG"), [""; 0]);
}
