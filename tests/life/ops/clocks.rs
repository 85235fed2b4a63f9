//! A clock that is ahead: found out by the store's answers, or by the newest file of the replica; said,
//! bounded, healed.

use crate::support::asking::{Asked, ask, status};
use crate::support::gate::Mood;
use crate::support::litevisor::{As, Litevisor};
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, now_ms};
use ::litevisor::testing::ltx::{Decoder, Encoder, Event, Header};
use std::time::Duration;

const DAY: i64 = 86_400_000;

fn stamp(bytes: &[u8]) -> i64 {
    Header::from_start(bytes).unwrap().timestamp_ms
}

/// As HTTP writes it; at most 15 minutes from the truth, or the store refuses what the SDK signs with it.
fn http_date(minutes_ago: i64) -> &'static str {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes_ago);
    let text = jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S GMT", then).unwrap();
    assert_eq!(text.len(), 29);
    Box::leak(text.into_boxed_str())
}

/// The store's clock is ten minutes behind the machine's: so the machine's is ahead, and must not stamp the
/// files.
#[test]
fn files_are_stamped_with_the_time_of_the_store() {
    for (minutes, ahead) in [(10, true), (2, false)] {
        let asked = Asked::new(if ahead { "clock-ahead" } else { "clock-about-right" }, "");
        asked.gate.set(Mood::Dated(http_date(minutes)));
        let mut run = asked.site.run_bank(&["--rate", "100", "--count", "100"]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        let replica = &asked.site.replica;
        let newest = replica.objects().into_keys().filter(|key| key.starts_with("0000/")).max().unwrap();
        let age = now_ms() as i64 - stamp(&replica.read(&newest));
        assert_eq!(age > 9 * 60_000, ahead, "{age} ms\n{}", run.log_text());
        assert_eq!(run.log_text().contains("minutes ahead of the store's"), ahead, "{}", run.log_text());
        asked.site.assert_replica_holds_everything("with the store's time");
    }
}

/// Every file again, stamped a day later: as an earlier start with a wrong clock left them.
fn stamp_a_day_ahead(replica: &Replica) {
    let Replica::Directory(root) = replica else { panic!("no directory") };
    for key in replica.objects().into_keys() {
        let bytes = std::fs::read(root.join(&key)).unwrap();
        let (mut decoder, mut rest, mut out, mut encoder) =
            (Decoder::default(), &bytes[..], Vec::new(), None);
        while let Some(event) = decoder.next(&mut rest).unwrap() {
            match event {
                Event::Header(header) => {
                    let header = Header { timestamp_ms: header.timestamp_ms + DAY, ..header.clone() };
                    encoder = Some(Encoder::start(&header, &mut out).unwrap());
                }
                Event::Page(page, data) => encoder.as_mut().unwrap().page(page, data, &mut out).unwrap(),
                Event::End(_) => {}
            }
        }
        encoder.unwrap().finish(&mut out).unwrap();
        std::fs::write(root.join(key), out).unwrap();
    }
}

#[test]
fn a_newest_file_in_the_future_is_said_and_marked_and_order_is_kept() {
    let mut site = Site::in_directory();
    let socket = site.path("litevisor.sock");
    site.settings = format!("[status]\nsocket = {socket:?}\n");
    site.make_history(20);
    stamp_a_day_ahead(&site.replica);
    let before = site.replica.newest_txid();
    site.wipe();
    let line = format!("{}; exec sleep 600", site.bank_line(&["--rate", "100", "--count", "20"]));
    let mut run = site.run(&["sh", "-c", &line]);
    run.wait_for_log("word of the clock", SOON, |line| line.contains("newest file is stamped"));
    crate::support::wait_until("an upload", SOON, || site.replica.newest_txid() > before);
    let value = status(&site.config());
    assert!(value["databases"][0]["problem"].as_str().unwrap().contains("23 hours ahead"), "{value:#}");
    assert_eq!(value["databases"][0]["state"], "replicating", "{value:#}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    site.assert_replica_holds_everything("on top of files from the future");
    let raw = site.replica.objects().into_keys().filter(|key| key.starts_with("ltx/0/"));
    let stamps: Vec<i64> = raw.map(|key| stamp(&site.replica.read(&key))).collect();
    assert!(stamps.is_sorted_by(|earlier, later| earlier < later), "{stamps:?}");
    assert!(
        stamps.last().unwrap() - stamps[0] < 3_600_000,
        "no drift beside the one that was there: {stamps:?}"
    );
    let listed = ask(&site.config(), &["list"]);
    assert!(listed.code == 0 && listed.out.contains("in the future: a clock was ahead"), "{listed:?}");
    let out = site.path("then.db");
    let now = humantime(now_ms() + Duration::from_secs(1).as_millis() as u64);
    let db = site.db();
    let words = ["restore", db.to_str().unwrap(), "-o", out.to_str().unwrap(), "--timestamp", &now];
    let said = ask(&site.config(), &words);
    assert!(said.err.contains("clock was ahead") || said.err.contains("no backup that old"), "{said:?}");
}

/// Of the databases of a directory entry, the one whose files are from the future is named, and no other.
#[test]
fn one_database_of_a_directory_is_from_the_future() {
    let site = Site::in_directory();
    let bucket = site.path("bucket");
    let config = site.path("dir.toml");
    let text = format!(
        "[status]\nsocket = {:?}\n[[database]]\ndir = {:?}\n[database.replica]\nurl = {bucket:?}\n",
        site.path("litevisor.sock"),
        site.disk()
    );
    std::fs::write(&config, text).unwrap();
    let names = ["now.db", "then.db"];
    for name in names {
        let made = rusqlite::Connection::open(site.disk().join(name)).unwrap();
        made.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
    }
    let run = |words: &[&str]| {
        let words = [&["--config", config.to_str().unwrap(), "--"], words].concat();
        Litevisor::run(As::Process, &words.iter().map(Into::into).collect::<Vec<_>>())
    };
    let mut first = run(&["true"]);
    assert_eq!(first.wait(SOON).code, 0, "{}", first.log_text());
    stamp_a_day_ahead(&Replica::Directory(bucket.join("then.db")));
    let mut run = run(&["sleep", "600"]);
    run.wait_for_log("word of the clock", SOON, |line| line.contains("newest file is stamped"));
    let told = run.log_text();
    assert!(!told.lines().any(|line| line.contains("is stamped") && line.contains("now.db")), "{told}");
    let value = status(&config);
    let problem = |at: usize| value["databases"][at]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem(0).is_empty() && problem(1).contains("23 hours ahead"), "{value:#}");
    let listed = ask(&config, &["list"]);
    let (now, then) = listed.out.split_once("then.db in").unwrap();
    assert_eq!(
        [now, then].map(|part| part.contains("in the future: a clock was ahead")),
        [false, true],
        "{listed:?}"
    );
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

fn humantime(ms: u64) -> String {
    ::litevisor::testing::model::Moment(ms as i64).to_string()
}
