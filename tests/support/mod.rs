//! What the black-box tests stand on: the shipped binary, the bank, all kinds of replica, Litestream as
//! judge. Nothing here sleeps for a fixed time; every wait is for an event, has a limit, and says what it
//! waited for.
#![allow(dead_code)]

pub mod age;
pub mod asking;
pub mod azurite;
pub mod bank;
pub mod child;
pub mod disk;
pub mod fake_gcs;
pub mod gate;
pub mod lies;
pub mod litestream;
pub mod litevisor;
pub mod moto;
pub mod net;
pub mod process;
pub mod replica;
pub mod s3rver;
pub mod seaweed;
pub mod server;
pub mod signals;
pub mod site;
pub mod sshd;
pub mod standin;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A limit for things that take milliseconds on a quiet machine. CI's is neither quiet nor fast.
pub const SOON: Duration = Duration::from_secs(20);

/// Polls until `ready` gives a value.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    wait_for(what, limit, || ready().then_some(()));
}

/// Two paths change their files, at once: a replica's directory and a file, so that the replica is away. One
/// after the other, a write that comes in between makes the directory anew.
pub fn exchange(one: &Path, other: &Path) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

/// Lives each case, at most `at_once` at the same time: for lives that mostly wait. A case that fails fails
/// the test.
pub fn side_by_side<T: Send>(at_once: usize, cases: impl IntoIterator<Item = T>, life: impl Fn(T) + Sync) {
    let cases = Mutex::new(cases.into_iter().collect::<Vec<_>>().into_iter());
    // The lock is free again before the case is lived.
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|threads| {
        for _ in 0..at_once {
            // The thread stays until no case is left: a child may be bound to the thread that started it.
            threads.spawn(|| {
                while let Some(case) = next() {
                    life(case)
                }
            });
        }
    });
}

pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of tests/setup.sh. Missing is a failure, never a skip.
pub fn peer(path: &str) -> PathBuf {
    let program = repository().join(".cache/peers").join(path);
    assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
    program
}
