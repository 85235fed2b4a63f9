//! Every way in which a spill directory does or does not continue a replica.

use super::*;
use crate::lineage::record::{Origin, SpillEnd, WalPosition};
use crate::ltx::Encoder;
use crate::model::{DbChecksum, PageNo, PageSize};
use crate::replica::TipFile;
use crate::store::layout::Level;

const OURS: u64 = 7;

fn sum(txid: u64) -> DbChecksum {
    DbChecksum::from_header(1 << 63 | txid).unwrap()
}

fn header(txid: u64, node_id: u64) -> Header {
    let mut header = Header::new(PageSize::new(512).unwrap(), 1, TxidRange::single(Txid(txid)), 0);
    (header.node_id, header.db_checksum) = (node_id, Some(sum(txid)));
    header
}

fn file(txid: u64, node_id: u64) -> Spilled {
    Spilled {
        path: format!("{txid}").into(),
        bytes: 9,
        header: header(txid, node_id),
        checksum: FileChecksum(txid),
    }
}

fn state(acked: u64, sent: u64, end: Option<u64>) -> LocalState {
    let spilled =
        end.map(|end| SpillEnd { txid: Txid(end), wal: WalPosition::default(), db_checksum: sum(end) });
    LocalState {
        replica: "file:///r".into(),
        node_id: OURS,
        acked: Txid(acked),
        sent: Txid(sent),
        tip_checksum: None,
        page_size: PageSize::new(512).unwrap(),
        wal: WalPosition::default(),
        wal_sent: WalPosition::default(),
        db_checksum: None,
        file: None,
        spilled,
        origin: Origin::Continued,
        app_locks_exclusively: false,
    }
}

fn tip(txid: u64, node_id: u64) -> Tip {
    let first = TipFile {
        key: "k".into(),
        level: Level::RAW,
        header: header(txid, node_id),
        checksum: FileChecksum(txid),
    };
    Tip { txid: Txid(txid), first, others: Vec::new() }
}

/// TXIDs to upload and needless files; or what is wrong.
fn ask(state: &LocalState, tip: &Tip, files: &[(u64, u64)]) -> Result<(Vec<u64>, usize), String> {
    let files = files.iter().map(|(txid, node)| file(*txid, *node)).collect();
    let waiting = continues(Some(state), tip, files).map_err(|why| format!("{why:?}"))?;
    Ok((waiting.upload.iter().map(|file| file.txid().0).collect(), waiting.needless.len()))
}

#[test]
fn what_is_uploaded_after_a_kill_at_each_point() {
    let t = tip(5, OURS);
    let (o, a) = (OURS, 3);
    for (state, files, expected) in [
        // Nothing was ever spilled.
        (state(5, 5, None), vec![], (vec![], 0)),
        // Killed between a file's rename and its record: the WAL still has it.
        (state(5, 6, None), vec![(6, o)], (vec![], 1)),
        (state(5, 6, Some(7)), vec![(6, o), (7, o), (8, o)], (vec![6, 7], 1)),
        // Killed after the record, before or after the checkpoint.
        (state(5, 6, Some(7)), vec![(6, o), (7, o)], (vec![6, 7], 0)),
        // Written by an earlier run of the same lineage, whose node id was another.
        (state(5, 6, Some(7)), vec![(6, a), (7, o)], (vec![6, 7], 0)),
        (state(5, 6, Some(7)), vec![(6, o), (7, o), (8, a)], (vec![6, 7], 1)),
        // Killed between an upload and its record, or its file's removal.
        (state(4, 5, Some(7)), vec![(5, o), (6, o), (7, o)], (vec![6, 7], 1)),
        (state(5, 5, Some(7)), vec![(6, o), (7, o)], (vec![6, 7], 0)),
        (state(4, 5, Some(5)), vec![(5, o)], (vec![], 1)),
        (state(5, 5, None), vec![(5, o)], (vec![], 1)),
    ] {
        assert_eq!(ask(&state, &t, &files), Ok(expected), "{state:?} {files:?}");
    }
}

#[test]
fn what_does_not_continue_the_replica_is_not_uploaded() {
    let (o, a) = (OURS, 3);
    for (state, tip, files, wrong) in [
        (state(5, 6, Some(8)), tip(5, o), vec![(6, o), (8, o)], "Gap"),
        (state(5, 6, Some(8)), tip(5, o), vec![(6, o), (7, o)], "Gap"),
        (state(5, 6, Some(8)), tip(5, o), vec![(7, o), (8, o)], "Gap"),
        (state(5, 6, Some(8)), tip(5, o), vec![], "Gap"),
        // The same TXID with another content is in the replica.
        (state(4, 5, Some(6)), tip(5, o), vec![(5, a), (6, o)], "NotTheTip"),
        (state(5, 5, None), tip(5, o), vec![(6, a)], "Foreign"),
    ] {
        let told = ask(&state, &tip, &files).unwrap_err();
        assert!(told.contains(wrong), "{state:?} {files:?}: {told}");
    }
    let mut other = state(5, 5, Some(6));
    other.spilled.as_mut().unwrap().db_checksum = sum(99);
    assert!(ask(&other, &tip(5, o), &[(6, o)]).unwrap_err().contains("AnotherEnd"));
    assert!(matches!(continues(None, &tip(5, o), vec![file(6, o)]), Err(Unfit::NoRecord)));
    assert_eq!(continues(None, &tip(5, o), vec![]).unwrap(), Waiting::default());
}

fn write(db: &DbPath, txid: u64, header: &Header, damage: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::start(header, &mut bytes).unwrap();
    encoder.page(PageNo(1), &[7; 512], &mut bytes).unwrap();
    encoder.finish(&mut bytes).unwrap();
    damage(&mut bytes);
    let mut writer = spill::create(db, Txid(txid)).unwrap();
    writer.write(&bytes).unwrap();
    writer.finish().unwrap();
}

#[test]
fn files_are_verified_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = DbPath::new(dir.path().join("app.db"));
    assert!(read(&db).unwrap().is_empty());
    write(&db, 6, &header(6, OURS), |_| {});
    write(&db, 7, &header(7, OURS), |_| {});
    let files = read(&db).unwrap();
    assert_eq!(files.iter().map(|file| file.txid().0).collect::<Vec<_>>(), [6, 7]);
    assert_eq!(files[0].header, header(6, OURS));
    for damage in
        [|bytes: &mut Vec<u8>| bytes[120] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(80), Vec::clear]
    {
        write(&db, 7, &header(7, OURS), damage);
        assert!(matches!(read(&db), Err(Unfit::Damaged { .. })));
    }
    write(&db, 7, &header(8, OURS), |_| {});
    assert!(matches!(read(&db), Err(Unfit::Damaged { .. })), "the name and the header disagree");
}
