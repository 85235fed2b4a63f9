//! The proof that a staged file may be installed. Only this file can make a `VerifiedDb`.

use super::assemble::Assembled;
use super::error::{Damage, RestoreError};
use crate::model::{DB_MAGIC, DbChecksum, DbPath, FileChecksum, Moment, PageSize, Txid};
use crate::v3::Part;
use crate::v3::V3File;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A staged file that is complete, is a SQLite database, has the checksum that its writer gave it (where one
/// did), and is on the disk.
#[derive(Debug)]
pub struct VerifiedDb {
    db: DbPath,
    /// As it was made: its name may lead to something else by now.
    file: Arc<File>,
    pub page_size: PageSize,
    pub state: RestoredState,
}

/// Which state of the replica the database has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoredState {
    Ltx {
        txid: Txid,
        time: Moment,
        db_checksum: DbChecksum,
        /// The last file that was applied.
        tip: FileChecksum,
        app_locks_exclusively: bool,
    },
    /// A Litestream 0.3 replica up to this file.
    V3(V3File),
}

impl VerifiedDb {
    /// The database whose staged file this is.
    pub fn db(&self) -> &DbPath {
        &self.db
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Looks at the finished file once, and makes it durable once.
pub fn verify(assembled: Assembled, replica: &str, txid: Txid) -> Result<VerifiedDb, RestoreError> {
    let Assembled {
        db,
        file,
        page_size,
        commit,
        timestamp_ms,
        db_checksum,
        proven,
        last_key,
        tip,
        app_locks_exclusively,
    } = assembled;
    let checked = check_file(&db, &file, |header| {
        check_header(header, page_size)?;
        match check_size(header, commit) {
            // It is what its writer had, and SQLite worked with: a WAL found beside a copy of its database,
            // for one.
            Err(problem) if proven => tracing::warn!(
                %db, replica, "{problem} than it has; it was replicated in this state, byte by byte. Run \
                 PRAGMA integrity_check on it"
            ),
            size => size?,
        }
        Ok(())
    })?;
    checked.map_err(|damage| RestoreError::Damaged {
        replica: replica.to_owned(),
        file: last_key,
        damage,
    })?;
    let state =
        RestoredState::Ltx { txid, time: Moment(timestamp_ms), db_checksum, tip, app_locks_exclusively };
    Ok(VerifiedDb { db, file, page_size, state })
}

/// A complete file that was staged from a Litestream 0.3 replica.
pub struct V3Assembled {
    pub db: DbPath,
    pub file: Arc<File>,
    pub page_size: PageSize,
}

/// The same for one that keeps no checksums: each of its files had its own.
pub fn verify_v3(assembled: V3Assembled, replica: &str, last: &V3File) -> Result<VerifiedDb, RestoreError> {
    let V3Assembled { db, file, page_size } = assembled;
    let bytes = file.metadata().map_err(RestoreError::io("look at", &db.staged()))?.len();
    // A snapshot alone was copied while the WAL held newer pages: its first page may be behind.
    let exact = last.name.part != Part::Snapshot;
    let commit = u32::try_from(bytes / u64::from(page_size.get())).ok().filter(|_| exact);
    let checked = check_file(&db, &file, |header| {
        check_header(header, page_size)?;
        commit.map_or(Ok(()), |commit| check_size(header, commit))
    })?;
    checked.map_err(|damage| RestoreError::Damaged {
        replica: replica.to_owned(),
        file: last.key.clone(),
        damage,
    })?;
    Ok(VerifiedDb { db, file, page_size, state: RestoredState::V3(last.clone()) })
}

fn check_file(
    db: &DbPath,
    file: &File,
    check: impl FnOnce(&[u8; 100]) -> Result<(), &'static str>,
) -> Result<Result<(), Damage>, RestoreError> {
    let path = db.staged();
    let mut header = [0; 100];
    file.read_exact_at(&mut header, 0).map_err(RestoreError::io("read", &path))?;
    if let Err(problem) = check(&header) {
        return Ok(Err(Damage::NotSqlite(problem)));
    }
    file.sync_all().map_err(RestoreError::io("sync", &path))?;
    Ok(Ok(()))
}

/// The fields of the database header that must agree with what the files said of it.
fn check_header(header: &[u8; 100], page_size: PageSize) -> Result<(), &'static str> {
    if !header.starts_with(DB_MAGIC) {
        return Err("its first page is not that of a database");
    }
    let size =
        header.get(16..18).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
    if size.and_then(PageSize::from_db_header) != Some(page_size) {
        return Err("its first page says another page size");
    }
    Ok(())
}

/// The size in the header counts only if it was written together with the change counter.
fn check_size(header: &[u8; 100], commit: u32) -> Result<(), &'static str> {
    let field = |at: usize| {
        header.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_be_bytes(*b))
    };
    let pages = field(28);
    let counter = field(24);
    let valid_for = field(92);
    if counter == valid_for && pages != Some(0) && pages != Some(commit) {
        return Err("its first page says another number of pages");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; 100] {
        let mut header = [0; 100];
        header[..16].copy_from_slice(DB_MAGIC);
        header[16..18].copy_from_slice(&4096u16.to_be_bytes());
        header[28..32].copy_from_slice(&7u32.to_be_bytes());
        header
    }

    #[test]
    fn what_is_no_database() {
        let size = |bytes| PageSize::new(bytes).unwrap();
        assert_eq!(check_header(&header(), size(4096)), Ok(()));
        assert!(check_header(&header(), size(512)).is_err());
        assert_eq!(check_size(&header(), 7), Ok(()));
        assert!(check_size(&header(), 8).is_err());
        let mut old_writer = header();
        old_writer[27] = 1; // written without the size: the change counter went on
        assert_eq!(check_size(&old_writer, 8), Ok(()));
        let mut unset = header();
        unset[31] = 0;
        assert_eq!(check_size(&unset, 8), Ok(()));
        let mut other = header();
        other[3] ^= 1;
        assert!(check_header(&other, size(4096)).is_err());
        let mut largest = header();
        largest[16..18].copy_from_slice(&1u16.to_be_bytes());
        assert_eq!(check_header(&largest, size(65536)), Ok(()));
    }
}
