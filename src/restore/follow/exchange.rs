//! Brings a copy from which nothing leads on to the state of another file, in one transaction of SQLite:
//! readers see the old state or the new one, and keep their connections. Only pages that differ are written.

use super::error::{Anew, FollowError};
use super::fault;
use super::stand::{self, Record};
use super::through_sqlite::says_size;
use crate::lineage::{CommitFields, FollowStep, state_file};
use crate::model::{DbPath, PageNo, PageSize};
use crate::restore::RestoreError;
use crate::rights;
use crate::sqlite::SqliteError;
use crate::sqlite::pages::{Pages, Transaction};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The copy has the other file's state. As long as this lives, readers that may not write find its WAL.
pub struct Exchanged {
    _open: Pages,
    /// Pages that were written, and bytes of them.
    pub pages: u32,
    pub bytes: u64,
}

/// `from` was restored from the replica, and its record says at which position; no process has it open.
/// Blocks. `RestoreAnew`: a transaction cannot do it (another page size); the copy is as it was.
pub fn exchange(db: &DbPath, replica: &str, from: &DbPath) -> Result<Exchanged, FollowError> {
    let (new, _) = stand::load(from, replica)?;
    let name = || from.as_path().display().to_string();
    let failed_to_read = |error| FollowError::from(RestoreError::io("read", from.as_path())(error));
    let source = Source::open(from, new.page_size).map_err(failed_to_read)?;
    let open = Pages::open(db).map_err(failed)?;
    if open.page_size() != new.page_size {
        return Err(Anew::PageSize { file: name() }.into());
    }
    let first = source.page(PageNo(1)).map_err(failed_to_read)?;
    if !says_size(Some(&first), source.pages, 0) {
        return Err(Anew::OldHeader { file: name() }.into());
    }
    let record = Record { db: db.clone(), replica: replica.to_owned(), node_id: state_file::new_node_id() };
    let fields = CommitFields::of(&first);
    let mut transaction = open.begin().map_err(failed)?;
    let had = open.count().map_err(failed)?;
    let written = write(&mut transaction, &source).map_err(|error| match error {
        Failure::Read(error) => failed_to_read(error),
        Failure::Write(error) => failed(error).into(),
    })?;
    let end = (source.pages < had).then_some(source.pages);
    transaction.finish(Some(&first), end).map_err(failed)?;
    fault::point(db)?;
    // After a kill the content tells which of the two it has. Without a record of the old one it is restored
    // once more.
    if let Ok((old, mark)) = stand::load(db, replica) {
        let step = FollowStep {
            txid: new.txid.0,
            in_place: false,
            commit_fields: fields,
            db_checksum: new.db_checksum.get(),
            file_checksum: new.file_checksum.map_or(0, |checksum| checksum.0),
        };
        record.begin(&old, mark.commit_fields, step)?;
    }
    fault::point(db)?;
    transaction.commit().map_err(failed)?;
    fault::point(db)?;
    record.end(&new, fields)?;
    let bytes = u64::from(written) * new.page_size.bytes() as u64;
    Ok(Exchanged { _open: open, pages: written, bytes })
}

enum Failure {
    Read(io::Error),
    Write(SqliteError),
}

/// Writes the pages that differ, without the first. Returns how many.
fn write(transaction: &mut Transaction<'_>, source: &Source) -> Result<u32, Failure> {
    let lock = source.size.lock_page();
    let mut there = Vec::new();
    let mut written = 0;
    for page in (2..=source.pages).map(PageNo).filter(|page| *page != lock) {
        let new = source.page(page).map_err(Failure::Read)?;
        let exists = transaction.read(page, &mut there).map_err(Failure::Write)?;
        if !exists || there != new {
            transaction.write(page, &new).map_err(Failure::Write)?;
            written += 1;
        }
    }
    Ok(written)
}

struct Source {
    file: File,
    size: PageSize,
    pages: u32,
}

impl Source {
    #[expect(clippy::disallowed_methods, reason = "no process has this file open")]
    fn open(path: &DbPath, size: PageSize) -> io::Result<Source> {
        let file = rights::within(path, || File::open(path.as_path()))?;
        let pages = u32::try_from(file.metadata()?.len() / size.bytes() as u64).unwrap_or(u32::MAX);
        Ok(Source { file, size, pages })
    }

    fn page(&self, page: PageNo) -> io::Result<Vec<u8>> {
        let mut data = vec![0; self.size.bytes()];
        let offset = u64::from(page.0.saturating_sub(1)) * self.size.bytes() as u64;
        self.file.read_exact_at(&mut data, offset)?;
        Ok(data)
    }
}

fn failed(source: SqliteError) -> RestoreError {
    RestoreError::Copy { source }
}
