//! Files that an earlier version wrote beside a database.

use super::*;
use crate::lineage::state_file;
use crate::model::Txid;
use std::fs;

const ON_PURPOSE: &str = r#"{"replica":"s3://r","head":{"Ltx":{"txid":9,"checksums":[18446744073709551615,7]}},"txid":4,"time_ms":1700000000000,"born_ns":100,"modified_ns":200}"#;
const ON_PURPOSE_0_3: &str = r#"{"replica":"s3://r","head":{"Old":{"key":"generations/00000000000000aa/wal/00000000_00000000.wal.lz4"}},"txid":0,"time_ms":1700000000000,"born_ns":100,"modified_ns":200}"#;
const RESTORED_0_3: &str = r#"{"replica":"s3://r","key":"generations/00000000000000aa/wal/00000000_00000000.wal.lz4","born_ns":100}"#;

fn state(acked: u64, replica: &str) -> String {
    format!(
        r#"{{"version":1,"replica":"{replica}","node_id":"000000000000feed","acked":"{0}","sent":"{0}","tip_checksum":"",
        "page_size":4096,"wal_salt1":0,"wal_salt2":0,"wal_offset":0,"wal_checksum":[0,0],"db_checksum":""}}"#,
        Txid(acked)
    )
}

fn key() -> String {
    "generations/00000000000000aa/wal/00000000_00000000.wal.lz4".to_owned()
}

fn db(files: &[(&str, &str)]) -> (tempfile::TempDir, DbPath) {
    let dir = tempfile::tempdir().unwrap();
    let db = DbPath::new(dir.path().join("app.db"));
    fs::create_dir(db.state_dir()).unwrap();
    for (name, text) in files {
        fs::write(db.state_dir().join(name), text).unwrap();
    }
    (dir, db)
}

fn rolled_back(head: Head, txid: u64) -> Origin {
    Origin::RolledBack(RollbackMarker {
        head,
        txid,
        time_ms: 1_700_000_000_000,
        born_ns: 100,
        modified_ns: 200,
    })
}

#[test]
fn a_marker_alone_is_an_origin_without_a_position() {
    for (name, text, origin) in [
        (ROLLED_BACK, ON_PURPOSE, rolled_back(Head::Ltx { txid: 9, checksums: vec![u64::MAX, 7] }, 4)),
        (ROLLED_BACK, ON_PURPOSE_0_3, rolled_back(Head::V3 { key: key() }, 0)),
        (FROM_V3, RESTORED_0_3, Origin::V3(V3Marker { key: key(), born_ns: 100 })),
    ] {
        // Also where the state file cannot be used.
        for files in [&[(name, text)][..], &[(name, text), ("state.json", "{")]] {
            let (_dir, db) = db(files);
            let state = state_file::load(&db).unwrap().unwrap();
            assert_eq!(
                (state.replica.as_str(), &state.origin, state.has_position()),
                ("s3://r", &origin, false)
            );
        }
    }
}

#[test]
fn a_marker_beside_a_state_file_is_its_origin() {
    let head = || rolled_back(Head::Ltx { txid: 9, checksums: vec![u64::MAX, 7] }, 4);
    for (name, text, acked, replica, origin) in [
        (ROLLED_BACK, ON_PURPOSE, 9, "s3://r", head()),
        (ROLLED_BACK, ON_PURPOSE, 10, "s3://r", Origin::Continued),
        (ROLLED_BACK, ON_PURPOSE, 9, "s3://other", Origin::Continued),
        (FROM_V3, RESTORED_0_3, 9, "s3://r", Origin::V3(V3Marker { key: key(), born_ns: 100 })),
    ] {
        let (_dir, db) = db(&[(name, text), ("state.json", &state(acked, replica))]);
        let state = state_file::load(&db).unwrap().unwrap();
        assert_eq!((state.acked, state.origin), (Txid(acked), origin), "{name} {acked} {replica}");
    }
}

#[test]
fn the_markers_go_once_the_state_file_says_the_origin() {
    let (_dir, db) = db(&[(ROLLED_BACK, ON_PURPOSE), ("state.json", &state(9, "s3://r"))]);
    let state = state_file::load(&db).unwrap().unwrap();
    // A session records a position; the file's own is not confirmed yet.
    let begun = LocalState { sent: Txid(10), origin: Origin::Continued, ..state.clone() };
    state_file::store(&db, &begun).unwrap();
    assert!(!db.state_dir().join(ROLLED_BACK).exists());
    state_file::forget(&db);
    assert_eq!(state_file::load(&db).unwrap().unwrap().origin, state.origin);
    // A marker that a kill has left is not read any more.
    fs::write(db.state_dir().join(FROM_V3), RESTORED_0_3).unwrap();
    let arrived = LocalState { acked: Txid(10), ..begun };
    state_file::store(&db, &arrived).unwrap();
    fs::write(db.state_dir().join(ROLLED_BACK), ON_PURPOSE).unwrap();
    state_file::forget(&db);
    assert_eq!(state_file::load(&db).unwrap().unwrap().origin, Origin::Continued);
    state_file::remove(&db).unwrap();
    assert!(state_file::load(&db).unwrap().is_none());
}
