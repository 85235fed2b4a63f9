//! Compares a `-wal` file with a recorded position: the WAL still has it, ends before it, was restarted, or
//! is another WAL. Reads only the `-wal` file, which is safe: SQLite keeps no locks on it.

use super::files;
use crate::model::PageSize;
use crate::wal::{HEADER, Salts, WalHeader, up_to};
use std::io;
use std::path::Path;

/// After at most this many restarts, which increment the first salt, a WAL still counts as the same one.
const RESTARTS: u32 = 1 << 16;

/// A position in a WAL: its salts and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPlace {
    pub salts: Salts,
    pub end: u64,
    pub page_size: PageSize,
}

/// What the WAL has at the recorded position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStanding {
    /// The WAL has the position.
    Reached,
    /// It is the same WAL, and it ends before the position.
    Short,
    /// The WAL was restarted since: SQLite does that only when all of it is copied into the database file.
    Restarted,
    /// It is another WAL: a process wrote while the database was not replicated.
    Another,
    /// There is no WAL, or none with a sound header.
    Gone,
}

pub fn wal_standing(wal: &Path, place: WalPlace) -> io::Result<WalStanding> {
    let file = match files::open_wal(wal) {
        Ok((_, file)) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WalStanding::Gone),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER as usize];
    let got = files::read_full(&file, 0, &mut bytes)?;
    let header = WalHeader::parse(bytes.get(..got).unwrap_or_default());
    let Some(header) = header else { return Ok(WalStanding::Gone) };
    if header.page_size != place.page_size {
        return Ok(WalStanding::Another);
    }
    if header.salts == place.salts {
        let read = |offset, buffer: &mut [u8]| files::read_full(&file, offset, buffer);
        return Ok(if up_to(&header, place.end, 0, read)?.is_some() {
            WalStanding::Reached
        } else {
            WalStanding::Short
        });
    }
    let restarts = header.salts.0.wrapping_sub(place.salts.0);
    Ok(if (1..RESTARTS).contains(&restarts) { WalStanding::Restarted } else { WalStanding::Another })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        _dir: tempfile::TempDir,
        wal: std::path::PathBuf,
        app: rusqlite::Connection,
    }

    impl Case {
        fn new() -> Case {
            let dir = tempfile::tempdir().unwrap();
            let app = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
            app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
                .unwrap();
            Case { wal: dir.path().join("app.db-wal"), _dir: dir, app }
        }

        fn place(&self) -> WalPlace {
            let bytes = std::fs::read(&self.wal).unwrap();
            let header = WalHeader::parse(&bytes[..32]).unwrap();
            WalPlace { salts: header.salts, end: bytes.len() as u64, page_size: header.page_size }
        }
    }

    #[test]
    fn where_a_wal_stands_to_a_place() {
        let case = Case::new();
        let place = case.place();
        let ask = |place| wal_standing(&case.wal, place).unwrap();
        assert_eq!(ask(place), WalStanding::Reached);
        assert_eq!(ask(WalPlace { end: place.end + 4120, ..place }), WalStanding::Short);
        assert_eq!(ask(WalPlace { end: place.end - 1, ..place }), WalStanding::Short);
        assert_eq!(ask(WalPlace { end: HEADER, ..place }), WalStanding::Reached);
        assert_eq!(
            ask(WalPlace { salts: Salts(place.salts.0, !place.salts.1), ..place }),
            WalStanding::Another
        );
        case.app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert_eq!(ask(place), WalStanding::Reached, "frames behind it do not matter");
        let whole = std::fs::read(&case.wal).unwrap();
        let cut = case.wal.with_extension("cut");
        std::fs::write(&cut, &whole[..place.end as usize - 1]).unwrap();
        assert_eq!(wal_standing(&cut, place).unwrap(), WalStanding::Short, "cut short");
        let mut torn = whole.clone();
        torn[40 + 24 + 9] ^= 1;
        std::fs::write(&cut, &torn).unwrap();
        assert_eq!(wal_standing(&cut, place).unwrap(), WalStanding::Short, "torn in the middle");
        case.app.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (3)").unwrap();
        assert_eq!(ask(place), WalStanding::Restarted);
        case.app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert_eq!(ask(place), WalStanding::Gone, "empty");
        drop(case.app);
        assert_eq!(wal_standing(&case.wal, place).unwrap(), WalStanding::Gone, "gone");
    }
}
