//! kill -9 of everything under load, and the disk is gone: what a client was told is there when litevisor
//! comes back. `LITEVISOR_GATE_ROUNDS=1000` kills more often, `LITEVISOR_GATE_SEED` begins elsewhere.

use super::{Client, Gated};
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Clients that write until they are stopped or cut off.
struct Load {
    acknowledged: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(gated: &Gated, round: u64) -> Load {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let write = |mut client: Client| {
            let acknowledged = Arc::clone(&acknowledged);
            let stopped = Arc::clone(&stopped);
            std::thread::spawn(move || {
                while !stopped.load(SeqCst) {
                    let key = format!("{round}-{}", NEXT.fetch_add(1, SeqCst));
                    match client.ask(&format!("put {key}")) {
                        Some(answer) => {
                            assert_eq!(answer, format!("ok {key}"));
                            acknowledged.lock().unwrap().push(key);
                        }
                        None => return,
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(|_| write(gated.client())).collect();
        Load { acknowledged, stopped, clients }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn end(self) -> Vec<String> {
        self.stopped.store(true, SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// How many acknowledged writes are missing after this many rounds, and how many there were.
fn lost(gated: &Gated, rounds: u64) -> (usize, usize) {
    let mut seed = number("LITEVISOR_GATE_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut told: Vec<String> = Vec::new();
    for round in 0..rounds {
        let mut run = gated.run();
        let load = Load::begin(gated, round);
        wait_until("answers", SOON, || load.acknowledged() >= CLIENTS);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Any moment of the next 300 ms.
        let at = Instant::now() + Duration::from_micros(seed % 300_000);
        wait_until("the moment", SOON, || Instant::now() >= at);
        run.kill_everything();
        told.extend(load.end());
        gated.site.wipe();
    }
    // Each round continues what the one before has left: what it lost is still missing.
    let mut run = gated.run();
    let mut client = gated.client();
    let mut is_gone = |key: &&String| client.ask(&format!("get {key}")).expect("an answer") == "no";
    let missing = told.iter().filter(|key| is_gone(key)).count();
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    (missing, told.len())
}

#[test]
fn what_a_client_was_told_survives_everything() {
    let rounds = number("LITEVISOR_GATE_ROUNDS").unwrap_or(50);
    let (missing, told) = lost(&Gated::new(Site::in_s3("gate-loss"), ""), rounds);
    assert_eq!(missing, 0, "of {told} acknowledged writes in {rounds} rounds");
}

#[test]
fn without_the_gate_some_of_it_is_lost() {
    // The gate copies, and never waits: `pass` after the shortest time is as good as none.
    let mut gated = Gated::new(Site::in_s3("no-gate-loss"), "on_failure = \"pass\"\ntimeout = \"10ms\"");
    gated.site = gated.site.with_replica_settings("sync_interval = \"10s\"");
    let found = wait_for("a loss", Duration::from_secs(60), || {
        let (missing, told) = lost(&gated, 2);
        (missing > 0).then_some((missing, told))
    });
    assert!(found.0 < found.1);
}
