//! The gate when something is short or late: a store that fails for a while, a database that appears, no open
//! files.

use super::{Gated, held};
use crate::support::asking::status;
use crate::support::gate::Mood;
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use nix::libc;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A held answer leaves soon after the store is back, however long it was away.
#[test]
fn while_an_answer_waits_the_store_is_tried_every_second() {
    let (gated, road) = Gated::on_a_road("gate-retries", "");
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Failing);
    road.take_asked();
    client.send("put b");
    held(&gated, 5);
    // Without an answer that waits, the seventh pause and those after it take 2.5 to 5 s.
    let mut tries: Vec<Instant> = Vec::new();
    wait_until("ten tries", SOON, || {
        tries.extend(
            road.take_asked().iter().filter(|asked| asked.line.starts_with("PUT")).map(|asked| asked.at),
        );
        tries.len() >= 10
    });
    let longest = tries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < Duration::from_millis(2400), "{longest:?}");
    road.set(Mood::Open);
    assert_eq!(client.answer().as_deref(), Some("ok b"));
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn a_database_that_appears_holds_answers_until_it_is_replicated() {
    let (mut gated, road) = Gated::on_a_road("gate-appears", "");
    let tenants = gated.site.disk().join("tenants");
    let replica = Replica::s3("gate-appears", "tenants").at(&road.endpoint()).toml();
    gated.site.settings +=
        &format!("[[database]]\ndir = {tenants:?}\nwatch = true\n[database.replica]\n{replica}\n");
    std::fs::create_dir(&tenants).unwrap();
    let mut run = gated.run();
    let mut client = gated.client();
    assert_eq!(client.ask("put a").as_deref(), Some("ok a"));
    road.set(Mood::Silent);
    let new = tenants.join("new.db");
    client.send(&format!("make {}", new.display()));
    held(&gated, 5);
    let unprovable = wait_for("a reason", SOON, || {
        let found = status(&gated.site.config())["gates"][0]["unprovable"].clone();
        (!found.as_array().unwrap().is_empty()).then_some(found)
    });
    assert_eq!(unprovable[0]["database"], new.to_str().unwrap());
    assert!(client.is_waiting());
    road.set(Mood::Open);
    assert_eq!(client.answer().as_deref(), Some("made"));
    run.kill_everything();
    gated.site.wipe();
    let mut run = gated.run();
    drop(gated.client());
    let restored = rusqlite::Connection::open(&new).unwrap();
    restored.query_row("SELECT count(*) FROM made", [], |_| Ok(())).expect("the table that was acknowledged");
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

/// Changes the limit of open files of a process that runs.
fn limit_files(pid: i32, limit: u64) {
    let mut known = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structures live as long as the calls.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut known), 0);
        known.rlim_cur = limit;
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const known, std::ptr::null_mut()), 0);
    }
}

/// What a process has used of the processor, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_open_files_the_gate_serves_its_connections_and_waits() {
    const REFUSED: &str = "the gate cannot accept connections";
    let gated = Gated::new(Site::in_directory(), "");
    let mut run = gated.run();
    let mut first = gated.client();
    assert_eq!(first.ask("put a").as_deref(), Some("ok a"));
    let pid = run.pid().as_raw();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    limit_files(pid, open / 2);
    let mut waiting: Vec<_> = (0..3).map(|_| gated.client()).collect();
    waiting.iter_mut().for_each(|client| client.send("get a"));
    run.wait_for_complaint(REFUSED, SOON);
    let ticks = cpu_ticks(pid);
    let end = Instant::now() + Duration::from_secs(2);
    wait_until("two seconds", SOON, || Instant::now() >= end);
    let used = cpu_ticks(pid) - ticks;
    assert!(used < 50, "{used} hundredths of a second in two seconds");
    assert_eq!(first.ask("get a").as_deref(), Some("yes"));
    assert_eq!(run.log().iter().filter(|line| line.contains(REFUSED)).count(), 1, "{}", run.log_text());
    limit_files(pid, 1024);
    for mut client in waiting {
        assert_eq!(client.answer().as_deref(), Some("yes"));
    }
    assert!(TcpStream::connect(("127.0.0.1", gated.port)).is_ok());
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}
