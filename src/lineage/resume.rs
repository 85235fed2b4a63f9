//! Where segments begin for a local file that continues the replica: from the record, the replica's newest
//! file and the local database. Pure.

use crate::lineage::record::{LocalState, WalPosition};
use crate::model::{DbChecksum, PageSize};
use crate::replica::Tip;
use crate::wal::{Cursor, Salts};

/// A recorded place in a WAL, if it is one.
pub fn wal_place(recorded: WalPosition) -> Option<(Salts, u64)> {
    (recorded.offset != 0).then_some((Salts(recorded.salt1, recorded.salt2), recorded.offset))
}

/// Where in the WAL the replica's newest position ends, by the record or else by the replica's newest file.
pub fn wal_end(state: &LocalState, tip: &Tip, sent: bool) -> Option<(Salts, u64)> {
    if let Some(place) = wal_place(if sent { state.wal_sent } else { state.wal }) {
        return Some(place);
    }
    let header = &tip.raw()?.header;
    let end = u64::try_from(header.wal_offset.checked_add(header.wal_size)?).ok()?;
    (header.wal_size > 0).then_some((Salts(header.salt1, header.salt2), end))
}

/// The local database, read under the hold.
#[derive(Clone, Copy, Debug)]
pub struct LocalDb {
    pub page_size: PageSize,
    /// At the end of the last commit.
    pub db_checksum: DbChecksum,
    pub end: Option<Cursor>,
    /// The replica's newest position, if this WAL's chain contains it.
    pub found: Option<Cursor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The local file is what the replica holds.
    Same,
    /// Everything after this place in the WAL still has to be uploaded.
    From(Cursor),
    /// Upload the whole database as the next segment, for this reason.
    FullSnapshot(&'static str),
}

/// How to continue when the local file continues the replica. `expected`: the database's checksum at the
/// replica's newest position.
pub fn resume(local: &LocalDb, tip: &Tip, expected: Option<DbChecksum>) -> Resume {
    if local.page_size != tip.first.header.page_size {
        return Resume::FullSnapshot("the page size changed");
    }
    if expected == Some(local.db_checksum) {
        return Resume::Same;
    }
    match local.found {
        // The same place in the WAL, but another checksum: something other than the WAL changed the database.
        Some(found) if Some(found) == local.end && expected.is_some() => {
            Resume::FullSnapshot("the database was changed by something that is not in its WAL")
        }
        Some(found) => Resume::From(found),
        // Also after a kill of litevisor alone, if the last connection to the database was closed before the
        // next start.
        None => Resume::FullSnapshot("its WAL no longer contains the position at which the last run ended"),
    }
}

/// How to continue when another file replaced the recorded one: a place in its WAL does not say what the file
/// itself holds.
pub fn of_another(resume: Resume) -> Resume {
    match resume {
        Resume::From(_) => Resume::FullSnapshot("another file took its place"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::record::Origin;
    use crate::ltx::Header;
    use crate::model::{FileChecksum, Txid, TxidRange};
    use crate::replica::TipFile;
    use crate::store::layout::Level;
    use crate::wal::format::Sums;

    fn checksum(value: u64) -> Option<DbChecksum> {
        DbChecksum::from_header(1 << 63 | value)
    }

    fn state(acked: u64, sent: u64) -> LocalState {
        LocalState {
            replica: "file:///r".into(),
            node_id: 7,
            acked: Txid(acked),
            sent: Txid(sent),
            tip_checksum: None,
            page_size: PageSize::new(512).unwrap(),
            wal: WalPosition { salt1: 1, salt2: 2, offset: 568, checksum: [3, 4] },
            wal_sent: WalPosition::default(),
            db_checksum: checksum(5),
            file: None,
            spilled: None,
            origin: Origin::Continued,
            app_locks_exclusively: false,
        }
    }

    fn tip(max: u64, node_id: u64) -> Tip {
        let range = TxidRange::single(Txid(max));
        let mut header = Header::new(PageSize::new(512).unwrap(), 1, range, 0);
        header.node_id = node_id;
        let first = TipFile { key: "k".into(), level: Level::RAW, header, checksum: FileChecksum(1) };
        Tip { txid: Txid(max), first, others: Vec::new() }
    }

    #[test]
    fn the_place_in_the_wal_is_the_record_or_the_file() {
        let mut newer = tip(4, 7);
        (newer.first.header.wal_offset, newer.first.header.wal_size) = (568, 536);
        (newer.first.header.salt1, newer.first.header.salt2) = (1, 2);
        assert_eq!(wal_end(&state(4, 4), &newer, false), Some((Salts(1, 2), 568)));
        assert_eq!(wal_end(&state(3, 4), &newer, true), Some((Salts(1, 2), 1104)));
        let with_place =
            LocalState { wal_sent: WalPosition { offset: 1640, ..state(3, 4).wal }, ..state(3, 4) };
        assert_eq!(wal_end(&with_place, &newer, true), Some((Salts(1, 2), 1640)));
        newer.first.level = Level(1);
        assert_eq!(wal_end(&state(3, 4), &newer, true), None);
        assert_eq!(wal_end(&state(3, 4), &tip(4, 7), true), None, "an image has no place");
    }

    #[test]
    fn resume_table() {
        let cursor = |offset| Cursor { offset, salts: Salts(1, 2), sums: Sums(3, 4) };
        let local = |sum, end, found| LocalDb {
            page_size: PageSize::new(512).unwrap(),
            db_checksum: checksum(sum).unwrap(),
            end,
            found,
        };
        let (a, b) = (Some(cursor(568)), Some(cursor(1104)));
        let image = |resume| matches!(resume, Resume::FullSnapshot(_));
        assert_eq!(resume(&local(5, a, None), &tip(3, 7), checksum(5)), Resume::Same);
        assert_eq!(resume(&local(6, b, a), &tip(3, 7), checksum(5)), Resume::From(cursor(568)));
        assert_eq!(resume(&local(6, b, a), &tip(3, 7), None), Resume::From(cursor(568)));
        assert_eq!(resume(&local(6, a, a), &tip(3, 7), None), Resume::From(cursor(568)));
        assert!(image(resume(&local(6, a, a), &tip(3, 7), checksum(5))));
        assert!(image(resume(&local(6, a, None), &tip(3, 7), checksum(5))));
        assert!(image(resume(&local(6, None, None), &tip(3, 7), None)));
        assert!(image(of_another(Resume::From(cursor(568)))));
        assert_eq!(of_another(Resume::Same), Resume::Same);
        let other_size = LocalDb { page_size: PageSize::new(1024).unwrap(), ..local(5, a, a) };
        assert!(image(resume(&other_size, &tip(3, 7), checksum(5))));
    }
}
