//! Retention in tiers: of a replica whose snapshots are days old, the newest of each day stays, and
//! Litestream restores each of them.

use crate::support::asking::ask;
use crate::support::litestream;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn snapshots(site: &Site) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(site.path("bucket/ltx/9")).unwrap().flatten();
    // 0000000000000001-TXID.ltx
    entries.map(|entry| (entry.file_name().to_string_lossy()[17..33].to_owned(), entry.path())).collect()
}

/// A replica with at least so many snapshots.
fn with_snapshots(count: usize) -> Site {
    let mut site = Site::in_directory().with_database_settings(
        "snapshot = { interval = \"1s\" }\nretention = { snapshots = \"24h\", l0 = \"1s\" }\nlevels = [\"1s\"]",
    );
    let mut run = site.run_bank(&["--rate", "20"]);
    wait_until("snapshots", SOON * 3, || {
        site.path("bucket/ltx/9").exists() && snapshots(&site).len() >= count
    });
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    site.database_settings.clear();
    site
}

#[test]
fn the_newest_snapshot_of_each_day_stays_and_litestream_restores_it() {
    let mut site = with_snapshots(5);
    let before = snapshots(&site);
    let txids: Vec<&String> = before.keys().collect();
    // Two on the first day, two on the next one; all others are of a third day, half a day before now at the
    // latest.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(now / 86_400 * 86_400);
    for (index, path) in before.values().enumerate() {
        let day = midnight - DAY * [5, 5, 4, 4].get(index).copied().unwrap_or(3);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(day + Duration::from_secs(60 + index as u64)).unwrap();
    }
    let last = txids[txids.len() - 1];
    let expected: Vec<String> = [txids[1], txids[3], last].map(String::clone).into();

    site.database_settings = "retention = { snapshots = \"1h\", l0 = \"1s\", daily = 9 }\n".into();
    let dry = ask(&site.config(), &["list", "--retention", "--json"]);
    let value: Value = serde_json::from_str(&dry.out).unwrap();
    let stays =
        value[0]["stay"].as_array().unwrap().iter().map(|one| one["txid"].as_str().unwrap().to_owned());
    assert_eq!(stays.collect::<Vec<_>>(), expected, "{value:#}");
    assert_eq!(value[0]["go"].as_array().unwrap().len(), before.len() - 3, "{value:#}");
    assert_eq!(snapshots(&site).len(), before.len(), "a dry run deletes nothing");

    let mut run = site.run(&["sleep", "600"]);
    // A new snapshot may come: the newest one is three days old.
    let left = || snapshots(&site).into_keys().filter(|txid| before.contains_key(txid)).collect::<Vec<_>>();
    wait_until("the others are deleted", SOON * 3, || left() == expected);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    for txid in &expected {
        let out = site.path(&format!("{txid}.db"));
        litestream::restore_at(&site.replica, txid, &out).unwrap_or_else(|error| panic!("{txid}: {error}"));
        let found: String =
            bank::read_only(&out).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(found, "ok", "{txid}");
    }
    site.assert_replica_holds_everything("the newest state");
}
