//! A copy that no process has open: pages are written straight to their places. The record says so before the
//! first page is written, so that a file that holds pages of two positions is never used; the step is then
//! made again, or the database is restored anew.

use super::error::{Anew, FollowError};
use super::fault;
use super::stand::{Record, Scan, Stand, locate};
use super::step::{self, Step};
use crate::lineage::{CommitFields, FollowMark, FollowStep};
use crate::model::{DbChecksum, DbPath, PageNo, PageSize, page_checksum};
use crate::restore::RestoreError;
use crate::sqlite::users::users;
use crate::sqlite::{FileStamp, alone, files};
use std::fs::File;
use std::os::unix::fs::FileExt;

const READ_BYTES: usize = 256 << 10;

pub struct InPlace {
    db: DbPath,
    /// After the last write of ours.
    stamp: FileStamp,
}

impl InPlace {
    /// Takes what is in a WAL that was left, and reads the whole file: it must be what the record says.
    pub fn open(record: &Record, stand: Stand, mark: &FollowMark) -> Result<(InPlace, Stand), FollowError> {
        let db = &record.db;
        if !complete(db)? {
            if stand.torn.is_some() {
                return Err(Anew::Touched { txid: stand.txid }.into());
            }
            alone::absorb_wal(db).map_err(|source| RestoreError::Copy { source })?;
        }
        let file = lock(db)?;
        let place = |stamp| InPlace { db: db.clone(), stamp };
        if stand.torn.is_some() {
            return Ok((place(stamp(db, &file)?), stand));
        }
        let scan = scan(db, &file, stand.page_size)?;
        let Some((stand, fields)) = locate(&scan, &stand, mark) else {
            return Err(Anew::Content { txid: stand.txid }.into());
        };
        if fields != scan.own_fields() {
            put_fields(db, &file, stand.page_size, fields)?;
        }
        if *mark != FollowMark::default() {
            record.end(&stand, None)?;
        }
        Ok((place(stamp(db, &file)?), stand))
    }

    /// Applies one step. `stand` is torn as soon as the record says so.
    pub fn apply(&mut self, record: &Record, stand: &mut Stand, step: &Step) -> Result<(), FollowError> {
        let db = self.db.clone();
        let file = lock(&db)?;
        if !complete(&db)? || stamp(&db, &file)?.written() != self.stamp.written() {
            return Err(Anew::Touched { txid: stand.txid }.into());
        }
        let to = step.header().range.max;
        let expected = match stand.torn {
            None => Some(exchange(&db, &file, stand, step)?),
            Some(_) => step.stated(),
        };
        let torn = stand.torn.map_or(to, |torn| torn.max(to));
        let mark = FollowStep {
            txid: torn.0,
            in_place: true,
            commit_fields: None,
            db_checksum: expected.map_or(0, |sum| sum.get()),
            file_checksum: step.trailer().file.0,
        };
        fault::point(&db)?;
        record.begin(stand, None, mark)?;
        let again = stand.torn.replace(torn).is_some();
        fault::point(&db)?;
        write(&db, &file, step)?;
        fault::point(&db)?;
        self.stamp = stamp(&db, &file)?;
        let found = match expected {
            Some(expected) if !again => expected,
            _ if to < torn => DbChecksum::default(),
            expected => {
                let found = scan(&db, &file, step.header().page_size)?.total(None);
                if expected.is_some_and(|expected| expected != found) {
                    return Err(Anew::OtherHistory { file: step.key().to_owned(), txid: stand.txid }.into());
                }
                found
            }
        };
        let torn = Some(torn).filter(|torn| to < *torn);
        *stand = Stand { torn, ..Stand::after(step.header(), step.trailer(), found) };
        Ok(())
    }

    /// What is wrong with the structure of the database.
    pub fn structure_problem(&self) -> Result<Option<String>, RestoreError> {
        alone::structure_problem(&self.db).map_err(|source| RestoreError::Copy { source })
    }
}

fn complete(db: &DbPath) -> Result<bool, RestoreError> {
    alone::is_complete(db).map_err(RestoreError::io("look beside", db.as_path()))
}

fn lock(db: &DbPath) -> Result<File, RestoreError> {
    let locked = alone::lock_alone(db).map_err(RestoreError::io("open", db.as_path()))?;
    locked.ok_or_else(|| {
        let users = users(db.as_path()).map(|users| users.to_string()).unwrap_or_default();
        RestoreError::InUse { path: db.as_path().to_owned(), users }
    })
}

fn stamp(db: &DbPath, file: &File) -> Result<FileStamp, RestoreError> {
    FileStamp::of(file).map_err(RestoreError::io("look at", db.as_path()))
}

fn scan(db: &DbPath, file: &File, page_size: PageSize) -> Result<Scan, RestoreError> {
    let mut scan = Scan::default();
    let mut buffer = vec![0; READ_BYTES.max(page_size.bytes())];
    let lock = page_size.lock_page();
    let mut page = PageNo(1);
    loop {
        let read = files::read_full(file, page_size.offset_of(page), &mut buffer);
        let got = read.map_err(RestoreError::io("read", db.as_path()))?;
        for data in buffer.get(..got).unwrap_or_default().chunks_exact(page_size.bytes()) {
            scan.add(page, data, lock);
            page = PageNo(page.0.saturating_add(1));
        }
        if got < buffer.len() {
            return Ok(scan);
        }
    }
}

/// Only the fields: read again, the file proves the same before and after.
fn put_fields(
    db: &DbPath,
    file: &File,
    size: PageSize,
    fields: Option<CommitFields>,
) -> Result<(), RestoreError> {
    let mut first = vec![0; size.bytes()];
    let io = |operation| RestoreError::io(operation, db.as_path());
    file.read_exact_at(&mut first, 0).map_err(io("read"))?;
    fields.iter().for_each(|fields| fields.put(&mut first));
    file.write_all_at(&first, 0).map_err(io("write"))?;
    file.sync_all().map_err(io("sync"))
}

/// The checksum after the step, by the pages that the file has now and those that it will get.
fn exchange(db: &DbPath, file: &File, stand: &Stand, step: &Step) -> Result<DbChecksum, FollowError> {
    let mut old = vec![0; stand.page_size.bytes()];
    let before = |page: PageNo| {
        let read = file.read_exact_at(&mut old, stand.page_size.offset_of(page));
        read.map_err(RestoreError::io("read", db.as_path())).map(|()| page_checksum(page, &old))
    };
    step::exchange(stand, step, before, |_, _| Ok(()))
}

/// A page that several files bring has the last one's content in the end.
fn write(db: &DbPath, file: &File, step: &Step) -> Result<(), RestoreError> {
    let size = step.header().page_size;
    let io = |operation| RestoreError::io(operation, db.as_path());
    for one in step.files() {
        one.pages(|page, data| {
            file.write_all_at(data, size.offset_of(page)).map_err(io("write"))?;
            fault::point(db)
        })?;
    }
    file.set_len(u64::from(step.header().commit) * u64::from(size.get())).map_err(io("resize"))?;
    file.sync_all().map_err(io("sync"))
}
