//! What may be replicated on top of what: the local record, the replica's newest file and the local database in, the way
//! to go on out. Pure. The rule behind it: a local file becomes the replica's head only when it provably descends from
//! what the replica holds.

use crate::ltx::Header;
use crate::model::lineage::LocalState;
use crate::model::{DbChecksum, PageSize, Txid};
use crate::wal::{Cursor, Salts};

/// The replica's newest position.
#[derive(Clone, Debug)]
pub struct Tip {
    pub max: Txid,
    /// The newest position has a file of its own on level 0, as Litestream needs it.
    pub on_level_0: bool,
    /// Of the file at `max` (the level 0 one where there is one).
    pub header: Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The replica is empty.
    First,
    /// The local file is at `max` or behind it by WAL frames of its own only. `sent`: the last upload had arrived
    /// although its reply was lost.
    Ours { sent: bool },
    /// The replica lost what this file had uploaded.
    Ahead,
    /// Somebody else's: nothing of the local file may be put on top.
    Foreign(&'static str),
}

pub fn descent(replica: &str, state: Option<&LocalState>, tip: Option<&Tip>) -> Descent {
    let Some(tip) = tip else { return Descent::First };
    let Some(state) = state.filter(|state| state.replica == replica) else {
        return Descent::Foreign("there is no record that the local file came from this replica");
    };
    if tip.max == state.sent && tip.header.node_id == state.node_id {
        return Descent::Ours { sent: state.sent > state.acked };
    }
    if tip.max == state.acked {
        return match (tip.header.db_checksum, state.db_checksum) {
            (Some(there), Some(here)) if there != here => Descent::Foreign("its newest file holds another database"),
            _ => Descent::Ours { sent: false },
        };
    }
    if tip.max < state.acked {
        return Descent::Ahead;
    }
    Descent::Foreign("another writer has gone on from where this one stood")
}

/// Where in the WAL the replica's newest position should be found.
pub fn wal_end(state: &LocalState, tip: &Tip, sent: bool) -> Option<(Salts, u64)> {
    let recorded = (Salts(state.wal.salt1, state.wal.salt2), state.wal.offset);
    if !sent && state.acked == tip.max && recorded.1 != 0 {
        return Some(recorded);
    }
    let header = &tip.header;
    let end = u64::try_from(header.wal_offset.checked_add(header.wal_size)?).ok()?;
    let in_wal = header.wal_size > 0 && tip.on_level_0;
    in_wal.then_some((Salts(header.salt1, header.salt2), end))
}

/// What the local database looks like, under the hold.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    pub page_size: PageSize,
    /// At the end of everything committed.
    pub db_checksum: DbChecksum,
    pub end: Option<Cursor>,
    /// The replica's newest position, if this WAL's chain contains it.
    pub found: Option<Cursor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The local file is what the replica holds.
    Same,
    /// Everything behind this place in the WAL is still to be uploaded.
    From(Cursor),
    /// Upload the whole database as the next segment; say why.
    Image(&'static str),
}

/// How to go on when the local file is ours. `expected`: the database's checksum at the replica's newest position.
pub fn resume(local: &Local, tip: &Tip, expected: Option<DbChecksum>) -> Resume {
    if local.page_size != tip.header.page_size {
        return Resume::Image("the page size changed");
    }
    if expected == Some(local.db_checksum) {
        return Resume::Same;
    }
    match local.found {
        // At the same place in the WAL and yet another database: the file was changed behind the WAL's back.
        Some(found) if Some(found) == local.end && expected.is_some() => {
            Resume::Image("the database was changed by something that is not in its WAL")
        }
        Some(found) => Resume::From(found),
        None => Resume::Image("it was written to while nothing replicated it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TxidRange;
    use crate::model::lineage::WalPosition;
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
            db_checksum: checksum(5),
        }
    }

    fn tip(max: u64, node_id: u64) -> Tip {
        let range = TxidRange::single(Txid(max));
        let mut header = Header::new(PageSize::new(512).unwrap(), 1, range, 0);
        header.node_id = node_id;
        Tip { max: Txid(max), on_level_0: true, header }
    }

    #[test]
    fn only_what_provably_descends_is_ours() {
        let known = |max, node, sum| {
            let mut tip = tip(max, node);
            tip.header.db_checksum = checksum(sum);
            tip
        };
        let foreign = |descent| matches!(descent, Descent::Foreign(_));
        let ask = |state: Option<&LocalState>, tip: Tip| descent("file:///r", state, Some(&tip));
        assert_eq!(descent("file:///r", None, None), Descent::First);
        assert_eq!(descent("file:///r", Some(&state(3, 3)), None), Descent::First);
        assert!(foreign(ask(None, tip(3, 7))));
        assert!(foreign(descent("file:///other", Some(&state(3, 3)), Some(&tip(3, 7)))));
        assert_eq!(ask(Some(&state(3, 3)), tip(3, 7)), Descent::Ours { sent: false });
        assert_eq!(ask(Some(&state(3, 4)), tip(4, 7)), Descent::Ours { sent: true });
        assert!(foreign(ask(Some(&state(3, 4)), tip(4, 8))), "somebody else's file of that number");
        assert_eq!(ask(Some(&state(3, 4)), tip(3, 0)), Descent::Ours { sent: false });
        assert_eq!(ask(Some(&state(3, 4)), known(3, 9, 5)), Descent::Ours { sent: false });
        assert!(foreign(ask(Some(&state(3, 4)), known(3, 9, 6))), "same number, another database");
        assert!(foreign(ask(Some(&state(3, 4)), tip(5, 7))), "our node, but newer than our record: an old disk");
        assert_eq!(ask(Some(&state(3, 4)), tip(2, 7)), Descent::Ahead);
    }

    #[test]
    fn the_place_in_the_wal_is_the_record_or_the_file() {
        let mut newer = tip(4, 7);
        (newer.header.wal_offset, newer.header.wal_size) = (568, 536);
        (newer.header.salt1, newer.header.salt2) = (1, 2);
        assert_eq!(wal_end(&state(4, 4), &newer, false), Some((Salts(1, 2), 568)));
        assert_eq!(wal_end(&state(3, 4), &newer, true), Some((Salts(1, 2), 1104)));
        newer.on_level_0 = false;
        assert_eq!(wal_end(&state(3, 4), &newer, true), None);
        assert_eq!(wal_end(&state(3, 4), &tip(4, 7), true), None, "an image has no place");
    }

    #[test]
    fn resume_table() {
        let cursor = |offset| Cursor { offset, salts: Salts(1, 2), sums: Sums(3, 4) };
        let local = |sum, end, found| Local {
            page_size: PageSize::new(512).unwrap(),
            db_checksum: checksum(sum).unwrap(),
            end,
            found,
        };
        let (a, b) = (Some(cursor(568)), Some(cursor(1104)));
        let image = |resume| matches!(resume, Resume::Image(_));
        assert_eq!(resume(&local(5, a, None), &tip(3, 7), checksum(5)), Resume::Same);
        assert_eq!(resume(&local(6, b, a), &tip(3, 7), checksum(5)), Resume::From(cursor(568)));
        assert_eq!(resume(&local(6, b, a), &tip(3, 7), None), Resume::From(cursor(568)));
        assert_eq!(resume(&local(6, a, a), &tip(3, 7), None), Resume::From(cursor(568)));
        assert!(image(resume(&local(6, a, a), &tip(3, 7), checksum(5))));
        assert!(image(resume(&local(6, a, None), &tip(3, 7), checksum(5))));
        assert!(image(resume(&local(6, None, None), &tip(3, 7), None)));
        let other_size = Local { page_size: PageSize::new(1024).unwrap(), ..local(5, a, a) };
        assert!(image(resume(&other_size, &tip(3, 7), checksum(5))));
    }
}
