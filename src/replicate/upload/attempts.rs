//! Attempts to keep a WAL within its limit: when the last one was, what it came to, and what is possible
//! before the replica was read.

use super::pressure::{self, Need, Seen};
use super::spill_policy::{self as rules, Pressure};
use crate::model::log_throttle::LogThrottle;
use crate::replicate::ReplicateSettings;
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::replicate::capture::{Capture, CaptureError};
use crate::sqlite::WalView;
use std::time::Instant;

/// Segments that are spilled in one go.
pub const SPILL_ROUNDS: usize = 64;
/// Times that a WAL nobody needs any more is copied while the app writes on.
const ROUNDS: usize = 8;
/// Times `wal_limit` at which a WAL that grows faster than it is captured is started over without being
/// captured.
const OUTRUN: u64 = 4;
/// Room that a copy of a segment leaves to the app.
pub const COPY_RESERVE: u64 = 16 << 20;

/// What a try to relieve the WAL came to.
#[derive(Debug)]
pub enum Outcome {
    /// It was not time.
    Nothing,
    /// Everything captured is on the disk; `restarted`: the WAL starts over with the next commit.
    Done { restarted: bool },
    /// There is no room for what is captured: the WAL grows.
    Grows(String),
    /// What was to be uploaded is no longer as it was: that has to be looked at again. Why.
    Anew(&'static str),
}

/// When the WAL was relieved last, and when the disk refused a file.
#[derive(Default)]
pub struct Tries {
    pub tried: Option<Instant>,
    /// Bytes of the WAL after that.
    pub tried_bytes: u64,
    pub refused: Option<(Instant, String)>,
    /// That the WAL grows faster than it is captured, that the database was compared, and that the disk
    /// is nearly full.
    pub outrun: LogThrottle,
    pub compared: LogThrottle,
    pub scarce: LogThrottle,
}

impl Tries {
    pub fn due(&mut self, capture: &Capture, settings: &ReplicateSettings) -> Result<bool, CaptureError> {
        let limit = settings.wal_limit;
        let over = capture.reaches(limit)?;
        let over_again = over && capture.reaches(capture.wal_bytes().saturating_add(limit))?;
        let since_try = self.tried.map(|at| at.elapsed());
        let due = rules::due(Pressure { over, over_again, since_try });
        if due {
            self.tried = Some(Instant::now());
        }
        Ok(due)
    }

    /// Of a session that begins.
    pub fn of(capture: &Capture) -> Tries {
        Tries { tried_bytes: capture.view().as_ref().and_then(uncopied_wal).unwrap_or(0), ..Tries::default() }
    }

    /// Something was done about the size of the WAL.
    pub fn tried(&mut self, view: &WalView) {
        (self.tried, self.tried_bytes) = (Some(Instant::now()), uncopied_wal(view).unwrap_or(0));
    }

    /// Whether the WAL is longer than when something was done about it last, or when the session began.
    pub fn has_grown(&self, view: &WalView) -> bool {
        uncopied_wal(view).is_none_or(|bytes| bytes > self.tried_bytes)
    }
}

/// Bytes of the WAL up to its last commit; zero if all of it is copied, because it starts from its beginning
/// with the next commit.
fn uncopied_wal(view: &WalView) -> Option<u64> {
    view.end().map(|end| if end.copied < end.offset { end.offset } else { 0 })
}

/// What the WAL of a database needs whose replica was not read yet: nothing can be numbered, and nothing is
/// lost, because the whole of it is compared later.
pub fn of_scanned(
    capture: &mut Capture,
    tries: &mut Tries,
    need: Need,
    settings: &ReplicateSettings,
) -> Result<Outcome, CaptureError> {
    let Some(view) = capture.view() else { return Ok(Outcome::Nothing) };
    match need {
        Need::Nothing => {}
        Need::Shrink => relieve_unneeded(capture, tries, settings)?,
        Need::MakeRoom => let_go(capture, settings)?,
        Need::StepAside => capture.step_aside_scanned(&view)?,
        Need::RaiseMark => capture.raise_mark()?,
    }
    if matches!(need, Need::Shrink | Need::MakeRoom) {
        tries.tried(&view);
    }
    Ok(Outcome::Nothing)
}

/// What `pressure` decides by.
pub fn seen(view: Option<&WalView>, tries: &Tries) -> Seen {
    Seen {
        waits: view.is_some_and(WalView::checkpointer_waits),
        wal_bytes: view.and_then(uncopied_wal),
        room: view.and_then(WalView::room),
        mark_is_zero: view.is_some_and(WalView::mark_is_zero),
        reads_pages: false,
        since_try: tries.tried.map(|at| at.elapsed()),
        tried_bytes: tries.tried_bytes,
    }
}

/// For a WAL that nothing needs, because the whole database is to be uploaded.
fn relieve_unneeded(
    capture: &mut Capture,
    tries: &mut Tries,
    settings: &ReplicateSettings,
) -> Result<(), CaptureError> {
    if tries.due(capture, settings)? { let_go(capture, settings) } else { Ok(()) }
}

/// Captures and forgets. If the app writes faster than that, the whole database is read again instead.
pub fn let_go(capture: &mut Capture, settings: &ReplicateSettings) -> Result<(), CaptureError> {
    let first_end = end(capture);
    for _ in 0..ROUNDS {
        for _ in 0..SPILL_ROUNDS {
            if outrun(capture, settings, first_end) {
                capture.skip();
                capture.let_go()?;
                return capture.compare().map(drop);
            }
            if capture.next()?.is_none() {
                break;
            }
        }
        if capture.checkpoint(CheckpointDecision::LockedLonger, |_| Ok(()))? {
            break;
        }
    }
    Ok(())
}

/// Where the last commit ends in the WAL.
pub fn end(capture: &Capture) -> u64 {
    capture.view().and_then(|view| view.end()).map_or(0, |end| end.offset)
}

/// Whether the app writes faster than the WAL is captured and copied: the WAL is far past its limit, has
/// grown by as much as the limit since the try began at `first_end` (a large transaction is no reason), and
/// no reader of the app from before keeps it from starting over.
pub fn outrun(capture: &Capture, settings: &ReplicateSettings, first_end: u64) -> bool {
    let limit = settings.wal_limit;
    let end = end(capture);
    end >= limit.saturating_mul(OUTRUN)
        && end >= first_end.saturating_add(limit)
        && !pinned(capture, first_end)
}

/// Whether a reader of the app that began before this place of the WAL keeps it from starting over.
pub fn pinned(capture: &Capture, place: u64) -> bool {
    capture.view().is_some_and(|view| view.reader_before(place))
}

/// Whether a file of so many bytes may be written without taking the app's room.
pub fn fits(view: Option<WalView>, bytes: u64) -> Result<(), String> {
    let Some(room) = view.as_ref().and_then(WalView::room) else { return Ok(()) };
    let left = room.free.saturating_sub(room.growth);
    if left >= bytes.saturating_add(COPY_RESERVE) || pressure::scarce(room, 0).is_none() {
        return Ok(());
    }
    Err(format!("the disk is nearly full: {} bytes are free, the segment has {bytes}", room.free))
}
