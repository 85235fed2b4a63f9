//! Whether the database file and its WAL together still hold the recorded database. A file that was overwritten beside the WAL
//! of a killed run cannot be told by the WAL: SQLite would apply that WAL to the other file and destroy it.
//!
//! Up to the recorded position each page is in the WAL or in the file, so their checksum is known. A page that only a later
//! frame has may have been copied since. If the file holds such a frame, the checksum proves nothing.

use crate::model::{DbChecksum, DbPath, PageNo, PageSize, page_checksum};
use crate::sqlite::{FileStamp, WalPlace, files};
use crate::wal::{
    Committed, Cursor, FRAME_HEADER, Fed, FrameHeader, HEADER, Scanner, WalHeader, frame_size, up_to, walk,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime};

/// The app waits for this: a larger file is not read.
const MOST_BYTES: u64 = 1 << 30;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// A file that changes while it is read is read again.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(120);

/// What the WAL has behind the recorded position.
#[derive(Debug, Default)]
struct Later {
    /// Checksums of all frames of a page.
    frames: BTreeMap<PageNo, Vec<u64>>,
    /// The smallest size of the database in pages, by these transactions.
    smallest: Option<u32>,
}

/// True: the file is proven to be another one, or overwritten. False: it is the recorded one, or nothing is proven.
pub fn is_another(db: &DbPath, place: WalPlace, expected: DbChecksum) -> io::Result<bool> {
    let wal = match files::open_wal(&db.wal()) {
        Ok((_, wal)) => wal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let (_, file) = files::keep(db.as_path())?;
    for _ in 0..TRIES {
        let stamp = FileStamp::of(&file)?;
        if stamp.written().0 > MOST_BYTES || !differs(&file, &wal, place, expected)? {
            return Ok(false);
        }
        if FileStamp::of(&file)? == stamp && !stamp.is_young(SystemTime::now()) {
            return Ok(true);
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    Ok(false)
}

fn differs(file: &File, wal: &File, place: WalPlace, expected: DbChecksum) -> io::Result<bool> {
    let mut bytes = [0; HEADER as usize];
    let got = files::read_full(wal, 0, &mut bytes)?;
    let Some(header) = WalHeader::parse(bytes.get(..got).unwrap_or_default()) else { return Ok(false) };
    if (header.salts, header.page_size) != (place.salts, place.page_size) {
        return Ok(false);
    }
    let read = |offset, buffer: &mut [u8]| files::read_full(wal, offset, buffer);
    let Some(recorded) = up_to(&header, place.end, 0, read)?.filter(|found| found.commit > 0) else { return Ok(false) };
    let later = later(wal, &header, recorded.cursor)?;
    if later.smallest.is_some_and(|smallest| smallest < recorded.commit) {
        return Ok(false);
    }
    let total = total(&recorded, &later, place.page_size, |offset, buffer| files::read_full(file, offset, buffer))?;
    Ok(total.is_some_and(|total| total != expected))
}

fn later(wal: &File, header: &WalHeader, from: Cursor) -> io::Result<Later> {
    let read = |offset, buffer: &mut [u8]| files::read_full(wal, offset, buffer);
    let mut scanner = Scanner::new(header, from, 0);
    walk(header, &mut scanner, read, |_, fed| fed != Fed::End)?;
    let end = scanner.finish().cursor.offset;
    let size = frame_size(header.page_size);
    let mut later = Later::default();
    let mut frame = vec![0; size as usize];
    for offset in (from.offset..end).step_by(size as usize) {
        files::read_full(wal, offset, &mut frame)?;
        let (Some(head), Some(page)) = (FrameHeader::parse(&frame), frame.get(FRAME_HEADER..)) else { continue };
        later.frames.entry(head.page).or_default().push(page_checksum(head.page, page));
        if head.commit > 0 {
            later.smallest = Some(later.smallest.map_or(head.commit, |smallest| smallest.min(head.commit)));
        }
    }
    Ok(later)
}

/// The checksum of the database at the recorded position. None: a later frame was copied into the file.
fn total(
    recorded: &Committed,
    later: &Later,
    size: PageSize,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Option<DbChecksum>> {
    let mut total = DbChecksum::default();
    let mut buffer = vec![0; READ_BYTES.max(size.bytes())];
    let mut page = PageNo(1);
    let lock = size.lock_page();
    while page.0 <= recorded.commit {
        let got = read(u64::from(page.0 - 1) * u64::from(size.get()), &mut buffer)?;
        // A page behind the end of the file counts as the empty one: no database has such a page.
        buffer.get_mut(got..).unwrap_or_default().fill(0);
        for bytes in buffer.chunks_exact(size.bytes()) {
            if page.0 > recorded.commit {
                break;
            }
            if let Some(version) = recorded.pages.get(&page) {
                total.toggle(version.sum);
            } else if page != lock {
                let sum = page_checksum(page, bytes);
                if later.frames.get(&page).is_some_and(|frames| frames.contains(&sum)) {
                    return Ok(None);
                }
                total.toggle(sum);
            }
            page.0 += 1;
        }
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A database in WAL mode: eight rows of a page each in the file, some in the WAL.
    struct Case {
        dir: tempfile::TempDir,
        app: Connection,
    }

    impl Case {
        fn new() -> Case {
            let dir = tempfile::tempdir().unwrap();
            let app = Connection::open(dir.path().join("app.db")).unwrap();
            app.execute_batch(
                "PRAGMA page_size=512; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(id INTEGER \
                 PRIMARY KEY, x BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<8) \
                 INSERT INTO t SELECT i, randomblob(400) FROM n; PRAGMA wal_checkpoint(TRUNCATE)",
            )
            .unwrap();
            let case = Case { dir, app };
            case.write(2);
            case
        }

        fn write(&self, id: u32) {
            self.app.execute("UPDATE t SET x = randomblob(400) WHERE id = ?1", [id]).unwrap();
        }

        /// The position at this moment, and its checksum.
        fn here(&mut self) -> (WalPlace, DbChecksum) {
            let wal = std::fs::read(self.dir.path().join("app.db-wal")).unwrap();
            let header = WalHeader::parse(&wal[..32]).unwrap();
            let mut sum = DbChecksum::default();
            for (at, page) in self.app.serialize("main").unwrap().chunks_exact(512).enumerate() {
                sum.toggle(page_checksum(PageNo(at as u32 + 1), page));
            }
            (WalPlace { salts: header.salts, end: wal.len() as u64, page_size: header.page_size }, sum)
        }

        /// As after a kill: the files alone. `change` gets the database file.
        fn judged(&self, (place, sum): (WalPlace, DbChecksum), change: impl FnOnce(&mut Vec<u8>)) -> bool {
            let dir = tempfile::tempdir().unwrap();
            let mut file = std::fs::read(self.dir.path().join("app.db")).unwrap();
            change(&mut file);
            std::fs::write(dir.path().join("app.db"), file).unwrap();
            let wal = std::fs::read(self.dir.path().join("app.db-wal")).unwrap();
            std::fs::write(dir.path().join("app.db-wal"), wal).unwrap();
            is_another(&DbPath::new(dir.path().join("app.db")), place, sum).unwrap()
        }
    }

    #[test]
    fn a_file_that_was_overwritten_beside_its_wal() {
        let mut case = Case::new();
        let here = case.here();
        let zero = |file: &mut Vec<u8>| file[6 * 512..7 * 512].fill(0);
        assert!(!case.judged(here, |_| ()));
        assert!(case.judged(here, zero));
        assert!(case.judged(here, |file| file.truncate(5 * 512)));
        // Whatever stands where the WAL has a page, a checkpoint replaces it.
        case.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert!(!case.judged(here, |_| ()));
        assert!(case.judged(here, zero));
        // A tail that is not copied hides nothing.
        let mut case = Case::new();
        let here = case.here();
        case.write(7);
        case.write(7);
        assert!(!case.judged(here, |_| ()));
        assert!(case.judged(here, zero));
        // Another WAL, or a position that it does not reach.
        let elsewhere = WalPlace { end: here.0.end + 536 * 9, ..here.0 };
        assert!(!case.judged((elsewhere, here.1), zero));
    }

    #[test]
    fn a_checkpoint_of_what_followed_proves_nothing() {
        let mut case = Case::new();
        let here = case.here();
        case.write(7);
        let reader = Connection::open(case.dir.path().join("app.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        case.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert!(!case.judged(here, |_| ()));
        // Also when the page was written again.
        case.write(7);
        assert!(!case.judged(here, |_| ()));
        case.app.execute_batch("DELETE FROM t WHERE id > 3; VACUUM; PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert!(!case.judged(here, |_| ()));
    }
}
