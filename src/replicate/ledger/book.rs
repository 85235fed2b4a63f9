//! What is known of each replicated database, and up to which look everything is in the replica. Pure: it
//! sees the disk through `Observe` only.

use crate::sqlite::index_header::IndexHeader;

/// What an evaluation may look at, by the number of the database.
pub trait Observe {
    /// None: there is no sound one, or a writer is changing it.
    fn header(&self, database: usize) -> Option<IndexHeader>;
    /// Whether the database's paths name the files that its session has open.
    fn same_files(&mut self, database: usize) -> bool;
    /// Whether there is no database, or an empty one that nothing is written to.
    fn absent(&self, database: usize) -> bool;
    /// Whether there is no WAL, or an empty one.
    fn without_wal(&self, database: usize) -> bool;
    /// Whether there may be a database that is none of those.
    fn newcomer(&mut self) -> bool;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No session knows what is committed.
    Unknown,
    /// It will not be replicated in this run.
    NotReplicated,
    Fenced,
    /// The app has not created it.
    Absent,
    /// Everything that was committed when the wal-index had this header is in the replica.
    Proven(IndexHeader),
    /// The same, after the last flush has closed the database.
    Closed(IndexHeader),
}

#[derive(Debug)]
pub struct Entry {
    pub state: State,
    /// The replica can be restored.
    pub restorable: bool,
    /// Everything that was committed at this look is in the replica.
    uploaded: u64,
}

impl Entry {
    /// Whether nothing is committed that is not in the replica.
    fn is_durable(&self, database: usize, now: &mut impl Observe) -> bool {
        match &self.state {
            State::Unknown | State::NotReplicated | State::Fenced => false,
            State::Absent => now.absent(database),
            State::Proven(header) => {
                self.restorable && now.header(database).as_ref() == Some(header) && now.same_files(database)
            }
            State::Closed(header) => {
                let unchanged = now.header(database).as_ref() == Some(header) && now.same_files(database);
                unchanged || now.without_wal(database)
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Book {
    pub entries: Vec<Entry>,
    /// All databases of the start have entries.
    pub complete: bool,
    looks: u64,
    /// The last look that found something open.
    open: u64,
    /// At this look there was no database without an entry.
    all_known: u64,
}

impl Book {
    /// A database that is replicated from now on, or again: what is uploaded of it stays uploaded.
    pub fn enter(&mut self, database: usize, state: State) {
        match self.entries.get_mut(database) {
            Some(entry) => entry.state = state,
            None => self.entries.push(Entry { state, restorable: false, uploaded: 0 }),
        }
    }

    pub fn set_restorable(&mut self, database: usize, restorable: bool) {
        self.entries.get_mut(database).into_iter().for_each(|entry| entry.restorable = restorable);
    }

    /// The last flush is complete: nothing is committed any more.
    pub fn close(&mut self, database: usize) {
        if let Some(entry) = self.entries.get_mut(database).filter(|entry| entry.restorable)
            && let State::Proven(header) = entry.state
        {
            entry.state = State::Closed(header);
        }
    }

    /// False: what the session has proven stays proven, because it has closed the database.
    pub fn end_session(&mut self, database: usize) -> bool {
        let Some(entry) = self.entries.get_mut(database) else { return true };
        match entry.state {
            State::Closed(_) => return false,
            State::Proven(_) => entry.state = State::Unknown,
            State::Unknown | State::NotReplicated | State::Fenced | State::Absent => {}
        }
        true
    }

    /// None: everything is in the replica. Otherwise the look's number.
    pub fn look(&mut self, now: &mut impl Observe) -> Option<u64> {
        self.looks += 1;
        if self.evaluate(now) {
            return None;
        }
        self.open = self.looks;
        Some(self.open)
    }

    /// Brings the entries up to the last look. Whether everything is in the replica.
    pub fn evaluate(&mut self, now: &mut impl Observe) -> bool {
        let mut all = self.complete && !now.newcomer();
        if all {
            self.all_known = self.looks;
        }
        for (database, entry) in self.entries.iter_mut().enumerate() {
            if entry.is_durable(database, now) {
                entry.uploaded = self.looks;
            } else {
                all = false;
            }
        }
        all
    }

    /// What a capture that begins now will cover.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Everything that was committed at this look is in the replica.
    pub fn uploaded_to(&mut self, database: usize, look: u64) {
        if let Some(entry) = self.entries.get_mut(database).filter(|entry| entry.restorable) {
            entry.uploaded = entry.uploaded.max(look);
        }
    }

    /// Everything that was committed at this look, in all databases, is in the replica.
    pub fn covered(&self) -> u64 {
        self.entries.iter().map(|entry| entry.uploaded).fold(self.all_known, u64::min)
    }

    /// Whether a look has found something that is still open.
    pub fn is_awaited(&self) -> bool {
        self.covered() < self.open
    }

    /// Whether a look has found something in this database that is still open.
    pub fn is_open(&self, database: usize) -> bool {
        self.entries.get(database).is_some_and(|entry| entry.uploaded < self.open)
    }

    pub fn is_fenced(&self) -> bool {
        self.entries.iter().any(|entry| entry.state == State::Fenced)
    }
}
