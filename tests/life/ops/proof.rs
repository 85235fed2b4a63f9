//! Scheduled proofs: evidence of a sound replica, a damaged one that becomes red and then green again, and
//! what a stop, a kill and a restart in the middle leave.

use crate::support::asking::{ask, free_port, http, wait_for_status};
use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{now_ms, side_by_side, wait_for, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A proof, on a slow machine.
const LATE: Duration = Duration::from_secs(60);

struct Place {
    site: Site,
    port: u16,
}

impl Place {
    fn new(verify: &str) -> Place {
        let port = free_port();
        let mut site = Site::in_directory();
        let socket = site.path("l.sock");
        site.settings =
            format!("[verify]\n{verify}\n[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{port}\"\n");
        Place { site, port }
    }

    fn bucket(&self, below: &str) -> PathBuf {
        self.site.path("bucket").join(below)
    }

    /// An app that writes some, and then nothing.
    fn run(&self) -> Litevisor {
        let app = format!("{}; sleep 600", self.site.bank_line(&["--rate", "max", "--count", "50"]));
        self.site.run(&["sh", "-c", &app])
    }

    fn metric(&self, name: &str) -> Option<String> {
        let (_, text) = http(self.port, "GET", "/metrics");
        let start = format!("{name}{{");
        let line = text.lines().find(|line| line.starts_with(&start))?;
        Some(line.rsplit_once(' ')?.1.to_owned())
    }

    /// The records, the newest first.
    fn history(&self) -> Vec<Value> {
        let said = ask(&self.site.config(), &["verify", "--history", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let value: Value = serde_json::from_str(&said.out).unwrap();
        value[0]["proofs"].as_array().unwrap().clone()
    }

    fn ready(&self) -> String {
        let (code, body) = http(self.port, "GET", "/readyz");
        assert_eq!(code, 200, "a bad backup takes no app from its users: {body}");
        body
    }

    fn wait_for_proof(&self, what: &str) -> Value {
        wait_for_status(what, &self.site.config(), |value| {
            value["databases"][0]["proof"]["last"]["sound"] == true
        })
    }

    /// Scratch directories of this process.
    fn scratch(&self, pid: i32) -> Option<PathBuf> {
        let place = std::env::var_os("TMPDIR").map_or(self.site.disk(), PathBuf::from);
        let entries = std::fs::read_dir(place).ok()?;
        let ours = format!(".litevisor-verify-{pid}-");
        entries.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().contains(&ours))
    }
}

/// Changes a byte in the middle.
fn damage(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

fn only_file(directory: &std::path::Path) -> PathBuf {
    std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_damaged_replica_is_red_until_it_is_renewed() {
    side_by_side(2, ["full", "quick"], |mode| {
        let place = Place::new(&format!("interval = \"3s\"\nmode = \"{mode}\""));
        let mut run = place.run();
        place.site.wait_for_acks(49);
        let value = place.wait_for_proof("the first proof");
        let last = &value["databases"][0]["proof"]["last"];
        assert!(last["mode"] == mode && last["bytes"].as_u64() > Some(1000), "{value:#}");
        assert_eq!(
            (place.metric("litevisor_last_proof_success").as_deref(), place.ready().as_str()),
            (Some("1"), "ready\n")
        );
        let table = ask(&place.site.config(), &["status"]).out;
        assert!(table.contains("replica proven ") && table.contains(mode), "{table}");
        let told = ask(&place.site.config(), &["verify", "--history"]).out;
        assert!(told.contains("sound ") && told.contains("TIME"), "{told}");

        // The snapshot that every restore begins with. Nothing is written: the replica's newest position
        // stays.
        let snapshot = only_file(&place.bucket("ltx/9"));
        damage(&snapshot);
        wait_until("a red answer", LATE, || place.ready().starts_with("ready, but NOT PROVEN\n"));
        run.wait_for_log("the failed proof", LATE, |line| {
            line.contains("NOT PROVEN") && line.contains("ltx/9/")
        });
        run.wait_for_log("a new snapshot", LATE, |line| line.contains("a new snapshot is in the replica"));
        wait_until("green again", LATE, || place.ready() == "ready\n");
        let records = place.history();
        let failed = records.iter().position(|record| record["sound"] == false).unwrap();
        let name = snapshot.file_name().unwrap().to_str().unwrap();
        assert!(records[failed]["problem"].as_str().unwrap().contains(name), "{records:#?}");
        assert_eq!(
            records[failed]["proven"],
            records[failed + 1]["proven"],
            "what was proven before: {records:#?}"
        );
        assert!(
            records[0]["sound"] == true && records[0]["txid"].as_str() > records[failed]["txid"].as_str()
        );
        assert_eq!(place.metric("litevisor_last_proof_success").as_deref(), Some("1"));
        place.site.assert_replica_holds_everything(&format!("after the renewal:\n{}", run.log_text()));
        let ended = run.stop();
        assert_eq!(ended.code, 143, "{}", run.log_text());
    });
}

/// Of all records the newest 30 stay.
#[test]
fn old_records_are_deleted() {
    let place = Place::new("interval = \"1s\"");
    std::fs::create_dir(place.bucket("proof")).unwrap();
    for second in 0..40 {
        std::fs::write(place.bucket(&format!("proof/20200101T0000{second:02}.000Z.json")), "{}").unwrap();
    }
    let mut run = place.run();
    let names = || {
        std::fs::read_dir(place.bucket("proof"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect::<Vec<_>>()
    };
    wait_until("the old ones to go", LATE, || names().len() == 30);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let oldest = names().into_iter().min().unwrap();
    assert!(oldest.to_str().unwrap() > "20200101T000010", "the oldest go first: {oldest:?}");
}

/// 4 MiB that do not compress: at 64 KiB a second a proof takes a minute.
const LARGE: &str = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1])\nc.execute('pragma journal_mode=wal')\n\
                     c.execute('create table if not exists t(x)')\nc.execute('insert into t values (randomblob(4194304))')\n\
                     c.commit()\nc.close()\ntime.sleep(600)";

#[test]
fn a_stop_and_a_kill_in_the_middle_leave_nothing() {
    let place = Place::new("interval = \"1s\"\nbandwidth = \"64KiB\"");
    let db = place.site.db();
    let app = ["python3", "-c", LARGE, db.to_str().unwrap()];
    let mut run = place.site.run(&app);
    let pid = run.pid().as_raw();
    wait_for("a proof that runs", LATE, || place.scratch(pid));
    let ended = run.stop();
    assert_eq!(ended.code, 143, "{}", run.log_text());
    assert!(run.log_text().contains("\"flushed\":true"), "{}", run.log_text());
    assert_eq!(place.scratch(pid), None, "{}", run.log_text());
    assert!(!place.bucket("proof").exists(), "an abandoned proof is no result");

    let mut run = place.site.run(&app);
    let pid = run.pid().as_raw();
    let scratch = wait_for("a proof that runs", LATE, || place.scratch(pid));
    run.kill_everything();
    assert!(scratch.exists());
    let mut run = place.site.run(&app);
    wait_until("the scratch file of the killed run goes", LATE, || !scratch.exists());
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

#[test]
fn a_young_record_counts_after_a_restart() {
    let mut place = Place::new("interval = \"1s\"");
    let mut run = place.run();
    place.site.wait_for_acks(49);
    place.wait_for_proof("a proof");
    assert_eq!(run.stop().code, 143);
    place.site.settings = place.site.settings.replace("\"1s\"", "\"4s\"");
    let mut record = place.history().remove(0);
    let mut run = place.run();
    // The newest by its name.
    let newest = place.bucket("proof/29991231T235959.999Z.json");
    let shown = wait_for("the record counts", LATE, || {
        // As if the run before had only just ended, however slow this machine is.
        let now = jiff::Timestamp::from_millisecond(i64::try_from(now_ms()).unwrap()).unwrap();
        record["time"] = Value::from(format!("{now:.3}"));
        let written = place.site.path("record.json");
        std::fs::write(&written, serde_json::to_vec(&record).unwrap()).unwrap();
        std::fs::rename(&written, &newest).unwrap();
        run.log().into_iter().find(|line| line.contains("the next proof waits"))
    });
    assert!(shown.contains("the replica was proven at"), "{shown}");
    assert!(place.metric("litevisor_last_verified_timestamp_seconds").is_some());
    assert_eq!(run.stop().code, 143);
}
