//! A copy that readers in other processes have open: each step becomes one transaction of SQLite. The record
//! names the step before the commit, so that after a kill the copy's content tells which of the two positions
//! it has.

use super::error::{Anew, FollowError};
use super::fault;
use super::stand::{Record, Scan, Stand, locate};
use super::step::{self, Step};
use crate::lineage::{CommitFields, FollowMark, FollowStep};
use crate::model::{DbChecksum, PageNo, page_checksum};
use crate::restore::RestoreError;
use crate::sqlite::SqliteError;
use crate::sqlite::pages::{Pages, Transaction};
use std::cell::RefCell;

/// The WAL is copied into the database from this size on.
const CHECKPOINT_BYTES: u64 = 4 << 20;

pub struct ThroughSqlite {
    pages: Pages,
    /// What the replica's first page has.
    fields: Option<CommitFields>,
    /// Changes when another process writes.
    version: u32,
    /// Bytes that were written since the last checkpoint.
    written: u64,
}

/// A transaction that waits for its commit.
struct Written {
    db_checksum: DbChecksum,
    fields: Option<CommitFields>,
}

impl ThroughSqlite {
    /// Reads the whole copy: it must be what the record says.
    pub fn open(
        record: &Record,
        stand: Stand,
        mark: &FollowMark,
    ) -> Result<(ThroughSqlite, Stand), FollowError> {
        let recorded = stand.txid;
        if stand.torn.is_some() {
            return Err(Anew::Content { txid: recorded }.into());
        }
        let pages = Pages::open(&record.db).map_err(failed)?;
        let version = pages.data_version().map_err(failed)?;
        let found = locate(&scan(&pages)?, &stand, mark);
        let Some((stand, fields)) = found.filter(|_| pages.page_size() == stand.page_size) else {
            return Err(Anew::Content { txid: recorded }.into());
        };
        // From now on it is a copy, also before the first step.
        if stand.txid != recorded || *mark == FollowMark::default() {
            record.end(&stand, fields)?;
        }
        // What a killed follower has left in the WAL is copied, too.
        let written = CHECKPOINT_BYTES;
        Ok((ThroughSqlite { pages, fields, version, written }, stand))
    }

    pub fn apply(&mut self, record: &Record, stand: &mut Stand, step: &Step) -> Result<(), FollowError> {
        self.prove_untouched(stand)?;
        let transaction = RefCell::new(self.pages.begin().map_err(failed)?);
        if self.pages.data_version().map_err(failed)? != self.version {
            return Err(RestoreError::Copy { source: raced(record) }.into());
        }
        let Written { db_checksum, fields } = write(&transaction, stand, step, self.fields)?;
        let mark = FollowStep {
            txid: step.header().range.max.0,
            in_place: false,
            commit_fields: fields,
            db_checksum: db_checksum.get(),
            file_checksum: step.trailer().file.0,
        };
        fault::point(&record.db)?;
        record.begin(stand, self.fields, mark)?;
        fault::point(&record.db)?;
        transaction.into_inner().commit().map_err(failed)?;
        *stand = Stand::after(step.header(), step.trailer(), db_checksum);
        self.fields = fields;
        fault::point(&record.db)?;
        let pages: u64 =
            step.files().map(|file| u64::from(file.header.commit).min(file.length / 14 + 1)).sum();
        self.written += step.header().page_size.bytes() as u64 * pages;
        Ok(())
    }

    /// The record of what was applied. The step that it had before tells the same after a kill.
    pub fn end(&mut self, record: &Record, stand: &Stand) {
        if let Err(error) = record.end(stand, self.fields) {
            tracing::warn!(db = %record.db, "{error}");
        }
        if self.written >= CHECKPOINT_BYTES {
            match self.pages.checkpoint() {
                // Readers may keep the rest from being copied: it is tried again after the next step.
                Ok((frames, copied)) => self.written = if frames == copied { 0 } else { CHECKPOINT_BYTES },
                Err(error) => tracing::debug!(db = %record.db, "{error}"),
            }
        }
    }

    pub fn structure_problem(&self) -> Result<Option<String>, RestoreError> {
        self.pages.structure_problem().map_err(failed)
    }

    /// Another process may have restarted the WAL, and must not have written.
    fn prove_untouched(&mut self, stand: &Stand) -> Result<(), FollowError> {
        let version = self.pages.data_version().map_err(failed)?;
        if version == self.version {
            return Ok(());
        }
        if scan(&self.pages)?.total(self.fields) != stand.db_checksum {
            return Err(Anew::Touched { txid: stand.txid }.into());
        }
        self.version = self.pages.data_version().map_err(failed)?;
        Ok(())
    }
}

fn failed(source: SqliteError) -> RestoreError {
    RestoreError::Copy { source }
}

fn raced(record: &Record) -> SqliteError {
    SqliteError::Busy { operation: "write pages of", subject: record.db.to_string() }
}

fn scan(pages: &Pages) -> Result<Scan, RestoreError> {
    let mut scan = Scan::default();
    let lock = pages.page_size().lock_page();
    pages.each(|page, data| scan.add(page, data, lock)).map_err(failed)?;
    Ok(scan)
}

/// Writes all pages, the first one last, and the new end. `fields`: what the replica's first page had before.
fn write(
    transaction: &RefCell<Transaction<'_>>,
    stand: &Stand,
    step: &Step,
    fields: Option<CommitFields>,
) -> Result<Written, FollowError> {
    let commit = step.header().commit;
    let mut first: Option<Vec<u8>> = None;
    let mut old = Vec::new();
    let before = |page: PageNo| {
        transaction.borrow_mut().read(page, &mut old).map_err(failed)?;
        if page == PageNo(1) {
            fields.iter().for_each(|fields| fields.put(&mut old));
        }
        Ok(page_checksum(page, &old))
    };
    let each = |page: PageNo, data: &[u8]| {
        if page == PageNo(1) {
            first = Some(data.to_vec());
        } else if page.0 <= commit {
            transaction.borrow_mut().write(page, data).map_err(failed)?;
        }
        Ok(())
    };
    let db_checksum = step::exchange::<FollowError>(stand, step, before, each)?;
    if !says_size(first.as_deref(), commit, stand.pages) {
        return Err(Anew::OldHeader { file: step.key().to_owned() }.into());
    }
    transaction
        .borrow_mut()
        .finish(first.as_deref(), (commit < stand.pages).then_some(commit))
        .map_err(failed)?;
    Ok(Written { db_checksum, fields: first.as_deref().and_then(CommitFields::of).or(fields) })
}

/// SQLite makes the size in the first page the one that counts. Only programs older than 2010 leave another
/// one there.
pub fn says_size(first: Option<&[u8]>, commit: u32, before: u32) -> bool {
    match first {
        Some(page) => page.get(28..32) == Some(&commit.to_be_bytes()),
        None => commit == before,
    }
}
