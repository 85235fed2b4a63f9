//! One database's life: a run under litevisor (or Litestream), an ending, what happens to the disk, and what
//! must hold.

use super::audit::Audit;
use super::disk::{self, Fate};
use super::random::Random;
use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::Litevisor;
use crate::support::process::Process;
use crate::support::replica::Replica;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, litevisor, now_ms, wait_until};
use nix::sys::signal::{Signal, kill};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// From a commit to the replica, beyond `sync_interval`: the machine is slow and shared.
const LATE_MS: u64 = 2000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stop,
    AppKilled,
    AllKilled,
    LitevisorKilled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    None,
    Truncate,
    Vacuum,
    Shrink,
    Bulk,
    Reader,
}

pub struct Life {
    site: Site,
    /// The replica without the gate.
    plain: Replica,
    gate: Option<Gate>,
    audit: Audit,
    story: Vec<String>,
    log: String,
    interval_ms: u64,
    /// The last run ended cleanly, and nothing but what is in the replica was written since.
    clean: bool,
    /// Transfers that the replica held at the last look.
    floor: i64,
}

impl Life {
    pub fn new(in_s3: bool, seed: u64) -> Life {
        let mut random = Random::new(!seed);
        let interval_ms = random.pick(&[20, 200, 1000]);
        let site = if in_s3 { Site::in_s3(&format!("stress-{seed}")) } else { Site::in_directory() };
        let mut site = site
            .with_replica_settings(&format!("sync_interval = \"{interval_ms}ms\""))
            .with_settings("[shutdown]\ngrace = \"30s\"\n");
        let plain = site.replica.clone();
        let gate = in_s3.then(|| Gate::before(&Seaweed::shared().endpoint(), Mood::Open));
        if let Some(gate) = &gate {
            site.replica = site.replica.at(&gate.endpoint());
        }
        let (story, log) = (vec![format!("sync_interval {interval_ms} ms")], String::new());
        std::fs::write(site.ack(), "").unwrap();
        Life { site, plain, gate, audit: Audit::default(), story, log, interval_ms, clean: true, floor: 0 }
    }

    pub fn story(&self) -> String {
        self.story.join("\n")
    }

    pub fn step(&mut self, step: usize, random: &mut Random) {
        self.story.push(format!("step {step}"));
        if random.once_in(4) {
            disk::remember(&self.site);
        }
        if self.clean && step > 0 && random.once_in(8) {
            self.litestream(random)
        } else {
            self.run(random)
        }
        let fate = disk::choose(random);
        self.say(format!("  disk: {fate:?}"));
        disk::suffer(&self.site, fate);
        if !fate.harmless() {
            // Only what the replica holds is promised from here on.
            self.forget_acks();
        }
        // No turn of Litestream after the WAL index was lost: the app then writes on behind what it had read,
        // and when a checkpoint of the app's restarts the WAL before it looks again, it misses those frames.
        // It is the judge here.
        self.clean &= matches!(fate, Fate::Kept | Fate::Wiped);
        self.clean |= fate == Fate::Wiped;
    }

    /// The app comes back once more and ends in peace.
    pub fn last_step(&mut self) {
        self.say("last step".into());
        let mut run = self.start(&["--count", "3"]);
        let ended = run.wait(SOON);
        self.log = run.log_text();
        assert_eq!(ended.code, 0, "{}", self.told());
        self.must_hold_everything();
        self.judge();
    }

    fn say(&mut self, line: String) {
        println!("{line}");
        self.story.push(line);
    }

    fn told(&self) -> String {
        format!("{}\n--- last log:\n{}", self.story(), self.log)
    }

    fn start(&self, options: &[&str]) -> Litevisor {
        self.site.run_bank(options)
    }

    fn run(&mut self, random: &mut Random) {
        let rate = random.pick(&["50", "300", "1500"]);
        let mut run = self.start(&["--rate", rate]);
        let before = self.site.acked();
        let ready = wait_until_or_ended(&mut run, || self.site.acked() > before);
        self.log = run.log_text();
        assert!(ready, "the app has not written:\n{}", self.told());
        let mischief = random.pick(&[
            Mischief::None,
            Mischief::None,
            Mischief::Truncate,
            Mischief::Vacuum,
            Mischief::Shrink,
            Mischief::Bulk,
            Mischief::Reader,
        ]);
        let ending = random.pick(&[
            Ending::Stop,
            Ending::Stop,
            Ending::AppKilled,
            Ending::AllKilled,
            Ending::LitevisorKilled,
        ]);
        let mood = random.pick(&[
            Mood::Open,
            Mood::Open,
            Mood::Refusing,
            Mood::Silent,
            Mood::Failing,
            Mood::Slow(Duration::from_millis(200)),
        ]);
        let mood = if self.gate.is_some() { mood } else { Mood::Open };
        let (first, second) = (random.between(50, 1500), random.between(1, 700));
        self.say(format!(
            "  run at {rate}/s, {first:?}, {mischief:?}, {mood:?} for {second:?}, then {ending:?}"
        ));
        std::thread::sleep(first);
        let trouble_at = now_ms();
        self.set(mood);
        make(&self.site.db(), mischief);
        std::thread::sleep(second);
        self.log = run.log_text();
        assert!(run.is_running(), "the app ended by itself\n{}", self.told());
        let steady = mood == Mood::Open && mischief == Mischief::None;
        self.end(&mut run, ending, if steady { now_ms() } else { trouble_at });
        self.judge();
    }

    fn set(&self, mood: Mood) {
        if let Some(gate) = &self.gate {
            gate.set(mood);
        }
    }

    fn end(&mut self, run: &mut Litevisor, ending: Ending, steady_until: u64) {
        match ending {
            Ending::Stop | Ending::AppKilled => {
                self.set(Mood::Open);
                let expected = if ending == Ending::Stop {
                    run.signal(Signal::SIGTERM);
                    0
                } else {
                    kill(run.bank(), Signal::SIGKILL).unwrap();
                    137
                };
                let ended = run.wait(Duration::from_secs(40));
                self.log = run.log_text();
                assert_eq!(ended.code, expected, "{}", self.told());
                self.clean = true;
                self.must_hold_everything();
            }
            Ending::AllKilled | Ending::LitevisorKilled => {
                if ending == Ending::AllKilled {
                    run.kill_everything();
                } else {
                    kill(run.pid(), Signal::SIGKILL).unwrap();
                    run.wait(SOON);
                }
                self.set(Mood::Open);
                self.log = run.log_text();
                let owed = std::mem::replace(&mut self.clean, false);
                let covered = steady_until - LATE_MS - self.interval_ms;
                self.audit_replica();
                // What an earlier killed run left on the disk is owed only when a run ends in peace.
                if owed && self.audit.end() > 0 {
                    let verdict = self.judge_plain(Some(covered));
                    verdict.unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.told()));
                }
            }
        }
    }

    /// Litestream replicates for a while, beside the app.
    fn litestream(&mut self, random: &mut Random) {
        let span = random.between(300, 2500);
        self.say(format!("  Litestream for {span:?}"));
        if !self.site.db().exists() {
            litestream::restore(&self.plain, &self.site.db())
                .unwrap_or_else(|wrong| panic!("{wrong}{}", self.told()));
        }
        let words = self.site.bank_words(&["--rate", "100"]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut app = Process::start(command);
        let before = self.site.acked();
        wait_until("the app beside Litestream", SOON, || self.site.acked() > before);
        let peer = litestream::Replicate::start(&self.plain, &self.site.db());
        let floor = self.audit.end();
        wait_until("Litestream's first file", SOON, || self.plain.newest_txid() > floor);
        std::thread::sleep(span);
        kill(app.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
        peer.stop();
        self.must_hold_everything();
        self.judge();
    }

    fn judge_plain(&self, before: Option<u64>) -> Result<String, String> {
        let out = self.site.path("judged.db");
        litestream::restore(&self.plain, &out)?;
        bank::check(&out, &self.site.ack(), before)
    }

    fn must_hold_everything(&self) {
        let verdict = self.judge_plain(None);
        verdict.unwrap_or_else(|wrong| panic!("not everything is in the replica: {wrong}\n{}", self.told()));
    }

    fn audit_replica(&mut self) {
        // What fails in there is told with the story that led to it.
        let told = self.told();
        let (audit, plain) = (&mut self.audit, &self.plain);
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| audit.look(plain)));
        assert!(looked.is_ok(), "the history is broken (see above)\n{told}");
    }

    /// History, both tools, and nothing that the replica held is missing from its newest state.
    fn judge(&mut self) {
        self.audit_replica();
        if self.audit.end() == 0 {
            return;
        }
        let (theirs, ours) = (self.site.path("theirs.db"), self.site.path("ours.db"));
        litestream::restore(&self.plain, &theirs).unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.told()));
        let _ = std::fs::remove_file(&ours);
        let done = litevisor::restore(&self.site.config(), &self.site.db(), &ours);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "litevisor restore: {said}\n{}", self.told());
        assert!(bank::dump(&theirs) == bank::dump(&ours), "the tools disagree\n{}", self.told());
        let last = last_number(&theirs);
        self.say(format!(
            "  replica at {:x}, {last} transfers; {} acked",
            self.audit.end(),
            self.site.acked()
        ));
        assert!(last >= self.floor, "the replica had {} transfers, now {last}\n{}", self.floor, self.told());
        self.floor = last;
    }

    /// Acknowledged but not in the replica, and the disk that had them is gone.
    fn forget_acks(&self) {
        let text = std::fs::read_to_string(self.site.ack()).unwrap();
        let held =
            |line: &&str| line.split(' ').next().is_some_and(|n| n.parse::<i64>().unwrap() <= self.floor);
        let kept: Vec<&str> = text.lines().filter(held).collect();
        std::fs::write(self.site.ack(), kept.iter().map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }
}

fn last_number(db: &Path) -> i64 {
    let query = "SELECT coalesce(max(number), 0) FROM ledger";
    bank::read_only(db).query_row(query, [], |row| row.get(0)).unwrap_or(0)
}

/// False when the run ended, or took too long.
fn wait_until_or_ended(run: &mut Litevisor, ready: impl Fn() -> bool) -> bool {
    let end = Instant::now() + SOON;
    while !ready() {
        if !run.is_running() || Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Done by another process than the app and litevisor: this one.
fn make(db: &Path, mischief: Mischief) {
    let sql = match mischief {
        Mischief::None => return,
        Mischief::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        Mischief::Vacuum => "VACUUM",
        Mischief::Shrink => {
            "CREATE TABLE IF NOT EXISTS junk(x); INSERT INTO junk SELECT randomblob(3000) FROM generate_series_40; DELETE FROM junk; VACUUM"
        }
        Mischief::Bulk => {
            "CREATE TABLE IF NOT EXISTS junk(x); INSERT INTO junk SELECT randomblob(3000) FROM big"
        }
        Mischief::Reader => "BEGIN; SELECT count(*) FROM ledger",
    };
    let db = rusqlite::Connection::open(db).unwrap();
    // A blocking checkpoint keeps writers out for as long as it waits for readers: less than the app's own
    // patience.
    db.busy_timeout(Duration::from_millis(1500)).unwrap();
    let rows = |n: u32| {
        format!(
            "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {n}) SELECT x FROM c)"
        )
    };
    let sql = sql.replace("generate_series_40", &rows(40)).replace("big", &rows(1000));
    let times = if mischief == Mischief::Bulk { 4 } else { 1 };
    for _ in 0..times {
        // Busy is an answer too.
        for statement in sql.split(';') {
            let done = db.prepare(statement).and_then(|mut prepared| {
                let mut rows = prepared.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            if let Err(error) = done {
                println!("  {mischief:?}: {error}");
            }
        }
    }
    if mischief == Mischief::Reader {
        std::thread::sleep(Duration::from_millis(300));
    }
}
