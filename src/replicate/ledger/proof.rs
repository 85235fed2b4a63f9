//! A session's side of the ledger: which header was current before a capture, and what is proven once its
//! upload has arrived. Dropped with the session: without one nothing can be proven.

use super::book::{Observe, State};
use super::reach::{Reach, UploadedPlace, reach};
use super::{Inner, LedgerEntry, Session};
use crate::model::PageSize;
use crate::sqlite::files::Named;
use crate::sqlite::index_header::IndexHeader;
use crate::sqlite::wal_index::IndexMap;
use crate::wal::Cursor;

pub struct Proof {
    entry: LedgerEntry,
    /// The session's number. Work on the disk may outlive its session: it tells nothing about the next one.
    session: u64,
    page_size: PageSize,
    /// Before the last capture, until its upload has covered it.
    mark: Option<Mark>,
}

struct Mark {
    look: u64,
    header: IndexHeader,
    /// A segment of the capture is uploaded. Before, what is uploaded is of an earlier one, which may have
    /// captured what a killed writer left and the next one has written over.
    arrived: bool,
}

impl Proof {
    pub fn begin(entry: LedgerEntry, map: IndexMap, files: Named, page_size: PageSize) -> Proof {
        let session = entry.ledger.change(|inner| {
            inner.sessions += 1;
            let number = inner.sessions;
            inner.book.enter(entry.database, State::Unknown);
            inner.book.set_restorable(entry.database, false);
            if let Some(database) = inner.databases.get_mut(entry.database) {
                database.session = Some(Session { number, map, files, watched: false, suspect: true });
            }
            number
        });
        Proof { entry, session, page_size, mark: None }
    }

    /// A capture begins, and nothing waits for its upload. What it finds covers each look that came before.
    pub fn before_capture(&mut self) {
        let LedgerEntry { ledger, database } = &self.entry;
        let inner = &mut *ledger.inner();
        if let Some(task) = inner.databases.get_mut(*database).and_then(|database| database.task.as_mut()) {
            task.asked = false;
        }
        inner.begin();
        let look = inner.book.looks();
        let header = inner.evaluate(|_, now| now.header(*database));
        self.mark = header.map(|header| Mark { look, header, arrived: false });
    }

    /// A segment is in the replica.
    pub fn arrived(&mut self) {
        self.mark.iter_mut().for_each(|mark| mark.arrived = true);
    }

    /// Some work on the disk is done. Everything up to `to` is in the replica; `all`: so is everything that
    /// is captured, and the hold guards what follows.
    pub fn update(&mut self, to: Option<Cursor>, all: bool, in_force: impl Fn() -> bool) {
        let page_size = self.page_size;
        let is_uploaded = |header: &IndexHeader, before_capture: bool| {
            let end = header.end(page_size).map(|end| reach(&end, UploadedPlace { to, all, before_capture }));
            match end {
                Some(Reach::Uploaded) => true,
                Some(Reach::UploadedUnderHold) => in_force(),
                Some(Reach::Open) | None => false,
            }
        };
        let covered = self.mark.take_if(|mark| (all || mark.arrived) && is_uploaded(&mark.header, true));
        self.change(|inner, database| {
            let (same_files, now) = inner.evaluate(|_, now| (now.same_files(database), now.header(database)));
            if !same_files {
                return;
            }
            let proven = now.filter(|header| is_uploaded(header, false));
            if let Some(header) = proven.or(covered.as_ref().map(|mark| mark.header)) {
                inner.book.enter(database, State::Proven(header));
            }
            if let Some(mark) = &covered {
                inner.book.uploaded_to(database, mark.look);
            }
        });
    }

    /// A look has found something in this database that is not proven yet.
    pub fn is_open(&self) -> bool {
        self.entry.is_open()
    }

    /// The last flush is complete and the database is closed.
    pub fn close(self) {
        self.change(|inner, database| inner.book.close(database));
    }

    /// Does nothing when the task has gone on without this session.
    fn change(&self, change: impl FnOnce(&mut Inner, usize)) {
        let LedgerEntry { ledger, database } = &self.entry;
        ledger.change(|inner| {
            let known = inner.databases.get(*database).and_then(|database| database.session.as_ref());
            if known.is_some_and(|known| known.number == self.session) {
                change(inner, *database);
            }
        });
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        self.change(|inner, database| {
            if inner.book.end_session(database) {
                inner.databases.get_mut(database).into_iter().for_each(|database| database.session = None);
            }
        });
    }
}
