//! Steps of the hold beside a session's own checkpoints: out of the way of the app's, and away from a WAL
//! that cannot be captured in time. What is skipped here is found by a comparison of the database; nothing is
//! lost with it.

use super::checkpoint::ROUNDS;
use super::{BETWEEN_ROUNDS, Capture, CaptureError, Draft};
use crate::replicate::capture::segment::SegmentError;
use crate::sqlite::files::Named;
use crate::sqlite::{ReadHold, SqliteError, WalView};

/// How far the hold got out of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Everything is copied, and the WAL may be started over or emptied.
    Restartable,
    /// The hold is at the end of what is committed.
    Moved,
    /// Not everything could be captured.
    TooMuch,
}

/// Steps that let go of the WAL beside a session's own checkpoints.
impl Capture {
    /// None: the wal-index cannot be read.
    pub fn view(&self) -> Option<WalView> {
        self.hold.view()
    }

    /// The files that are held, by their paths.
    pub fn named(&self) -> Named {
        self.hold.named()
    }

    /// Whether the kernel shows that the hold is in force.
    pub fn in_force(&self) -> bool {
        self.hold.in_force()
    }

    /// Whether the hold guards everything behind the cursor: nothing was skipped, and the cursor was not put
    /// back to where it stood before the hold was taken.
    pub fn is_guarded(&self) -> bool {
        self.tail.skipped.is_none() && !self.tail.rewound
    }

    /// Bytes of the WAL that were let go of without being captured, since the last comparison.
    pub fn skipped_bytes(&self) -> u64 {
        self.tail.skipped.unwrap_or(0)
    }

    /// Moves a hold with read mark 0 to the end of what is committed. Nothing has to be captured for that:
    /// what came since lies in the WAL alone, and stays there under any other mark.
    pub fn raise_mark(&mut self) -> Result<(), CaptureError> {
        if self.view().is_some_and(|view| view.mark_is_zero()) {
            self.hold.renew()?;
        }
        Ok(())
    }

    /// Gets the hold out of the way of a checkpoint of the app, which keeps writers out and copies by itself.
    pub fn step_aside(
        &mut self,
        mut take: impl FnMut(Draft) -> Result<(), SegmentError>,
    ) -> Result<Aside, CaptureError> {
        let Capture { hold, tail, .. } = self;
        if !tail.catch_up(hold, &mut take)? {
            return Ok(Aside::TooMuch);
        }
        if !hold.let_restart(|hold| tail.nothing_new(hold))? {
            return Ok(Aside::Moved);
        }
        let copied = hold.view().and_then(|view| view.end()).is_some_and(|end| end.copied == end.offset);
        Ok(if copied { Aside::Restartable } else { Aside::Moved })
    }

    /// From now on the WAL counts as not captured beyond the last draft: the next one comes from a
    /// comparison.
    pub fn skip(&mut self) {
        let end = self.view().and_then(|view| view.end()).map_or(0, |end| end.offset);
        let captured = if self.tail.skipped.is_some() { 0 } else { self.wal_bytes() };
        let before = self.tail.skipped.unwrap_or(0);
        self.tail.skipped = Some(before + end.saturating_sub(captured));
    }

    /// Moves the hold to the end, whatever is there. After `skip`.
    pub fn move_hold(&mut self) -> Result<(), CaptureError> {
        self.hold.let_restart(|_| Ok::<_, CaptureError>(true)).map(|_| ())
    }

    /// Copies everything and lets the WAL start over, whatever is in it. After `skip`.
    pub fn let_go(&mut self) -> Result<bool, CaptureError> {
        for round in 1..=ROUNDS {
            match self.hold.advance() {
                // The app copies by itself, up to the hold.
                Err(SqliteError::Busy { .. }) => {
                    self.move_hold()?;
                    if self.view().is_none_or(|view| view.checkpointer_waits()) {
                        std::thread::sleep(BETWEEN_ROUNDS);
                        continue;
                    }
                }
                other => {
                    if other?.complete() {
                        self.move_hold()?;
                    }
                }
            }
            let restartable = |hold: &ReadHold| hold.view().and_then(|view| view.end());
            if restartable(&self.hold).is_some_and(|end| end.copied == end.offset) {
                return Ok(true);
            }
            self.hold.sync()?;
            if round > 1 && self.hold.let_restart_locked(|_| Ok::<_, CaptureError>(true))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Empties the WAL file, if that is possible at this moment. True: it is empty.
    pub fn truncate(&mut self) -> Result<bool, CaptureError> {
        Ok(self.hold.truncate()?)
    }
}
