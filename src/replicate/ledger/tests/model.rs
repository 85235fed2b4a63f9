//! Random schedules of what an app does to a WAL and of what a session does with it, on the real ledger over
//! made-up `-shm` files. The judge: nothing is durable, and no ticket is resolved, while a commit of before
//! the look is missing in the replica; and once everything is uploaded, everything is.

use super::super::{Ledger, LedgerEntry, Proof};
use crate::model::{DbPath, Durability, DurabilityLedger, PageSize, Ticket};
use crate::replicate::mailbox::Message;
use crate::replicate::status::StatusCell;
use crate::sqlite::files::{self, Named};
use crate::sqlite::wal_index::IndexMap;
use crate::wal::format::Sums;
use crate::wal::{Cursor, HEADER, Salts, frame_size};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;

/// One frame in the WAL file: its transaction, and whether it ends it.
type Frame = (u32, bool);

/// A place in the WAL: how often it was restarted, and its frames.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    restarts: u32,
    frames: Vec<Frame>,
}

impl Place {
    fn cursor(&self) -> Cursor {
        let offset = HEADER + self.frames.len() as u64 * frame_size(size());
        let sums = self.frames.iter().fold(7u32, |sum, (id, _)| sum.wrapping_mul(31).wrapping_add(*id));
        Cursor { offset, salts: Salts(100 + self.restarts, 5 ^ self.restarts), sums: Sums(sums, 1) }
    }
}

fn size() -> PageSize {
    PageSize::new(4096).unwrap()
}

struct Session {
    proof: Proof,
    captured: Place,
    /// What waits for its upload: transactions, and where the database stands then.
    pending: Vec<(BTreeSet<u32>, Place)>,
    uploaded: Option<Place>,
    skipped: bool,
    /// The hold lets the next writer restart the WAL.
    restartable: bool,
}

struct Database {
    db: DbPath,
    index: File,
    entry: LedgerEntry,
    _task: mpsc::UnboundedReceiver<Message>,
    _mailbox: mpsc::UnboundedSender<Message>,
    file: Place,
    /// What the header says, and how often it was written.
    shown: Place,
    changes: u32,
    /// A writer has written its frames, and this much of the header.
    writing: Option<u8>,
    committed: BTreeSet<u32>,
    replica: BTreeSet<u32>,
    session: Option<Session>,
}

fn header(place: &Place, changes: u32) -> [u8; 48] {
    let mut bytes = [0; 48];
    let cursor = place.cursor();
    bytes[8..12].copy_from_slice(&changes.to_ne_bytes());
    bytes[12] = 1;
    bytes[16..20].copy_from_slice(&(place.frames.len() as u32).to_ne_bytes());
    bytes[24..28].copy_from_slice(&cursor.sums.0.to_ne_bytes());
    bytes[28..32].copy_from_slice(&cursor.sums.1.to_ne_bytes());
    bytes[32..36].copy_from_slice(&cursor.salts.0.to_be_bytes());
    bytes[36..40].copy_from_slice(&cursor.salts.1.to_be_bytes());
    bytes
}

impl Database {
    fn new(ledger: &Arc<Ledger>, db: DbPath) -> Database {
        for path in [db.as_path(), &db.wal(), &db.shm()] {
            std::fs::write(path, [0; 200]).unwrap();
        }
        let index = File::options().read(true).write(true).open(db.shm()).unwrap();
        let (mailbox, task) = mpsc::unbounded_channel();
        let entry = ledger.enter(&db, &Arc::new(StatusCell::default()), &mailbox);
        let file = Place::default();
        let shown = Place::default();
        let mut database = Database {
            db,
            index,
            entry,
            _task: task,
            _mailbox: mailbox,
            file,
            shown,
            changes: 0,
            writing: None,
            committed: BTreeSet::new(),
            replica: BTreeSet::new(),
            session: None,
        };
        database.show(2);
        database
    }

    /// Writes one copy of the header, or both.
    fn show(&mut self, copies: u8) {
        let bytes = header(&self.file, self.changes + 1);
        self.index.write_all_at(&bytes, 48).unwrap();
        if copies == 2 {
            self.index.write_all_at(&bytes, 0).unwrap();
            self.changes += 1;
            self.shown = self.file.clone();
            self.committed.extend(self.file.frames.iter().map(|(id, _)| *id));
        }
    }

    fn recover(&mut self) {
        if self.writing.take().is_some() {
            self.show(2);
        }
    }

    /// A writer begins: over what a killed one left.
    fn write(&mut self, id: u32, frames: u8) {
        if self.writing.is_some() {
            return;
        }
        self.file.frames.truncate(self.shown.frames.len());
        if self.session.as_mut().is_none_or(|session| session.restartable) && self.is_restartable() {
            self.restart();
        }
        self.session.iter_mut().for_each(|session| session.restartable = false);
        self.file.frames.extend((1..=frames).map(|at| (id, at == frames)));
        self.writing = Some(0);
    }

    fn is_restartable(&self) -> bool {
        !self.shown.frames.is_empty()
    }

    fn restart(&mut self) {
        self.file = Place { restarts: self.file.restarts + 1, frames: Vec::new() };
        self.show(2);
    }

    fn go_on_writing(&mut self) {
        match self.writing {
            None => {}
            Some(0) => {
                self.show(1);
                self.writing = Some(1);
            }
            Some(_) => {
                self.show(2);
                self.writing = None;
            }
        }
    }

    /// The writer is killed. With half a header the next reader recovers; else its frames are left for the
    /// next writer.
    fn kill_writer(&mut self) {
        if self.writing == Some(0) {
            self.writing = None;
        }
    }

    /// A checkpoint of the app's that empties the WAL.
    fn truncate(&mut self) {
        let allowed = self.session.as_ref().is_none_or(|session| session.restartable);
        if self.writing.is_none() && allowed && self.file == self.shown {
            self.restart();
        }
    }

    fn begin_session(&mut self) {
        if self.session.is_some() {
            return;
        }
        self.recover();
        let (_, index) = files::keep(&self.db.shm()).unwrap();
        let paths = [self.db.as_path().to_owned(), self.db.wal(), self.db.shm()];
        let named = Named::new(paths.map(|path| (path.clone(), files::identity(&path).unwrap())));
        let proof = Proof::begin(self.entry.clone(), IndexMap::new(&index).unwrap(), named, size());
        // Nobody knows what was written meanwhile: the whole database.
        let pending = vec![(self.committed.clone(), self.shown.clone())];
        let captured = self.shown.clone();
        self.session =
            Some(Session { proof, captured, pending, uploaded: None, skipped: false, restartable: false });
        self.entry.restorable(true);
    }

    fn capture(&mut self, at_most: usize) {
        let shown = self.shown.clone();
        let committed = self.committed.clone();
        let Some(session) = &mut self.session else { return };
        if !session.pending.is_empty() {
            return;
        }
        session.proof.before_capture();
        let captured = &session.captured;
        let from = if captured.restarts == self.file.restarts { captured.frames.len() } else { 0 };
        let first = captured
            .frames
            .last()
            .and_then(|(id, _)| captured.frames.iter().position(|frame| frame.0 == *id));
        let marks =
            first.into_iter().chain(from.checked_sub(1).filter(|_| captured.restarts == self.file.restarts));
        let overwritten = captured.restarts == self.file.restarts
            && marks.into_iter().any(|at| captured.frames.get(at) != self.file.frames.get(at));
        if overwritten || session.skipped {
            // The whole database is compared, as readers see it.
            session.skipped = false;
            session.captured = shown.clone();
            session.pending.push((committed, shown));
            return;
        }
        let mut to = from;
        for (at, frame) in self.file.frames.iter().enumerate().skip(from) {
            if frame.1 {
                to = at + 1;
                if to - from >= at_most {
                    break;
                }
            }
        }
        if to > from {
            let frames = self.file.frames[..to].to_vec();
            let found = frames[from..].iter().map(|(id, _)| *id).collect();
            session.captured = Place { restarts: self.file.restarts, frames };
            session.pending.push((found, session.captured.clone()));
        }
    }

    fn upload(&mut self, at_most: usize) {
        let Some(session) = &mut self.session else { return };
        for (ids, place) in session.pending.drain(..at_most.min(session.pending.len())) {
            self.replica.extend(ids);
            session.uploaded = Some(place);
            session.proof.arrived();
        }
    }

    fn update(&mut self) {
        let Some(session) = &mut self.session else { return };
        let sent = session.pending.is_empty();
        let to = session.uploaded.as_ref().map(Place::cursor);
        session.proof.update(to, sent && !session.skipped, || true);
    }

    /// Lets the WAL be restarted: everything is captured. A skip lets it be restarted all the same.
    fn checkpoint(&mut self, skip: bool) {
        let Some(session) = &mut self.session else { return };
        if self.writing.is_some() {
            return;
        }
        session.skipped |= skip;
        session.restartable = session.skipped || session.captured.cursor() == self.file.cursor();
    }

    fn is_uploaded(&self, committed: &BTreeSet<u32>) -> bool {
        committed.is_subset(&self.replica)
    }
}

struct World {
    ledger: Arc<Ledger>,
    databases: Vec<Database>,
    /// Tickets, and what was committed at the look.
    tickets: Vec<(Ticket, Vec<BTreeSet<u32>>)>,
    _dir: tempfile::TempDir,
}

fn is_resolved(ledger: &Ledger, ticket: Ticket) -> bool {
    let mut uploaded = ledger.uploaded(ticket);
    match uploaded.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.is_ok(),
        Poll::Pending => false,
    }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new();
        let database = |name| Database::new(&ledger, DbPath::new(dir.path().join(name)));
        let databases = vec![database("a.db"), database("b.db")];
        ledger.complete();
        World { ledger, databases, tickets: Vec::new(), _dir: dir }
    }

    fn look(&mut self) {
        match self.ledger.look() {
            Durability::Durable => {
                for database in &self.databases {
                    let missing: Vec<_> = database.committed.difference(&database.replica).collect();
                    assert!(
                        missing.is_empty(),
                        "durable without {missing:?}: {:?} {:?}",
                        database.shown,
                        database.file
                    );
                }
            }
            Durability::Pending(ticket) => {
                let committed = self.databases.iter().map(|database| database.committed.clone()).collect();
                self.tickets.push((ticket, committed));
                self.ledger.request_upload();
            }
        }
    }

    fn judge_tickets(&mut self) {
        let World { ledger, databases, tickets, .. } = self;
        tickets.retain(|(ticket, committed)| {
            let resolved = is_resolved(ledger, *ticket);
            let uploaded =
                databases.iter().zip(committed).all(|(database, committed)| database.is_uploaded(committed));
            assert!(uploaded || !resolved, "{ticket:?} is resolved too early");
            !resolved
        });
    }

    fn act(&mut self, act: Act, id: u32) {
        let database = match act {
            Act::Look => return self.look(),
            Act::On(database, _) => &mut self.databases[database],
        };
        let Act::On(_, step) = act else { return };
        match step {
            Step::Write(frames) => database.write(id, frames),
            Step::GoOn => database.go_on_writing(),
            Step::KillWriter => database.kill_writer(),
            Step::Recover => database.recover(),
            Step::Truncate => database.truncate(),
            Step::Capture(at_most) => database.capture(at_most),
            Step::Upload(at_most) => database.upload(at_most),
            Step::Checkpoint { skip } => database.checkpoint(skip),
            Step::Begin => database.begin_session(),
            Step::End => database.session = None,
            Step::Restorable(restorable) => database.entry.restorable(restorable),
            Step::Turn => {
                database.capture(usize::MAX);
                database.upload(usize::MAX);
            }
        }
        database.update();
    }

    /// Once the app is quiet and the sessions have had their turns, everything is proven.
    fn settle(&mut self) {
        for database in &mut self.databases {
            database.recover();
            database.begin_session();
            database.entry.restorable(true);
            for _ in 0..3 {
                database.capture(usize::MAX);
                database.upload(usize::MAX);
                database.update();
            }
        }
        self.judge_tickets();
        assert!(self.tickets.is_empty(), "{:?} are never resolved", self.tickets);
        assert_eq!(self.ledger.look(), Durability::Durable);
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Look,
    On(usize, Step),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8),
    GoOn,
    KillWriter,
    Recover,
    Truncate,
    Capture(usize),
    Upload(usize),
    Checkpoint { skip: bool },
    Begin,
    End,
    Restorable(bool),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..4).prop_map(Step::Write),
        12 => Just(Step::GoOn),
        4 => Just(Step::KillWriter),
        1 => Just(Step::Recover),
        1 => Just(Step::Truncate),
        6 => (1usize..5).prop_map(Step::Capture),
        6 => (1usize..3).prop_map(Step::Upload),
        2 => prop::bool::weighted(0.2).prop_map(|skip| Step::Checkpoint { skip }),
        2 => Just(Step::Begin),
        1 => Just(Step::End),
        1 => any::<bool>().prop_map(Step::Restorable),
        4 => Just(Step::Turn),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act =
        prop_oneof![1 => Just(Act::Look), 3 => (0usize..2, step()).prop_map(|(on, step)| Act::On(on, step))];
    prop::collection::vec(act, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_durable_too_early_and_everything_in_the_end(acts in acts()) {
        let mut world = World::new();
        for (id, act) in (1..).zip(acts) {
            world.act(act, id);
            world.judge_tickets();
        }
        world.settle();
    }
}

/// The first writer is killed between its frames and its header, and they are uploaded; the second one's
/// transaction is shorter.
#[test]
fn a_commit_over_what_a_killed_writer_left_is_open() {
    let mut world = World::new();
    let on = |step| Act::On(0, step);
    world.databases[1].begin_session();
    world.act(Act::On(1, Step::Turn), 0);
    let left = [Step::Begin, Step::Turn, Step::Write(2), Step::KillWriter, Step::Capture(9)];
    let over = [Step::Write(1), Step::GoOn, Step::Upload(9), Step::GoOn];
    for (id, step) in (1..).zip(left.into_iter().chain(over)) {
        world.act(on(step), id);
    }
    world.act(Act::Look, 10);
    assert_eq!(world.tickets.len(), 1);
    world.act(on(Step::Capture(9)), 11);
    world.judge_tickets();
    assert_eq!(world.tickets.len(), 1, "the database is compared, and that is not uploaded");
    world.act(on(Step::Upload(9)), 12);
    world.judge_tickets();
    assert!(world.tickets.is_empty());
}
