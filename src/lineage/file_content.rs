//! Whether the database file and its WAL together still hold the recorded database. A file that was
//! overwritten beside the WAL of a killed run cannot be told by the WAL: SQLite would apply that WAL to the
//! other file and destroy it.
//!
//! Up to the recorded position each page is in the WAL or in the file, so their checksum is known. A page
//! that only a later frame has may have been copied since. If the file holds such a frame, or part of one
//! after a power cut, the checksum proves nothing.

use crate::model::{DbChecksum, DbPath, PageNo, PageSize, page_checksum};
use crate::sqlite::{FileStamp, WalPlace, files};
use crate::wal::{
    Committed, Cursor, FRAME_HEADER, Fed, FrameHeader, HEADER, Scanner, WalHeader, frame_size, up_to, walk,
};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime};

/// The app waits for this: without a sign that the file is another one, a larger file is not read.
pub const MOST_BYTES: u64 = 1 << 30;
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

/// What the file and its WAL hold together at the recorded position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// The recorded database.
    Recorded,
    /// A checkpoint has copied later frames of this WAL into it: what it was at the position is not known.
    Later,
    /// Another one: the file was overwritten, or another took its place.
    Another,
    /// Nothing is proven.
    #[default]
    Unknown,
}

/// A file of more than `most` bytes is not read.
pub fn compare(db: &DbPath, place: WalPlace, expected: DbChecksum, most: u64) -> io::Result<Content> {
    let wal = match files::open_wal(&db.wal()) {
        Ok((_, wal)) => wal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Unknown),
        Err(error) => return Err(error),
    };
    let (_, file) = files::keep(db.as_path())?;
    for _ in 0..TRIES {
        let stamp = FileStamp::of(&file)?;
        if stamp.written().0 > most {
            return Ok(Content::Unknown);
        }
        let content = read(&file, &wal, place, expected, may_be_torn(&file)?)?;
        if content != Content::Another {
            return Ok(content);
        }
        if FileStamp::of(&file)? == stamp && !stamp.is_young(SystemTime::now()) {
            return Ok(Content::Another);
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    Ok(Content::Unknown)
}

/// Whether the power may have been cut while the file was last written to: this machine was started since.
fn may_be_torn(file: &File) -> io::Result<bool> {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let booted = SystemTime::now().checked_sub(Duration::from(since_boot));
    Ok(booted
        .is_none_or(|booted| file.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < booted)))
}

/// `torn`: a page that the file has in part is to be expected.
fn read(file: &File, wal: &File, place: WalPlace, expected: DbChecksum, torn: bool) -> io::Result<Content> {
    let mut bytes = [0; HEADER as usize];
    let got = files::read_full(wal, 0, &mut bytes)?;
    let Some(header) = WalHeader::parse(bytes.get(..got).unwrap_or_default()) else {
        return Ok(Content::Unknown);
    };
    if (header.salts, header.page_size) != (place.salts, place.page_size) {
        return Ok(Content::Unknown);
    }
    let mut page_size = [0; 2];
    files::read_full(file, 16, &mut page_size)?;
    // SQLite would read the pages of such a file wrongly, also if the WAL has every page.
    if PageSize::from_db_header(u16::from_be_bytes(page_size)) != Some(place.page_size) {
        return Ok(Content::Another);
    }
    let read = |offset, buffer: &mut [u8]| files::read_full(wal, offset, buffer);
    let found = up_to(&header, place.end, 0, read)?.filter(|found| found.commit > 0);
    let Some(recorded) = found else { return Ok(Content::Unknown) };
    let later = later(wal, &header, recorded.cursor)?;
    if later.smallest.is_some_and(|smallest| smallest < recorded.commit) {
        return Ok(Content::Unknown);
    }
    let total =
        total(&recorded, &later, place.page_size, |offset, buffer| files::read_full(file, offset, buffer))?;
    Ok(match total {
        None => Content::Later,
        Some(total) if total == expected => Content::Recorded,
        // Only pages of later frames can be torn: the WAL has the others at the recorded position.
        Some(_) if !torn || later.frames.is_empty() => Content::Another,
        _ => Content::Unknown,
    })
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
        let (Some(head), Some(page)) = (FrameHeader::parse(&frame), frame.get(FRAME_HEADER..)) else {
            continue;
        };
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
                "PRAGMA page_size=512; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; CREATE TABLE \
                 t(id INTEGER PRIMARY KEY, x BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 \
                 FROM n WHERE i<8) INSERT INTO t SELECT i, randomblob(400) FROM n; PRAGMA \
                 wal_checkpoint(TRUNCATE)",
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
        fn judged(&self, place: (WalPlace, DbChecksum), change: impl FnOnce(&mut Vec<u8>)) -> Content {
            self.judged_at(place, SystemTime::now(), change)
        }

        fn judged_at(
            &self,
            (place, sum): (WalPlace, DbChecksum),
            written: SystemTime,
            change: impl FnOnce(&mut Vec<u8>),
        ) -> Content {
            let dir = tempfile::tempdir().unwrap();
            let mut file = std::fs::read(self.dir.path().join("app.db")).unwrap();
            change(&mut file);
            std::fs::write(dir.path().join("app.db"), file).unwrap();
            let wal = std::fs::read(self.dir.path().join("app.db-wal")).unwrap();
            std::fs::write(dir.path().join("app.db-wal"), wal).unwrap();
            let db = DbPath::new(dir.path().join("app.db"));
            File::options().write(true).open(db.as_path()).unwrap().set_modified(written).unwrap();
            compare(&db, place, sum, MOST_BYTES).unwrap()
        }
    }

    #[test]
    fn a_file_that_was_overwritten_beside_its_wal() {
        let mut case = Case::new();
        let here = case.here();
        let zero = |file: &mut Vec<u8>| file[6 * 512..7 * 512].fill(0);
        assert_eq!(case.judged(here, |_| ()), Content::Recorded);
        assert_eq!(case.judged(here, zero), Content::Another);
        assert_eq!(case.judged(here, |file| file.truncate(5 * 512)), Content::Another);
        // Whatever stands where the WAL has a page, a checkpoint replaces it.
        case.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert_eq!(case.judged(here, |_| ()), Content::Recorded);
        assert_eq!(case.judged(here, zero), Content::Another);
        // A tail that is not copied hides nothing.
        let mut case = Case::new();
        let here = case.here();
        case.write(7);
        case.write(7);
        assert_eq!(case.judged(here, |_| ()), Content::Recorded);
        assert_eq!(case.judged(here, zero), Content::Another);
        // The WAL has every page, but the file has pages of another size.
        case.app.execute_batch("VACUUM").unwrap();
        let here = case.here();
        assert_eq!(
            case.judged(here, |file| file[16..18].copy_from_slice(&4096_u16.to_be_bytes())),
            Content::Another
        );
        // Another WAL, or a position that it does not reach.
        let elsewhere = WalPlace { end: here.0.end + 536 * 9, ..here.0 };
        assert_eq!(case.judged((elsewhere, here.1), zero), Content::Unknown);
    }

    #[test]
    fn a_checkpoint_of_what_followed_proves_nothing() {
        let mut case = Case::new();
        let here = case.here();
        case.write(7);
        let reader = Connection::open(case.dir.path().join("app.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        case.app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert_eq!(case.judged(here, |_| ()), Content::Later);
        // Also when the page was written again.
        case.write(7);
        assert_eq!(case.judged(here, |_| ()), Content::Later);
        case.app.execute_batch("DELETE FROM t WHERE id > 3; VACUUM; PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert_eq!(case.judged(here, |_| ()), Content::Unknown);
    }

    /// A power cut in the middle of a checkpoint leaves parts of a later frame in the file; the next reader
    /// takes the page from the WAL.
    #[test]
    fn a_torn_page_of_what_followed_proves_nothing_after_a_power_cut() {
        let mut case = Case::new();
        let here = case.here();
        let torn = |file: &mut Vec<u8>| file[6 * 512 + 100..7 * 512].fill(7);
        // Nothing followed: the file is another one, whenever it was written.
        assert_eq!(case.judged_at(here, SystemTime::UNIX_EPOCH, torn), Content::Another);
        case.write(5);
        case.write(7);
        assert_eq!(case.judged_at(here, SystemTime::UNIX_EPOCH, |_| ()), Content::Recorded);
        assert_eq!(case.judged_at(here, SystemTime::UNIX_EPOCH, torn), Content::Unknown);
        // The machine has run since the file was last written: no page is torn.
        assert_eq!(case.judged(here, torn), Content::Another);
    }
}
