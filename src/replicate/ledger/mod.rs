//! Answers "is everything that the app has committed in the replica?" for all databases at once, from any
//! thread. `book` ◦ knows what is proven; `reach` ◦ decides whether an upload covers a wal-index header;
//! `proof` is a session's side; `changes` notices files that are replaced and databases that appear. It takes
//! no lock that an app could meet: it reads wal-index headers and names.
//!
//! A look compares each header with the last one that was proven. Equal: nothing was committed since.
//! Otherwise only the database's task knows, and it says so after each piece of its work: a header changes
//! without a commit, too.

mod book;
mod changes;
mod proof;
mod reach;
#[cfg(test)]
mod tests;

pub use changes::Wanted;
pub(super) use proof::Proof;

use super::mailbox::Message;
use super::status::StatusCell;
use crate::model::{DbPath, Durability, DurabilityLedger, Fenced, Ticket};
use crate::sqlite::files::{self, Named};
use crate::sqlite::index_header::IndexHeader;
use crate::sqlite::wal_index::{HeaderReader, IndexMap};
use book::{Book, Observe, State};
use changes::{Changes, Suspect};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

pub struct Ledger {
    inner: Mutex<Inner>,
    reached: watch::Sender<Reached>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    /// Everything that was committed at this look is in the replica.
    look: u64,
    fenced: bool,
}

struct Inner {
    book: Book,
    databases: Vec<Database>,
    changes: Changes,
    reader: HeaderReader,
    headers: Vec<Option<IndexHeader>>,
    /// So many have begun.
    sessions: u64,
}

/// One database's entry beside that in the book.
struct Database {
    db: DbPath,
    wal: PathBuf,
    journal: PathBuf,
    /// Why it is not replicated.
    refused: Option<String>,
    session: Option<Session>,
    task: Option<TaskSide>,
    /// Where its header is among those that were read.
    at: Option<usize>,
}

/// What a session has open.
struct Session {
    number: u64,
    map: IndexMap,
    files: Named,
    /// Whether a change of the names is reported.
    watched: bool,
    /// The names may have changed.
    suspect: bool,
}

struct TaskSide {
    mailbox: mpsc::WeakUnboundedSender<Message>,
    status: Arc<StatusCell>,
    /// It was asked, and has not begun a capture since.
    asked: bool,
}

impl Ledger {
    pub fn new() -> Arc<Ledger> {
        let inner = Inner {
            book: Book::default(),
            databases: Vec::new(),
            changes: Changes::new(),
            reader: HeaderReader::new(),
            headers: Vec::new(),
            sessions: 0,
        };
        Arc::new(Ledger { inner: Mutex::new(inner), reached: watch::Sender::default() })
    }

    /// Held for some microseconds by a look or a database's task; an app never meets it.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a database that a task replicates from now on.
    pub(super) fn enter(
        self: &Arc<Ledger>,
        db: &DbPath,
        status: &Arc<StatusCell>,
        mailbox: &mpsc::UnboundedSender<Message>,
    ) -> LedgerEntry {
        let mut inner = self.inner();
        let database = inner.database(db, State::Unknown);
        if let Some(entry) = inner.databases.get_mut(database) {
            let mailbox = mailbox.downgrade();
            let status = Arc::clone(status);
            entry.refused = None;
            entry.task = Some(TaskSide { mailbox, status, asked: false });
        }
        LedgerEntry { ledger: Arc::clone(self), database }
    }

    /// A database that is not replicated in this run, and why.
    pub fn refuse(&self, db: &DbPath, why: &str) {
        let mut inner = self.inner();
        let database = inner.database(db, State::NotReplicated);
        if let Some(entry) = inner.databases.get_mut(database) {
            entry.refused = Some(why.to_owned());
        }
    }

    /// A database that does not exist, and that is not replicated if the app creates it.
    pub fn leave_out(&self, db: &DbPath) {
        self.inner().database(db, State::Absent);
    }

    /// A database that appears in this directory, or in a subdirectory that is wanted, is looked for at each
    /// look.
    pub fn watch_directory(&self, path: PathBuf, wanted: Wanted) {
        self.inner().changes.watch_directory(path, wanted);
    }

    /// All databases of the start have entries now. Before, nothing can be proven.
    pub fn complete(&self) {
        self.change(|inner| inner.book.complete = true);
    }

    /// Looks again for those that wait: a database that had appeared may be gone.
    pub fn poll(&self) {
        self.change(|_| {});
    }

    /// Changes what is known; those that wait for it are woken.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        inner.begin();
        let changed = change(&mut inner);
        inner.evaluate(|book, now| book.evaluate(now));
        self.tell(&inner);
        changed
    }

    /// Under the lock, so that a later value is never replaced by an earlier one.
    fn tell(&self, inner: &Inner) {
        let reached = Reached { look: inner.book.covered(), fenced: inner.book.is_fenced() };
        self.reached.send_if_modified(|known| {
            let is_new = *known != reached;
            *known = reached;
            is_new
        });
    }
}

impl DurabilityLedger for Ledger {
    fn look(&self) -> Durability {
        let mut inner = self.inner();
        inner.begin();
        let waiting = inner.book.is_awaited();
        let open = inner.evaluate(|book, now| book.look(now));
        if waiting {
            self.tell(&inner);
        }
        open.map_or(Durability::Durable, |look| Durability::Pending(Ticket(look)))
    }

    fn request_upload(&self) {
        let Inner { book, databases, .. } = &mut *self.inner();
        for (database, entry) in databases.iter_mut().enumerate() {
            let Some(task) = entry.task.as_mut().filter(|task| !task.asked && book.is_open(database)) else {
                continue;
            };
            let sent = task.mailbox.upgrade().map(|mailbox| mailbox.send(Message::UploadNow));
            task.asked = sent.is_some_and(|sent| sent.is_ok());
        }
    }

    fn uploaded(&self, ticket: Ticket) -> Pin<Box<dyn Future<Output = Result<(), Fenced>> + Send + '_>> {
        Box::pin(async move {
            let mut reached = self.reached.subscribe();
            let done = reached.wait_for(|reached| reached.fenced || reached.look >= ticket.0).await;
            // The sender is this ledger's own.
            let fenced = done.is_ok_and(|reached| reached.fenced);
            if fenced { Err(Fenced) } else { Ok(()) }
        })
    }

    fn unprovable(&self) -> Vec<(String, String)> {
        let inner = &mut *self.inner();
        inner.begin();
        inner.unprovable()
    }
}

impl Inner {
    /// The number of a database, which stays the same when it is replicated anew.
    fn database(&mut self, db: &DbPath, state: State) -> usize {
        let known = self.databases.iter().position(|entry| entry.db == *db);
        let database = known.unwrap_or(self.databases.len());
        if known.is_none() {
            let wal = db.wal();
            let journal = db.journal();
            let db = db.clone();
            self.databases.push(Database {
                db,
                wal,
                journal,
                refused: None,
                session: None,
                task: None,
                at: None,
            });
        }
        self.book.enter(database, state);
        database
    }

    /// There is no session any more.
    fn end(&mut self, database: usize, state: State) {
        self.book.enter(database, state);
        self.databases.get_mut(database).into_iter().for_each(|database| database.session = None);
    }

    /// Notes what has changed since the last time, and reads all headers.
    fn begin(&mut self) {
        let Inner { databases, changes, reader, headers, .. } = self;
        changes.drain(|suspect| match suspect {
            Suspect::All => databases.iter_mut().flat_map(|entry| &mut entry.session).for_each(|session| {
                session.watched = false;
                session.suspect = true;
            }),
            Suspect::One(database) => {
                let session = databases.get_mut(database).and_then(|entry| entry.session.as_mut());
                session.into_iter().for_each(|session| session.suspect = true);
            }
        });
        let mut count = 0;
        for entry in databases.iter_mut() {
            entry.at = entry.session.is_some().then_some(count);
            count += usize::from(entry.session.is_some());
        }
        reader.read(databases.iter().flat_map(|entry| &entry.session).map(|session| &session.map), headers);
    }

    fn evaluate<T>(&mut self, by: impl FnOnce(&mut Book, &mut Now<'_>) -> T) -> T {
        let Inner { book, databases, changes, headers, .. } = self;
        by(book, &mut Now { databases, changes, headers })
    }

    fn unprovable(&mut self) -> Vec<(String, String)> {
        let Inner { book, databases, changes, headers, .. } = self;
        let mut found = Vec::new();
        if !book.complete {
            found.push((String::new(), "replication has not begun yet".to_owned()));
        }
        let mut now = Now { databases, changes, headers };
        if let Some(path) = now.first_newcomer() {
            found.push((path.display().to_string(), "it has appeared and is not replicated yet".to_owned()));
        }
        for (database, entry) in book.entries.iter().enumerate() {
            if let Some(why) = now.why_unprovable(database, entry) {
                let db = now.databases.get(database).map(|entry| entry.db.to_string());
                found.push((db.unwrap_or_default(), why));
            }
        }
        found
    }
}

/// The disk as it is now.
struct Now<'a> {
    databases: &'a mut Vec<Database>,
    changes: &'a mut Changes,
    headers: &'a [Option<IndexHeader>],
}

impl Now<'_> {
    fn first_newcomer(&mut self) -> Option<&Path> {
        let Now { databases, changes, .. } = self;
        changes.newcomer(|path| databases.iter().any(|entry| entry.db.as_path() == path))
    }

    /// None: what is committed can be known.
    fn why_unprovable(&mut self, database: usize, entry: &book::Entry) -> Option<String> {
        let known = self.databases.get(database)?;
        let status = known.task.as_ref().map(|task| task.status.read());
        let said = status
            .and_then(|status| status.fenced.or(status.replaced).or(status.problem).or(status.unrestorable));
        let state = entry.state.clone();
        let refused = known.refused.clone();
        let or = |otherwise: &str| Some(said.unwrap_or_else(|| otherwise.to_owned()));
        match state {
            State::NotReplicated => Some(refused.unwrap_or_default()),
            State::Fenced => or("another writer has its replica"),
            State::Absent if self.absent(database) => None,
            State::Unknown | State::Absent => or("its replication has not begun yet"),
            State::Proven(_) if !self.same_files(database) => {
                Some("its files were replaced or removed".to_owned())
            }
            State::Proven(_) if !entry.restorable => or("its replica cannot be restored yet"),
            State::Proven(_) | State::Closed(_) => None,
        }
    }
}

impl Observe for Now<'_> {
    fn header(&self, database: usize) -> Option<IndexHeader> {
        let at = self.databases.get(database)?.at?;
        *self.headers.get(at)?
    }

    fn same_files(&mut self, database: usize) -> bool {
        let Now { databases, changes, .. } = self;
        let Some(entry) = databases.get_mut(database) else { return false };
        let Some(session) = entry.session.as_mut() else { return false };
        if session.suspect {
            session.watched = session.watched || changes.watch(&entry.db, database);
            let unchanged = session.files.unchanged();
            session.suspect = !(unchanged && session.watched);
            return unchanged;
        }
        true
    }

    fn absent(&self, database: usize) -> bool {
        let known = self.databases.get(database);
        known.is_some_and(|entry| {
            [entry.db.as_path(), &entry.wal, &entry.journal].into_iter().all(files::is_empty)
        })
    }

    fn without_wal(&self, database: usize) -> bool {
        self.databases.get(database).is_some_and(|entry| files::is_empty(&entry.wal))
    }

    fn newcomer(&mut self) -> bool {
        self.first_newcomer().is_some()
    }
}

/// A database's task and its session tell the ledger what they know.
#[derive(Clone)]
pub(super) struct LedgerEntry {
    ledger: Arc<Ledger>,
    database: usize,
}

impl LedgerEntry {
    /// The app has not created the database.
    pub fn absent(&self) {
        self.set(State::Absent);
    }

    /// What the app commits now may be lost.
    pub fn unknown(&self) {
        self.set(State::Unknown);
    }

    /// Another writer has the replica.
    pub fn fenced(&self) {
        self.set(State::Fenced);
    }

    /// The replica holds another history, which this late database does not continue.
    pub fn refused(&self, why: &str) {
        self.ledger.change(|inner| {
            inner.end(self.database, State::NotReplicated);
            if let Some(entry) = inner.databases.get_mut(self.database) {
                entry.refused = Some(why.to_owned());
            }
        });
    }

    /// Whether the newest state in the replica can be restored.
    pub fn restorable(&self, restorable: bool) {
        self.ledger.change(|inner| inner.book.set_restorable(self.database, restorable));
    }

    /// A look has found something in this database that is not proven yet.
    pub fn is_open(&self) -> bool {
        self.ledger.inner().book.is_open(self.database)
    }

    fn set(&self, state: State) {
        self.ledger.change(|inner| inner.end(self.database, state));
    }
}
