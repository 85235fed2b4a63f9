//! The fuzzer: the app's user attacks its own data directory in a tight loop while litevisor restores,
//! replicates, spills, stops and starts again. Whatever becomes of the app's own files, nothing outside is
//! touched.

use super::place::{APP, Place, sql_app, stop};
use crate::support::{exchange, wait_until};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough to meet each way a few times; `LITEVISOR_BOUNDARY_ROUNDS=10000` for longer.
const ROUNDS: u64 = 2000;
/// One life, from its start to its stop.
const LIFE: Duration = Duration::from_millis(1200);

/// Writes whenever it can, whatever happens to its files.
const APP_SCRIPT: &str = "import os, sqlite3, sys, time\n\
    while True:\n\
    \x20try:\n\
    \x20 c = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)\n\
    \x20 c.execute('pragma journal_mode=wal')\n\
    \x20 c.execute('create table if not exists t(x)')\n\
    \x20 for _ in range(200): c.execute('insert into t values (?)', (os.urandom(20000),))\n\
    \x20except Exception: time.sleep(0.01)\n";

pub struct Attacker {
    child: Child,
}

impl Attacker {
    pub fn start(place: &Place, seed: u64, more: &[&str]) -> Attacker {
        let script = crate::support::repository().join("tests/hostile/boundary/attack.py");
        let text = std::fs::read_to_string(script).unwrap();
        let mut command = Command::new("python3");
        command
            .args(["-c", &text])
            .arg(place.path("data"))
            .arg(place.path("outside"))
            .arg(seed.to_string())
            .args(more);
        // As root it drops the groups, too.
        command.uid(APP).gid(APP).stdin(Stdio::piped()).stdout(Stdio::piped());
        Attacker { child: command.spawn().unwrap() }
    }

    pub fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let mut rounds = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rounds).unwrap();
        self.child.wait().unwrap();
        rounds.trim().parse().unwrap()
    }
}

#[test]
fn nothing_outside_is_touched() {
    attacked("sub/app.db", "", ROUNDS);
}

/// The database is found in a subdirectory, which the app's user may exchange at any time.
#[test]
fn nothing_outside_is_touched_from_a_subdirectory() {
    attacked(".", "recursive = true\n", ROUNDS / 2);
}

fn attacked(name: &'static str, keys: &str, rounds: u64) {
    let Some(mut place) = Place::new() else { return };
    place.name = name;
    place.settings = "[shutdown]\ngrace = \"3s\"\n[restore]\ntimeout = \"1s\"\n".into();
    place.database = format!("{keys}wal_limit = \"1MiB\"\ncheckpoint = {{ bytes = \"256KiB\" }}\n");
    place.make("sub");
    let db = place.data("sub/app.db");
    let (ended, log) = place.live(&[
        "python3",
        "-c",
        sql_app(),
        db.to_str().unwrap(),
        "create table t(x); insert into t values (1)",
    ]);
    assert_eq!(ended.code, 0, "{log}");
    let asked = std::env::var("LITEVISOR_BOUNDARY_ROUNDS").ok().map_or(rounds, |text| text.parse().unwrap());
    let (before, bucket, away) = (place.look_outside(), place.path("bucket"), place.path("away"));
    let (mut rounds, mut lives, mut ended_with) = (0, 0, std::collections::BTreeMap::new());
    while rounds < asked {
        lives += 1;
        if lives % 7 == 0 {
            place.wipe();
            place.make("sub");
        }
        let attacker = Attacker::start(&place, lives, &[]);
        let begun = Instant::now();
        let mut run = place.run(&["python3", "-c", APP_SCRIPT, db.to_str().unwrap()]);
        // The store goes for a while: what is captured is spilled.
        let spilling = lives % 2 == 0;
        if spilling {
            wait_until("a part of its life", LIFE, || begun.elapsed() > LIFE / 4 || !run.is_running());
            std::fs::write(&away, "").unwrap();
            exchange(&bucket, &away);
        }
        wait_until("the end of its life", LIFE * 4, || begun.elapsed() > LIFE || !run.is_running());
        if spilling {
            exchange(&bucket, &away);
            std::fs::remove_file(&away).unwrap();
        }
        let ended = if run.is_running() { stop(&mut run) } else { run.wait(Duration::ZERO) };
        rounds += attacker.end();
        *ended_with.entry(ended.code).or_insert(0) += 1;
        let log = run.log_text();
        assert!(place.look_outside() == before, "life {lives}: something outside has changed\n{log}");
        assert!(![70, 101, 134, 139].contains(&ended.code), "life {lives}: {}\n{log}", ended.code);
        if lives % 5 == 0 {
            place.assert_nothing_leaked();
        }
        // A replica that the attack has made useless stops every later start.
        if ended.code == 65 {
            std::fs::remove_dir_all(&bucket).unwrap();
            std::fs::create_dir(&bucket).unwrap();
        }
    }
    place.assert_nothing_leaked();
    println!("{rounds} rounds in {lives} lives, ended with {ended_with:?}");
}
