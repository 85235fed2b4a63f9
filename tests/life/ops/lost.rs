//! A replica that loses its snapshot, or everything, while the app writes: a lifecycle rule, an operator who
//! emptied the wrong bucket. It is found out at a `sync` and before the end, said loudly, and mended; or the
//! status is not the app's.

use crate::support::asking::{Said, ask, status};
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, litevisor};
use std::time::Duration;

fn sites(name: &str) -> [Site; 2] {
    [Site::in_directory(), Site::in_s3(name)].map(|mut site| {
        let socket = site.path("litevisor.sock");
        site.settings = format!("[status]\nsocket = {socket:?}\n");
        site
    })
}

/// The test writes itself: it knows when a commit has returned.
fn commit(site: &Site) {
    let db = rusqlite::Connection::open(site.db()).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (n, blob)").unwrap();
    for n in 0..5 {
        db.execute("INSERT INTO t VALUES (?1, randomblob(2000))", [n]).unwrap();
    }
}

fn sync(site: &Site, limit: &str) -> Said {
    ask(&site.config(), &["sync", "--timeout", limit])
}

/// Deletes behind litevisor's back; all levels, or one of them.
fn delete(replica: &Replica, level: Option<u32>) {
    for (key, _) in replica.objects() {
        let of = crate::support::replica::parse(&key).map(|file| file.0);
        if level.is_none() || of == level {
            replica.remove(&key);
        }
    }
}

/// As both tools see it.
fn assert_restores_to_what_is_there(site: &Site, when: &str, log: &str) {
    for tool in ["litevisor", "litestream"] {
        let out = site.path("restored.db");
        let _ = std::fs::remove_file(&out);
        if tool == "litevisor" {
            let done = litevisor::restore(&site.config(), &site.db(), &out);
            assert!(done.status.success(), "{when}: {}\n{log}", String::from_utf8_lossy(&done.stderr));
        } else {
            litestream::restore(&site.replica, &out).unwrap_or_else(|wrong| panic!("{when}: {wrong}\n{log}"));
        }
        assert_eq!(bank::dump(&out), bank::dump(&site.db()), "{when}, {tool}\n{log}");
    }
    assert!(site.replica.ltx_files().keys().any(|file| file.0 == 0), "{when}: no raw file\n{log}");
}

fn assert_it_was_said(log: &str) {
    let said = log.lines().any(|line| {
        line.contains("\"level\":\"error\"") && (line.contains("is gone") || line.contains("is empty"))
    });
    assert!(said, "{log}");
}

#[test]
fn a_sync_is_complete_once_the_replica_can_be_restored_again() {
    for (round, level) in [Some(9), None].into_iter().enumerate() {
        for site in sites(&format!("lost-sync-{round}")) {
            let mut run = site.run(&["sleep", "600"]);
            run.wait_for_app();
            commit(&site);
            assert_eq!(sync(&site, "20s").code, 0, "{}", run.log_text());
            delete(&site.replica, level);
            commit(&site);
            let said = sync(&site, "20s");
            assert_eq!(said.code, 0, "{said:?}\n{}", run.log_text());
            assert_restores_to_what_is_there(&site, "after the sync", &run.log_text());
            assert_it_was_said(&run.log_text());
            let value = status(&site.config());
            assert_eq!(value["databases"][0]["state"], "replicating", "{value:#}");
            assert_eq!(run.stop().code, 143, "{}", run.log_text());
        }
    }
}

#[test]
fn what_is_lost_before_the_stop_is_found_out_in_it() {
    for (round, level) in [Some(9), None].into_iter().enumerate() {
        for (with_write, site) in [false, true].into_iter().zip(sites(&format!("lost-stop-{round}"))) {
            let mut run = site.run(&["sleep", "600"]);
            run.wait_for_app();
            commit(&site);
            assert_eq!(sync(&site, "20s").code, 0, "{}", run.log_text());
            delete(&site.replica, level);
            if with_write {
                commit(&site);
            }
            assert_eq!(run.stop().code, 143, "{}", run.log_text());
            assert_restores_to_what_is_there(&site, "after the stop", &run.log_text());
            assert_it_was_said(&run.log_text());
        }
    }
}

/// The name of the new snapshot is taken by something that is no file: none can be uploaded.
#[test]
fn without_a_new_snapshot_neither_sync_nor_stop_is_complete() {
    let [mut site, _] = sites("lost-for-good");
    site.settings.push_str("[shutdown]\ngrace = \"6s\"\n");
    let Replica::Directory(root) = site.replica.clone() else { panic!("no directory") };
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_app();
    commit(&site);
    assert_eq!(sync(&site, "20s").code, 0, "{}", run.log_text());
    delete(&site.replica, Some(9));
    let newest = site.replica.newest_txid();
    for txid in newest..newest + 20 {
        std::fs::create_dir_all(root.join(format!("ltx/9/{:016x}-{txid:016x}.ltx", 1))).unwrap();
    }
    commit(&site);
    let said = sync(&site, "2s");
    assert!(said.code == 74 && said.err.contains("NOT in the replica"), "{said:?}\n{}", run.log_text());
    let value = status(&site.config());
    assert_ne!(value["databases"][0]["problem"], serde_json::Value::Null, "{value:#}");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(run.wait(SOON + Duration::from_secs(6)).code, 74, "{}", run.log_text());
}

/// The newest snapshot again, under a name and a header of another last TXID.
fn forge_last_txid(root: &std::path::Path, last: u64) {
    use ::litevisor::testing::ltx::{Decoder, Encoder, Event};
    let newest =
        std::fs::read_dir(root.join("ltx/9")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(newest).unwrap();
    let (mut decoder, mut rest, mut out, mut encoder) = (Decoder::default(), &bytes[..], Vec::new(), None);
    while let Some(event) = decoder.next(&mut rest).unwrap() {
        match event {
            Event::Header(header) => {
                let mut header = header.clone();
                header.range.max = ::litevisor::testing::model::Txid(last);
                encoder = Some(Encoder::start(&header, &mut out).unwrap());
            }
            Event::Page(page, data) => encoder.as_mut().unwrap().page(page, data, &mut out).unwrap(),
            Event::End(_) => {}
        }
    }
    encoder.unwrap().finish(&mut out).unwrap();
    std::fs::write(root.join(format!("ltx/9/{:016x}-{last:016x}.ltx", 1)), out).unwrap();
}

/// There is no number for what would follow: said before the app starts, not when its first commit is lost.
#[test]
fn a_replica_without_numbers_left_is_refused_before_the_app_starts() {
    let [site, _] = sites("lost-numbers");
    let Replica::Directory(root) = site.replica.clone() else { panic!("no directory") };
    // Written before litevisor starts: the first snapshot holds all of it.
    let bank = site.bank_words(&["--rate", "max", "--count", "5"]);
    assert!(std::process::Command::new(&bank[0]).args(&bank[1..]).status().unwrap().success());
    assert_eq!(site.run(&["true"]).wait(SOON).code, 0);
    for last in [u64::MAX - 1, u64::MAX] {
        forge_last_txid(&root, last);
        for wiped in [false, true] {
            if wiped {
                site.wipe();
            }
            let before = site.replica.objects();
            let mut run = site.run(&["sleep", "600"]);
            let ended = run.wait(SOON);
            let log = run.log_text();
            assert!(
                ended.code == 65 && log.contains("leaves no TXID") && log.contains("another path"),
                "{log}"
            );
            assert_eq!(site.replica.objects(), before, "nothing was written: {log}");
        }
        // What is there can be had.
        let out = site.path("out.db");
        let done = litevisor::restore(&site.config(), &site.db(), &out);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        bank::check(&out, &site.ack(), None).unwrap();
        std::fs::remove_file(out).unwrap();
        let listed = ask(&site.config(), &["list"]);
        assert!(listed.out.contains(&format!("{last:x}")), "{listed:?}");
    }
}
