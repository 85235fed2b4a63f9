//! From the WAL to a draft of the next segment. Owns the hold, the cursor and the page checksums of one
//! database. All of it blocks (disk only) and runs off the async thread. Never uploads, never decides when.

mod aside;
pub mod checkpoint;
mod checksum_scan;
mod find;
mod frames;
mod overwritten;
pub mod replaced;
pub mod segment;
#[cfg(test)]
mod tests;
pub mod watch;

use super::sums::PageSums;
use super::upload::WHOLE_BYTES;
use crate::model::{DbChecksum, PageNo, PageSize};
use crate::sqlite::{Missing, ReadHold, SqliteError};
use crate::wal::{
    Committed, Cursor, CursorState, FrameHeader, HEADER, Mark, Open, Salts, WalHeader, frame_size, up_to,
};
use checkpoint::{AfterRound, CheckpointDecision, ROUNDS, Round, after_round, rest_limit};
use frames::{Beginning, beginning, header, is_there, scan};
use overwritten::Checked;
use replaced::{FinishedWal, Replacement};
use segment::{Entry, Files, Pages, SegmentError, list_of};
use std::time::Duration;

pub use aside::Aside;

/// A draft is closed at the first commit that takes it past this many bytes of pages. One transaction may be
/// larger.
const DRAFT_BYTES: usize = 8 << 20;
/// The pause when a checkpoint of the app waits for the hold.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(5);
/// Drafts that a round makes at most.
const DRAFTS: usize = 4;

const SKIPPED: &str = "the WAL had to be started over before everything in it was captured";
const REPLACED: &str = "the WAL was replaced, or restarted more than once";
const GONE: &str = "the WAL was started over before everything in it was captured";

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// What is in the WAL does not continue what was captured.
    #[error("{0}")]
    Broken(&'static str),
    /// The database's files are others now.
    #[error("{0}")]
    Replaced(Box<Replacement>),
}

/// A segment without number and time.
pub struct Draft {
    pub pages: Pages,
    /// Of the whole database at the draft's end.
    pub db_checksum: DbChecksum,
    /// Size of the database in pages.
    pub commit: u32,
    /// The WAL range it was made from; None: the whole database, or a segment without pages.
    pub wal: Option<WalRange>,
    /// Where the draft ends.
    pub end: Option<Cursor>,
    /// It was closed because it has grown enough: there may be more.
    pub full: bool,
}

impl Draft {
    /// Bytes of the pages, uncompressed.
    fn bytes(&self) -> usize {
        self.pages.list.len() * self.pages.files.page_size.bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalRange {
    pub offset: u64,
    pub size: u64,
    pub salts: Salts,
}

/// The captured position and what is known of the database there.
struct Tail {
    /// None: the WAL had no header when everything was captured; the first one that appears continues it.
    cursor: Option<Cursor>,
    /// The WAL was seen empty since: a checkpoint in TRUNCATE mode, which SQLite allows under the hold only
    /// when every frame is captured and copied. Each one counts the salts up, so that they say nothing any
    /// more.
    emptied: bool,
    /// The cursor was put back behind what `commit` and `sums` describe: only a draft that reaches that place
    /// again may state a checksum.
    rewound: bool,
    /// Frames were let go of without being captured, so many bytes: only a comparison of the whole database
    /// may go on.
    skipped: Option<u64>,
    /// The first frame of the last captured transaction, where it is known: a writer that was killed before
    /// anybody could see its transaction leaves it to the next one to write over it, from its beginning.
    last: Option<Mark>,
    /// What is known of a transaction behind the cursor.
    open: Option<Open>,
    commit: u32,
    sums: PageSums,
}

pub struct Capture {
    hold: ReadHold,
    tail: Tail,
    checked: Checked,
}

impl Capture {
    pub fn cursor(&self) -> Option<Cursor> {
        self.tail.cursor
    }

    pub fn page_size(&self) -> PageSize {
        self.hold.page_size()
    }

    pub fn db_checksum(&self) -> DbChecksum {
        self.tail.sums.total()
    }

    /// Bytes of the WAL up to the captured position.
    pub fn wal_bytes(&self) -> u64 {
        self.tail.cursor.map_or(0, |cursor| cursor.offset)
    }

    /// Whether every captured frame is copied: the database file is complete without its WAL. The app's
    /// checkpoints may have seen to it; the WAL can even be emptied or started over then.
    pub fn copied(&self) -> bool {
        let Some(cursor) = self.tail.cursor else { return true };
        let header = match beginning(&self.hold) {
            Ok(Beginning::Header(header)) => header,
            Ok(Beginning::Empty) => return true,
            Ok(Beginning::Other) | Err(_) => return false,
        };
        match cursor.state_in(&header) {
            CursorState::Here => {
                let copied =
                    self.hold.copied_frames().ok().and_then(|frames| u64::try_from(frames).ok()).unwrap_or(0);
                HEADER + copied * frame_size(self.page_size()) >= cursor.offset
            }
            CursorState::Restarted(_) => true,
            CursorState::Counted(_) => self.hold.in_force(),
            CursorState::Lost => false,
        }
    }

    /// Whether the WAL goes on beyond this many bytes. Costs one look at one frame: what lies there from
    /// before has other salts.
    pub fn reaches(&self, bytes: u64) -> Result<bool, CaptureError> {
        let Some(header) = header(&self.hold)? else { return Ok(false) };
        let frame = frame_size(header.page_size);
        let at = HEADER + bytes.saturating_sub(HEADER) / frame * frame;
        let mut bytes = [0; crate::wal::FRAME_HEADER];
        let whole = self.hold.read_wal(at, &mut bytes)? == bytes.len();
        Ok(whole && FrameHeader::parse(&bytes).is_some_and(|frame| frame.salts == header.salts))
    }

    /// What of the database's files is not where it was.
    pub fn missing(&self) -> Option<Missing> {
        self.hold.missing()
    }

    /// The files are others now.
    pub fn replaced(&self, missing: Missing) -> CaptureError {
        CaptureError::Replaced(Box::new(Replacement::new(missing.to_string(), &self.hold, None)))
    }

    /// Goes back to an earlier position of the same chain: what follows is captured by the next `next`, in
    /// one draft.
    pub fn rewind(&mut self, cursor: Cursor) {
        (self.tail.rewound, self.tail.last, self.tail.open) = (true, None, None);
        self.tail.cursor = Some(cursor);
    }

    /// The transactions behind the cursor, if there are any; the cursor moves behind them.
    pub fn next(&mut self) -> Result<Option<Draft>, CaptureError> {
        let draft = self.tail.next(&self.hold, DRAFT_BYTES, usize::MAX)?;
        if let Some(draft) = &draft {
            self.checked.captured(draft.pages.list.iter().map(|entry| entry.page));
        }
        Ok(draft)
    }

    /// The next look takes nothing for granted: it reads an open transaction from its beginning again.
    pub fn compare_everything(&mut self) {
        self.tail.open = None;
    }

    /// The whole database at the captured position. The checksums are known, so only the WAL is read, up to
    /// there. None: it is not all of one position just now.
    pub fn snapshot(&mut self) -> Result<Option<Draft>, CaptureError> {
        self.tail.snapshot(&self.hold)
    }

    /// A segment without pages: the database as it is.
    pub fn empty(&self) -> Draft {
        let pages = Pages { files: files(&self.hold, None), list: Vec::new(), whole_database: false };
        self.tail.draft(pages, None)
    }

    /// Copies the WAL into the database file, and lets the next writer restart it if that can be had in the
    /// way that `decision` allows. True: the WAL may be restarted. `take` gets what is captured on the way; a
    /// draft that is too large to be encoded by then, and still needs the WAL, ends the try.
    pub fn checkpoint(
        &mut self,
        decision: CheckpointDecision,
        take: impl FnMut(Draft) -> Result<(), SegmentError>,
    ) -> Result<bool, CaptureError> {
        self.checkpoint_with(decision, take, || {})
    }

    /// `between`: what tests have happen in the moment between two holds.
    fn checkpoint_with(
        &mut self,
        decision: CheckpointDecision,
        mut take: impl FnMut(Draft) -> Result<(), SegmentError>,
        mut between: impl FnMut(),
    ) -> Result<bool, CaptureError> {
        self.prove_untouched(false)?;
        let Capture { hold, tail, .. } = self;
        let mut nothing_new = |tail: &mut Tail, hold: &ReadHold| {
            between();
            tail.nothing_new(hold)
        };
        let locked = decision.keeps_writers_out();
        let mut came_before = 0;
        // Each round copies and syncs what came during the one before, so that little is left for the moment
        // under the lock.
        for number in 1..=if locked { ROUNDS } else { 1 } {
            let before = tail.cursor.map_or(0, |cursor| cursor.offset);
            // The hold may move only when everything before its end is captured.
            if !tail.catch_up(hold, &mut take)? {
                return Ok(false);
            }
            match hold.advance() {
                // The app copies by itself, up to our hold. It may be waiting for our hold to get out of the
                // way: it moves to the end, which may have to happen again once the app has copied
                // everything.
                Err(SqliteError::Busy { .. }) => {
                    hold.let_restart(|hold| nothing_new(tail, hold))?;
                    if locked && hold.view().is_none_or(|view| view.checkpointer_waits()) {
                        std::thread::sleep(BETWEEN_ROUNDS);
                        continue;
                    }
                }
                other => {
                    if other?.complete() && hold.let_restart(|hold| nothing_new(tail, hold))? {
                        return Ok(true);
                    }
                }
            }
            if !locked {
                break;
            }
            hold.sync()?;
            let wal_bytes = tail.cursor.map_or(0, |cursor| cursor.offset);
            let came = wal_bytes.abs_diff(before);
            match after_round(decision, Round { number, came, came_before, wal_bytes }) {
                AfterRound::Again => {}
                AfterRound::GiveUp => break,
                AfterRound::KeepOut => {
                    let most = rest_limit(decision, wal_bytes);
                    if hold.let_restart_locked(|hold| tail.rest(hold, most, &mut take))? {
                        return Ok(true);
                    }
                }
            }
            came_before = came;
        }
        Ok(false)
    }
}

impl Tail {
    /// Captures whole transactions until they hold `enough` bytes of pages; nothing at all when more than
    /// `most` pages would come together.
    fn next(&mut self, hold: &ReadHold, enough: usize, most: usize) -> Result<Option<Draft>, CaptureError> {
        let Some((header, from)) = self.header_and_cursor(hold)? else { return Ok(None) };
        let enough = if self.rewound { usize::MAX } else { enough };
        let limit = enough / hold.page_size().bytes();
        let found = self.scan(hold, &header, from, limit)?;
        if found.cursor.offset == from.offset || found.pages.len() > most {
            return Ok(None);
        }
        let mut list: Vec<_> =
            found.pages.iter().map(|(page, version)| Entry::in_wal(*page, version)).collect();
        // Growth guard: every page between the old and the new end must be in the chain. SQLite writes them
        // all to the WAL; should it not, the database file has them.
        let lock = hold.page_size().lock_page();
        for page in (self.commit.saturating_add(1)..=found.commit).map(PageNo) {
            if page != lock && !found.pages.contains_key(&page) {
                list.push(Entry::in_database(page));
            }
        }
        list.sort_unstable_by_key(|entry| entry.page);
        let mut pages = Pages { files: files(hold, Some(header.salts)), list, whole_database: false };
        pages.enter_sums(&mut self.sums)?;
        self.stand_at(&found);
        let range =
            WalRange { offset: from.offset, size: found.cursor.offset - from.offset, salts: header.salts };
        Ok(Some(Draft { full: found.pages.len() > limit, ..self.draft(pages, Some(range)) }))
    }

    /// Captures everything that is committed when it begins. False: there is too much, or something too large
    /// to be encoded at once.
    fn catch_up(
        &mut self,
        hold: &ReadHold,
        take: &mut impl FnMut(Draft) -> Result<(), SegmentError>,
    ) -> Result<bool, CaptureError> {
        for _ in 0..DRAFTS {
            let Some(draft) = self.next(hold, DRAFT_BYTES, usize::MAX)? else { return Ok(true) };
            let (fits, full) = (draft.bytes() <= WHOLE_BYTES, draft.full);
            take(draft)?;
            if !fits || !full {
                return Ok(fits);
            }
        }
        Ok(false)
    }

    /// Captures everything that is committed. False: it has more than `most` bytes of pages.
    fn rest(
        &mut self,
        hold: &ReadHold,
        most: u64,
        take: &mut impl FnMut(Draft) -> Result<(), SegmentError>,
    ) -> Result<bool, CaptureError> {
        if self.nothing_new(hold)? {
            return Ok(true);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX) / hold.page_size().bytes();
        let Some(draft) = self.next(hold, usize::MAX, most)? else { return Ok(false) };
        take(draft)?;
        Ok(true)
    }

    /// Whether nothing is committed behind the cursor.
    fn nothing_new(&mut self, hold: &ReadHold) -> Result<bool, CaptureError> {
        let Some((header, from)) = self.header_and_cursor(hold)? else { return Ok(true) };
        Ok(self.scan(hold, &header, from, 0)?.cursor.offset == from.offset)
    }

    fn scan(
        &mut self,
        hold: &ReadHold,
        header: &WalHeader,
        from: Cursor,
        limit: usize,
    ) -> Result<Committed, CaptureError> {
        let (found, open) = scan(hold, header, from, self.commit, limit, self.open.take())?;
        self.open = open;
        Ok(found)
    }

    fn snapshot(&mut self, hold: &ReadHold) -> Result<Option<Draft>, CaptureError> {
        if self.rewound {
            return Ok(None);
        }
        let mut in_wal = None;
        if let Some((header, end)) = self.header_and_cursor(hold)? {
            let read = |offset, buffer: &mut [u8]| hold.read_wal(offset, buffer);
            let Some(found) = up_to(&header, end.offset, self.commit, read)? else {
                return Err(CaptureError::Broken("captured frames are gone"));
            };
            in_wal = Some(found);
        }
        let lock = hold.page_size().lock_page();
        let mut list = list_of(self.commit)?;
        for page in (1..=self.commit).map(PageNo).filter(|page| *page != lock) {
            let Some(sum) = self.sums.get(page) else { return Ok(None) };
            let version = in_wal.as_ref().and_then(|found| found.pages.get(&page));
            let entry =
                version.map_or_else(|| Entry::in_database(page), |version| Entry::in_wal(page, version));
            list.push(Entry { sum, ..entry });
        }
        let salts = in_wal.map(|found| found.cursor.salts);
        Ok(Some(self.draft(Pages { files: files(hold, salts), list, whole_database: true }, None)))
    }

    fn stand_at(&mut self, found: &Committed) {
        (self.emptied, self.rewound) = (false, false);
        self.sums.truncate(found.commit);
        self.commit = found.commit;
        self.last = found.last.or(self.last.filter(|_| self.cursor == Some(found.cursor)));
        self.cursor = Some(found.cursor);
    }

    fn draft(&self, pages: Pages, wal: Option<WalRange>) -> Draft {
        Draft {
            pages,
            db_checksum: self.sums.total(),
            commit: self.commit,
            wal,
            end: self.cursor,
            full: false,
        }
    }

    /// The WAL's header and the cursor in it, moved along when a writer started the WAL over. None: the WAL
    /// is empty.
    fn header_and_cursor(&mut self, hold: &ReadHold) -> Result<Option<(WalHeader, Cursor)>, CaptureError> {
        let mut before = None;
        loop {
            let Some((header, cursor)) = self.read_header_and_cursor(hold)? else { return Ok(None) };
            if self.ends_with_what_was_captured(hold, &header, cursor)? {
                return Ok(Some((header, cursor)));
            }
            // A writer may have started the WAL over since the header was read.
            if before == Some(header) {
                return Err(CaptureError::Broken("a captured frame was overwritten"));
            }
            before = Some(header);
        }
    }

    /// One look: a writer may start the WAL over before its frames are read.
    fn read_header_and_cursor(
        &mut self,
        hold: &ReadHold,
    ) -> Result<Option<(WalHeader, Cursor)>, CaptureError> {
        if self.skipped.is_some() {
            return Err(CaptureError::Broken(SKIPPED));
        }
        let header = match beginning(hold)? {
            Beginning::Header(header) => header,
            Beginning::Empty | Beginning::Other if self.rewound => return Err(CaptureError::Broken(GONE)),
            Beginning::Empty => {
                self.emptied = true;
                return Ok(None);
            }
            Beginning::Other if self.cursor.is_none() => return Ok(None),
            Beginning::Other => return Err(CaptureError::Broken("the WAL has lost its header")),
        };
        let cursor = match self.cursor.filter(|_| !self.emptied) {
            None => Cursor::start(&header),
            Some(cursor) => match cursor.state_in(&header) {
                CursorState::Here => cursor.continued_in(&header),
                // What follows an earlier position may all have been copied when the hold was taken: then it
                // guards none of it.
                CursorState::Restarted(_) if self.rewound => return Err(CaptureError::Broken(GONE)),
                CursorState::Restarted(start) => start,
                // Each TRUNCATE checkpoint counts the salts up, also one of an empty WAL. SQLite allows none
                // before all that the hold guards is copied, and that was captured before the hold moved
                // there.
                CursorState::Counted(start) if hold.in_force() && !self.rewound => start,
                // The first to write after one makes new salts if it has never started a WAL over itself. The
                // wal-index, which the hold keeps, has them with the first commit, and before it no frame.
                CursorState::Lost if hold.in_force() && !self.rewound => {
                    match hold.view().and_then(|view| view.end()) {
                        Some(end) if end.salts == header.salts => Cursor::start(&header),
                        Some(end) if end.offset == HEADER => return Ok(None),
                        _ => return Err(CaptureError::Broken(REPLACED)),
                    }
                }
                CursorState::Counted(_) | CursorState::Lost => return Err(CaptureError::Broken(REPLACED)),
            },
        };
        if header.page_size != hold.page_size() {
            return Err(CaptureError::Broken("the page size changed"));
        }
        Ok(Some((header, cursor)))
    }

    /// Whether the last captured transaction stands before the cursor.
    fn ends_with_what_was_captured(
        &self,
        hold: &ReadHold,
        header: &WalHeader,
        cursor: Cursor,
    ) -> Result<bool, CaptureError> {
        let first = self.last.filter(|_| self.cursor == Some(cursor));
        for mark in [cursor.last_frame(frame_size(header.page_size)), first].iter().flatten() {
            if !is_there(hold, mark)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn files(hold: &ReadHold, salts: Option<Salts>) -> Files {
    Files { page_size: hold.page_size(), db: hold.db_file().clone(), wal: hold.wal_file().clone(), salts }
}
