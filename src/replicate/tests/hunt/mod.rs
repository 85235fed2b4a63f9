//! The model test. A seed decides everything: what the app commits and when it checkpoints, closes or dies;
//! when the replicator turns, flushes, restarts, dies at a named point or in a request; what the store
//! refuses, loses or does too late; power cuts, lost disks, a second writer. The app and the disk are real,
//! so are capture, upload, resume and restore; only the async loop around them is driven by hand, so that a
//! seed always lives the same life.
//!
//! After every step the replica is restored with the real code. It must hold a state that the database has
//! had, never an older one than before, and what is flushed must be in it.
//!
//! `LITEVISOR_HUNT_SEEDS=20000` hunts longer, `LITEVISOR_HUNT_FROM` elsewhere, `LITEVISOR_HUNT_SEED=7` lives
//! one life and tells it.

mod app;
mod bucket;
mod disk;
mod fate;
mod judge;
mod machine;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lives that are lived when nobody asks for more.
const SEEDS: u64 = 300;
const STEPS: u32 = 25;

fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

#[test]
fn every_life_keeps_what_was_committed() {
    let steps = asked("LITEVISOR_HUNT_STEPS").map_or(STEPS, |steps| steps as u32);
    if let Some(seed) = asked("LITEVISOR_HUNT_SEED") {
        let (log, failed) = live(seed, steps);
        eprintln!("{}", log.join("\n"));
        assert!(failed.is_none(), "seed {seed}: {}", failed.unwrap_or_default());
        return;
    }
    let from = asked("LITEVISOR_HUNT_FROM").unwrap_or(0);
    let until = from + asked("LITEVISOR_HUNT_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(from);
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    if let (log, Some(failed)) = live(seed, steps) {
                        failures.lock().unwrap().push((seed, failed, log));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    for (seed, failed, log) in &failures {
        eprintln!("{}", log.join("\n"));
        eprintln!(
            "seed {seed}: {failed}\nlive it again: LITEVISOR_HUNT_SEED={seed} LITEVISOR_HUNT_STEPS={steps} \
             cargo test --lib hunt\n"
        );
    }
    let seeds: Vec<_> = failures.iter().map(|failure| failure.0).collect();
    assert!(failures.is_empty(), "seeds {seeds:?} of {from}..{until} failed");
}

/// Memory, where there is such a directory: a life costs hundreds of syncs.
fn scratch() -> PathBuf {
    Some(Path::new("/dev/shm")).filter(|shm| shm.is_dir()).map_or_else(std::env::temp_dir, Path::to_owned)
}

/// The story of one life, and how it failed, if it did.
fn live(seed: u64, steps: u32) -> (Vec<String>, Option<String>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let dir = tempfile::Builder::new().prefix("litevisor-hunt-").tempdir_in(scratch()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let story = Rc::clone(&log);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = world::World::new(seed, dir.path(), &Rc::new(runtime), story);
        world.live(steps);
    }));
    let failed = lived.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map_or("panicked".into(), |text| (*text).to_owned()),
    });
    (std::mem::take(&mut log.borrow_mut()), failed)
}
