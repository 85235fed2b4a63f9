//! Keeps the WAL out of the app's way at any time: steps aside for a checkpoint that waits, makes room on a
//! nearly full disk, lets go of a WAL that cannot be captured in time. `pressure` ◦ decides, `wal_limiter`
//! calls. Blocks; never blocks the app.
//!
//! What cannot be captured in time is not lost: the database is compared later, and what changed becomes one
//! segment.

use super::attempts::{COPY_RESERVE, Outcome};
use super::pressure::Need;
use super::{Content, Segment};
use crate::local_state::spill;
use crate::replicate::ReplicateSettings;
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::replicate::capture::segment::Spool;
use crate::replicate::capture::{Aside, CaptureError};
use crate::replicate::database_writer::DatabaseWriter;
use crate::replicate::status::CaptureState;
use crate::sqlite::{Room, SqliteError, WalView};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Encoded segments in memory, when they cannot be written to the disk.
const MEMORY_BYTES: u64 = 32 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// How long a checkpoint is waited upon at most, and the time between two looks at it.
const ASIDE: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// A WAL file that is longer than this is cut when room is scarce.
const LONG_FILE: u64 = 8 << 20;

impl DatabaseWriter {
    /// None: the wal-index cannot be read.
    pub fn view(&self) -> Option<WalView> {
        self.capture.view()
    }

    pub fn capture_state(&self) -> CaptureState {
        let captured = self.capture.cursor();
        let skipped_bytes = self.capture.skipped_bytes();
        let uploaded = self.acked.db_checksum.map(|checksum| (self.acked.acked, checksum));
        CaptureState {
            view: self.view(),
            captured,
            skipped_bytes,
            waiting_bytes: self.waiting_bytes(),
            uploaded,
        }
    }

    /// Does what the WAL needs now.
    pub fn act(&mut self, need: Need, settings: &ReplicateSettings) -> Result<Outcome, CaptureError> {
        let done = match (need, self.view()) {
            (Need::Nothing, _) | (Need::StepAside | Need::MakeRoom, None) => return Ok(Outcome::Nothing),
            (Need::Shrink, _) => self.relieve(settings),
            (Need::RaiseMark, _) => self.capture.raise_mark().map(|()| Outcome::Nothing),
            (Need::StepAside, Some(view)) => self.step_aside(settings, &view),
            (Need::MakeRoom, Some(view)) => self.make_room(&view),
        };
        match done {
            // The hold is where it was, or further.
            Err(CaptureError::Sqlite(error @ (SqliteError::Failed { .. } | SqliteError::Busy { .. }))) => {
                self.say_not_copied(&error);
                Ok(Outcome::Nothing)
            }
            done => done,
        }
    }

    /// Moves the hold until the checkpoint of another process has gone through. It keeps writers out
    /// meanwhile, so there is an end to what has to be captured.
    fn step_aside(&mut self, settings: &ReplicateSettings, view: &WalView) -> Result<Outcome, CaptureError> {
        // A PASSIVE checkpoint beside a writer looks alike, and is over soon.
        std::thread::sleep(BETWEEN_LOOKS);
        let begun = Instant::now();
        while view.checkpointer_waits() && begun.elapsed() < ASIDE {
            if !self.copied_out(settings)? {
                self.capture.skip();
                self.capture.move_hold()?;
                return Ok(Outcome::Anew("an app's checkpoint could not wait for it"));
            }
            if self.memory_bytes() >= MEMORY_BYTES && (self.unnumbered() || self.spill(settings)?.is_some()) {
                self.capture.skip();
            }
            let DatabaseWriter { capture, queue, .. } = self;
            match capture.step_aside(|draft| queue.push(draft)) {
                Ok(Aside::Restartable) => self.settled = self.capture.cursor(),
                Ok(Aside::Moved) => {}
                Ok(Aside::TooMuch) => self.skip_to_the_end(settings, "it has too much")?,
                Err(CaptureError::Broken(why)) => self.skip_to_the_end(settings, why)?,
                Err(error) => return Err(error),
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        tracing::debug!(db = %self.db, took = ?begun.elapsed(), "stepped aside for a checkpoint of the app");
        Ok(Outcome::Nothing)
    }

    /// Lets a checkpoint go through before the WAL is captured, unless what is captured needs the WAL still.
    fn skip_to_the_end(&mut self, settings: &ReplicateSettings, why: &str) -> Result<(), CaptureError> {
        if !self.copied_out(settings)? {
            return Ok(());
        }
        tracing::debug!(db = %self.db, "the WAL is not captured beside a checkpoint of the app: {why}");
        self.capture.skip();
        self.capture.move_hold()
    }

    /// Copies the WAL into the database and starts it over, without writing anything else to the disk.
    fn make_room(&mut self, view: &WalView) -> Result<Outcome, CaptureError> {
        let has_grown = self.tries.has_grown(view);
        self.tries.tried(view);
        let before = (view.end().map_or(0, |end| end.offset), view.room().unwrap_or_default());
        if self.reads_pages() {
            if !has_grown {
                // To begin the upload once more would win no room, and could go on for ever.
                return Ok(Outcome::Nothing);
            }
            self.let_go()?;
            return Ok(Outcome::Anew("the disk is nearly full, and the WAL had to be started over"));
        }
        let mut all = false;
        while !all && self.memory_bytes() < MEMORY_BYTES {
            all = match self.capture_more() {
                Ok(more) => !more || self.reads_pages(),
                Err(error) => return Err(error),
            };
        }
        if all {
            self.checkpoint_as(CheckpointDecision::LockedLonger)?;
        }
        // The app writes faster, or what is captured needs the WAL.
        if self.reads_pages() {
            self.let_go()?;
            return Ok(Outcome::Anew("the disk is nearly full, and the WAL had to be started over"));
        }
        if !all && view.end().is_some_and(|end| end.offset >= before.0) {
            self.let_go()?;
        }
        if view.wal_len() >= LONG_FILE {
            let _ = self.capture.truncate()?;
        }
        self.say_scarce(before, view);
        self.tries.tried(view);
        Ok(Outcome::Nothing)
    }

    /// Lets go of the WAL without capturing it: the database is compared later. True: the WAL starts over
    /// with the next commit.
    pub fn let_go(&mut self) -> Result<bool, CaptureError> {
        self.capture.skip();
        self.capture.let_go()
    }

    /// Cuts a WAL file that has been much longer than it has to be. Everything is uploaded and nothing was
    /// written since.
    pub fn cut_file(&mut self, longer_than: u64) {
        let long = self.capture.view().is_some_and(|view| view.wal_len() > longer_than);
        if !long || !self.settled() || !self.queue.pending.is_empty() {
            return;
        }
        // The next start must know that the file is complete without its WAL.
        self.record_settled();
        match self.capture.truncate() {
            Ok(true) => {
                tracing::info!(db = %self.db, "the WAL file was emptied: it had grown past {longer_than} \
                    bytes")
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(db = %self.db, %error, "the WAL file was not emptied"),
        }
    }

    /// Whether what waits cannot be spilled: a full snapshot, before which nothing can be numbered, or an
    /// upload that reads from a copy without a name, which the record does not know.
    pub fn unnumbered(&self) -> bool {
        self.queue.pending.iter().any(|pending| {
            pending.full_snapshot
                || matches!(&pending.segment.content, Content::Pages(_, spool) if spool.file().is_some())
        })
    }

    /// Whether something that waits reads its pages from the WAL or the database when it is sent.
    pub fn reads_pages(&self) -> bool {
        self.queue.pending.iter().any(|pending| reads_its_pages(&pending.segment))
    }

    pub fn memory_bytes(&self) -> u64 {
        let encoded = self.queue.pending.iter().map(|pending| &pending.segment.content);
        encoded.filter(|content| matches!(content, Content::Encoded(_))).map(Content::bytes).sum()
    }

    /// Whether nothing that waits needs the WAL or the database as they are. What is being sent is copied to
    /// the disk for that; it goes on from there.
    pub fn copied_out(&mut self, settings: &ReplicateSettings) -> Result<bool, CaptureError> {
        let left = settings.spill_limit.saturating_sub(self.spilled_bytes());
        let room = self.view().and_then(|view| view.room());
        for pending in &self.queue.pending {
            let Content::Pages(_, spool) = &pending.segment.content else { continue };
            if spool.file().is_some() {
                continue;
            }
            let bytes = pending.segment.content.bytes();
            let fits = room.is_none_or(|room| room.free.saturating_sub(room.growth) >= bytes + COPY_RESERVE);
            if bytes > left || !fits || !self.copy_out(&pending.segment, spool) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn copy_out(&self, segment: &Arc<Segment>, spool: &Spool) -> bool {
        let Content::Pages(pages, _) = &segment.content else { return true };
        let begun = Instant::now();
        let Ok(mut file) = spill::nameless(&self.db) else { return false };
        let encoded = pages.encode(&segment.header, PIECE_BYTES, |piece| file.write_all(&piece).is_ok());
        if encoded.is_err() {
            return false;
        }
        tracing::info!(
            db = %self.db, txid = %segment.header.range.max, took = ?begun.elapsed(),
            "the upload goes on from a copy on the disk, so that the WAL can be started over"
        );
        spool.set(file);
        true
    }

    fn say_scarce(&mut self, (wal_bytes, room): (u64, Room), view: &WalView) {
        let free = view.room().unwrap_or_default().free;
        if self.tries.scarce.due("scarce") {
            tracing::warn!(
                db = %self.db, wal_bytes, free_bytes = room.free, free_bytes_now = free,
                "the disk is nearly full: the WAL is started over early; make room"
            );
        }
    }

    /// With the numbers that say why.
    pub fn say_not_copied(&mut self, error: &SqliteError) {
        if !self.trouble.due(&error.to_string()) {
            return;
        }
        let (wal_bytes, room) = match self.view() {
            Some(view) => (view.wal_len(), view.room().unwrap_or_default()),
            None => (0, Room::default()),
        };
        tracing::warn!(
            db = %self.db, wal_bytes, free_bytes = room.free, needed_bytes = room.growth,
            "the WAL is not copied into the database: {error} (the WAL has {wal_bytes} bytes, {} bytes are \
             free, copying it needs {} more)", room.free, room.growth
        );
    }
}

/// Whether its pages are still read from the WAL and the database.
fn reads_its_pages(segment: &Segment) -> bool {
    matches!(&segment.content, Content::Pages(_, spool) if spool.file().is_none())
}
