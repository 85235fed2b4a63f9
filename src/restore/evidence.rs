//! Does the local file's content deny what the record beside it says? A record may be right about the replica and wrong
//! about the file: its WAL was lost (a power cut, a hand, a copy of the database alone), or another file stands in its
//! place. Such a file must not become the replica's head. In: the record, the tip, the `-wal`, and what `stat` says of
//! the database file. Out: why not, if so. The rule is `denied`, pure.
//!
//! What cannot be told: an older copy that was written into the very same file, without a WAL. Changes nothing.

use super::error::RestoreError;
use crate::local_state::file_look;
use crate::ltx::Header;
use crate::model::lineage::{FileLook, LocalState, WalPosition};
use crate::model::{DbPath, PageSize};
use crate::replica::Tip;
use crate::sqlite::files;
use crate::wal::{HEADER, Salts, WalHeader, up_to};
use std::io;
use std::path::Path;

/// Restarts of the WAL that count its first salt up and still tell the same WAL from another one.
const RESTARTS: u32 = 1 << 16;

/// Where in the WAL the confirmed position ends, or what waits in the spill directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub salts: Salts,
    pub end: u64,
    pub page_size: PageSize,
}

/// What is at that place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The WAL holds it.
    Reached,
    /// It is this WAL, and it ends before.
    Short,
    /// The WAL was started over since: SQLite does that only when all of it is in the database file.
    Restarted,
    /// There is another WAL: somebody wrote while nothing replicated.
    Another,
    /// There is no WAL, or none with a sound header.
    Gone,
}

/// Blocks on another thread: the WAL may be large.
pub async fn look(db: DbPath, state: LocalState, tip: Tip, sent: bool) -> Result<Option<&'static str>, RestoreError> {
    let reading = tokio::task::spawn_blocking(move || {
        let place = place(&state, &tip, sent);
        let standing = place.map(|place| standing(&db.wal(), place)).transpose();
        let standing = standing.map_err(RestoreError::io("read", &db.wal()))?;
        Ok(denied(standing, state.file, file_look(&db)))
    });
    reading.await.unwrap_or(Ok(None))
}

/// Whether the WAL holds the whole chain up to where `raw` ends.
pub async fn wal_holds(db: DbPath, raw: &Header) -> Result<bool, RestoreError> {
    let Some(place) = of_raw(raw) else { return Ok(false) };
    let reading = tokio::task::spawn_blocking(move || {
        let found = standing(&db.wal(), place).map_err(RestoreError::io("read", &db.wal()))?;
        Ok(found == Standing::Reached)
    });
    reading.await.unwrap_or(Ok(false))
}

fn of_raw(raw: &Header) -> Option<Place> {
    let end = u64::try_from(raw.wal_offset.checked_add(raw.wal_size)?).ok()?;
    (raw.wal_size > 0).then_some(Place { salts: Salts(raw.salt1, raw.salt2), end, page_size: raw.page_size })
}

/// Of the newest position where it is known, else of what was confirmed before.
fn place(state: &LocalState, tip: &Tip, sent: bool) -> Option<Place> {
    let of_record = |wal: WalPosition| {
        let place = Place { salts: Salts(wal.salt1, wal.salt2), end: wal.offset, page_size: state.page_size };
        (place.end >= HEADER).then_some(place)
    };
    // What is spilled was captured from this WAL, and is newer than anything sent.
    if let Some(end) = state.spilled {
        return of_record(end.wal);
    }
    let of_tip = || tip.raw().and_then(|raw| of_raw(&raw.header));
    if sent { of_record(state.wal_sent).or_else(of_tip).or(of_record(state.wal)) } else { of_record(state.wal) }
}

/// Pure.
fn denied(standing: Option<Standing>, recorded: Option<FileLook>, found: Option<FileLook>) -> Option<&'static str> {
    match (standing, recorded, found) {
        (Some(Standing::Short), _, _) => Some("its WAL ends before what it had uploaded"),
        (Some(Standing::Another | Standing::Gone), Some(recorded), Some(found))
            if recorded.born_ns != 0 && found.born_ns != 0 && recorded.born_ns != found.born_ns =>
        {
            Some("another file was put in its place, without the WAL that it had")
        }
        (Some(Standing::Gone), Some(recorded), Some(found)) if recorded.modified_ns == found.modified_ns => {
            Some("its WAL is gone, and with it what it had uploaded")
        }
        (Some(Standing::Reached | Standing::Restarted | Standing::Another | Standing::Gone) | None, _, _) => None,
    }
}

pub(super) fn standing(wal: &Path, place: Place) -> io::Result<Standing> {
    let file = match files::open_wal(wal) {
        Ok((_, file)) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Gone),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER as usize];
    let got = files::read_full(&file, 0, &mut bytes)?;
    let header = WalHeader::parse(bytes.get(..got).unwrap_or_default());
    let Some(header) = header else { return Ok(Standing::Gone) };
    if header.page_size != place.page_size {
        return Ok(Standing::Another);
    }
    if header.salts == place.salts {
        let read = |offset, buffer: &mut [u8]| files::read_full(&file, offset, buffer);
        return Ok(if up_to(&header, place.end, 0, read)?.is_some() { Standing::Reached } else { Standing::Short });
    }
    let restarts = header.salts.0.wrapping_sub(place.salts.0);
    Ok(if (1..RESTARTS).contains(&restarts) { Standing::Restarted } else { Standing::Another })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_denies_the_record() {
        let look = |modified_ns, born_ns| Some(FileLook { modified_ns, born_ns });
        let recorded = look(1000, 7);
        for (standing, recorded, found, denies) in [
            (Some(Standing::Reached), recorded, look(1000, 7), false),
            (Some(Standing::Reached), recorded, look(1000, 8), false),
            (Some(Standing::Short), None, look(2000, 7), true),
            (Some(Standing::Restarted), recorded, look(1000, 8), false),
            // Written to, checkpointed and closed while nothing replicated it.
            (Some(Standing::Gone), recorded, look(2000, 7), false),
            // The WAL was removed; an older copy, or another database.
            (Some(Standing::Gone), recorded, look(1000, 7), true),
            (Some(Standing::Another), recorded, look(1000, 7), false),
            (Some(Standing::Another), recorded, look(1000, 8), true),
            (Some(Standing::Gone), recorded, look(2000, 8), true),
            // The file was complete when it was recorded.
            (Some(Standing::Gone), look(0, 7), look(1000, 7), false),
            (Some(Standing::Gone), look(0, 7), look(1000, 8), true),
            // The file system keeps no such time; nothing is known.
            (Some(Standing::Gone), look(1000, 0), look(2000, 8), false),
            (Some(Standing::Gone), recorded, look(2000, 0), false),
            (Some(Standing::Gone), None, look(1000, 7), false),
            (None, recorded, look(1000, 8), false),
        ] {
            assert_eq!(denied(standing, recorded, found).is_some(), denies, "{standing:?} {recorded:?} {found:?}");
        }
    }

    struct Case {
        _dir: tempfile::TempDir,
        wal: std::path::PathBuf,
        app: rusqlite::Connection,
    }

    impl Case {
        fn new() -> Case {
            let dir = tempfile::tempdir().unwrap();
            let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
            app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
            Case { wal: dir.path().join("app.db-wal"), _dir: dir, app }
        }

        fn place(&self) -> Place {
            let bytes = std::fs::read(&self.wal).unwrap();
            let header = WalHeader::parse(&bytes[..32]).unwrap();
            Place { salts: header.salts, end: bytes.len() as u64, page_size: header.page_size }
        }
    }

    #[test]
    fn where_a_wal_stands_to_a_place() {
        let case = Case::new();
        let place = case.place();
        let ask = |place| standing(&case.wal, place).unwrap();
        assert_eq!(ask(place), Standing::Reached);
        assert_eq!(ask(Place { end: place.end + 4120, ..place }), Standing::Short);
        assert_eq!(ask(Place { end: place.end - 1, ..place }), Standing::Short);
        assert_eq!(ask(Place { end: HEADER, ..place }), Standing::Reached);
        assert_eq!(ask(Place { salts: Salts(place.salts.0, !place.salts.1), ..place }), Standing::Another);
        case.app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert_eq!(ask(place), Standing::Reached, "frames behind it do not matter");
        let whole = std::fs::read(&case.wal).unwrap();
        let cut = case.wal.with_extension("cut");
        std::fs::write(&cut, &whole[..place.end as usize - 1]).unwrap();
        assert_eq!(standing(&cut, place).unwrap(), Standing::Short, "cut short");
        let mut torn = whole.clone();
        torn[40 + 24 + 9] ^= 1;
        std::fs::write(&cut, &torn).unwrap();
        assert_eq!(standing(&cut, place).unwrap(), Standing::Short, "torn in the middle");
        case.app.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (3)").unwrap();
        assert_eq!(ask(place), Standing::Restarted);
        case.app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert_eq!(ask(place), Standing::Gone, "empty");
        drop(case.app);
        assert_eq!(standing(&case.wal, place).unwrap(), Standing::Gone, "gone");
    }
}
