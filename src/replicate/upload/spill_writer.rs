//! Relieves a WAL that passes its limit because the replica does not take what is captured: segments go to
//! the spill directory, then the WAL is copied into the database and may start over. `spill_policy` ◦
//! decides. Blocks; memory is bounded by one segment. Never blocks the app, never uploads.
//!
//! The record is the commit point: a file counts once the record says so, and only then is the WAL let go of.
//! A kill before costs nothing, the WAL has it all; a kill after is continued from the files.

use super::attempts::{self, Outcome, SPILL_ROUNDS, fits};
use super::spill_policy::{self as rules, Situation};
use super::{Content, Segment};
use crate::local_state::spill::{self, SpilledFile};
use crate::ltx::Trailer;
use crate::model::{DbPath, FileChecksum};
use crate::replicate::ReplicateSettings;
use crate::replicate::capture::CaptureError;
use crate::replicate::capture::checkpoint::CheckpointDecision;
use crate::replicate::capture::segment::SegmentError;
use crate::replicate::database_writer::DatabaseWriter;
use crate::replicate::send_queue::OnDisk;
use std::sync::Arc;
use std::time::Instant;

const PIECE_BYTES: usize = 1 << 20;
/// Encoded segments in memory behind one that cannot be spilled.
const MEMORY_BYTES: u64 = 32 << 20;
/// Times `wal_limit` at which a WAL that cannot be spilled is started over without being captured.
const HARD_LIMIT: u64 = 2;

/// How much of what is committed does not need the WAL any more.
enum Secured {
    All,
    /// The app writes faster than it is captured.
    Outrun,
    /// Why not all of it.
    NotAll(String),
}

impl DatabaseWriter {
    /// Bytes in the spill directory.
    pub fn spilled_bytes(&self) -> u64 {
        self.queue.pending.iter().filter_map(|pending| pending.spilled.as_ref()).map(|file| file.bytes).sum()
    }

    /// Bytes of what is captured and not in the replica, as they are sent.
    pub fn waiting_bytes(&self) -> u64 {
        self.queue.pending.iter().map(|pending| pending.segment.content.bytes()).sum()
    }

    /// If it is time: writes what is pending and what is committed to the spill directory, then lets the WAL
    /// start over.
    pub fn relieve(&mut self, settings: &ReplicateSettings) -> Result<Outcome, CaptureError> {
        if !self.tries.due(&self.capture, settings)? {
            return Ok(Outcome::Nothing);
        }
        let first_end = attempts::end(&self.capture);
        let fleeting = !self.sending && self.queue.pending.iter().any(|pending| pending.full_snapshot);
        if fleeting || self.sending && !self.copied_out(settings)? {
            attempts::let_go(&mut self.capture, settings)?;
            return Ok(Outcome::Anew("the WAL passed its limit before the whole database could be uploaded"));
        }
        let kept = if self.unnumbered() {
            self.keep_in_memory(settings, first_end)?
        } else {
            self.spill_all(settings, first_end)?
        };
        let outcome = match kept {
            Secured::All => self.restart_after(settings, first_end)?,
            Secured::Outrun => self.start_over(settings)?,
            Secured::NotAll(why) if self.unnumbered() => {
                self.let_go()?;
                tracing::info!(db = %self.db, "the WAL is started over, what changed is uploaded later as \
                    one segment: {why}");
                Outcome::Done { restarted: true }
            }
            Secured::NotAll(why) => {
                let hard = self.capture.reaches(settings.wal_limit.saturating_mul(HARD_LIMIT))?;
                if hard && !attempts::pinned(&self.capture, first_end) {
                    self.let_go()?;
                }
                Outcome::Grows(why)
            }
        };
        if let Some(view) = self.view() {
            self.tries.tried(&view);
        }
        Ok(outcome)
    }

    /// Everything captured is on the disk or in memory: the WAL may start over.
    fn restart_after(
        &mut self,
        settings: &ReplicateSettings,
        first_end: u64,
    ) -> Result<Outcome, CaptureError> {
        let DatabaseWriter { capture, queue, .. } = self;
        self.last_try = Instant::now();
        let longer = CheckpointDecision::LockedLonger;
        let restarted = match capture.checkpoint(longer, |draft| queue.push(draft)) {
            // The next capture sees it too, and knows what to do.
            Err(CaptureError::Broken(_)) => false,
            other => other?,
        };
        if restarted {
            self.settled = self.capture.cursor();
        }
        let rest = if self.unnumbered() { None } else { self.spill(settings)? };
        let files = self.queue.pending.len();
        let bytes = self.spilled_bytes();
        tracing::info!(db = %self.db, files, bytes, restarted, "segments wait for the replica on the disk \
            beside the database");
        if !restarted && attempts::outrun(&self.capture, settings, first_end) {
            return self.start_over(settings);
        }
        Ok(rest.map_or(Outcome::Done { restarted }, Outcome::Grows))
    }

    /// The app writes faster than the WAL is captured: it is started over, and what changed is found by
    /// comparing the database.
    fn start_over(&mut self, settings: &ReplicateSettings) -> Result<Outcome, CaptureError> {
        let wal_bytes = attempts::end(&self.capture);
        let restarted = self.let_go()?;
        if self.tries.outrun.due("outrun") {
            let wal_limit = settings.wal_limit;
            tracing::warn!(
                db = %self.db, wal_bytes, wal_limit, restarted,
                "the app writes faster than its WAL is captured: the WAL is started over, and the database \
                 is compared instead"
            );
        }
        Ok(Outcome::Done { restarted })
    }

    /// Captures everything that is committed and writes it to the spill directory.
    fn spill_all(&mut self, settings: &ReplicateSettings, first_end: u64) -> Result<Secured, CaptureError> {
        for _ in 0..SPILL_ROUNDS {
            if let Some(why) = self.spill(settings)? {
                return Ok(Secured::NotAll(why));
            }
            if attempts::outrun(&self.capture, settings, first_end) {
                return Ok(Secured::Outrun);
            }
            if !self.capture_more()? {
                return Ok(Secured::All);
            }
        }
        Ok(Secured::NotAll("the app writes faster than the disk takes a copy".to_owned()))
    }

    /// Captures everything that is committed into memory.
    fn keep_in_memory(
        &mut self,
        settings: &ReplicateSettings,
        first_end: u64,
    ) -> Result<Secured, CaptureError> {
        while self.memory_bytes() < MEMORY_BYTES {
            if attempts::outrun(&self.capture, settings, first_end) {
                return Ok(Secured::Outrun);
            }
            if !self.capture_more()? {
                return Ok(Secured::All);
            }
            if self
                .queue
                .pending
                .back()
                .is_some_and(|pending| matches!(pending.segment.content, Content::Pages(..)))
            {
                return Ok(Secured::NotAll("a transaction is too large to be kept in memory".to_owned()));
            }
        }
        Ok(Secured::NotAll("memory for what is captured is used up".to_owned()))
    }

    /// Writes what is pending to the disk, in order, and records it. Some: why not all of it.
    pub fn spill(&mut self, settings: &ReplicateSettings) -> Result<Option<String>, CaptureError> {
        let view = self.view();
        for index in 0..self.queue.pending.len() {
            let spilled_bytes = self.spilled_bytes();
            let Some(pending) = self.queue.pending.get_mut(index).filter(|pending| pending.spilled.is_none())
            else {
                continue;
            };
            let since_refusal = self.tries.refused.as_ref().map(|(at, _)| at.elapsed());
            let bytes = pending.segment.content.bytes();
            match rules::decide(settings, Situation { files: index, spilled_bytes, bytes, since_refusal }) {
                rules::SpillDecision::Spill => {}
                rules::SpillDecision::Full => return Ok(Some("spill_limit is reached".to_owned())),
                rules::SpillDecision::Wait => {
                    return Ok(self.tries.refused.as_ref().map(|(_, why)| why.clone()));
                }
            }
            if let Err(why) = fits(view.clone(), bytes) {
                return Ok(Some(why));
            }
            match write(&self.db, &pending.segment) {
                Ok((SpilledFile { path, bytes, .. }, checksum)) => {
                    let Segment { level, header, .. } = &*pending.segment;
                    let content = Content::Spilled { path: path.clone(), bytes };
                    pending.segment = Arc::new(Segment { level: *level, header: header.clone(), content });
                    pending.spilled = Some(OnDisk { path, bytes, checksum });
                    self.tries.refused = None;
                }
                Err(SegmentError::Spill(error)) => {
                    self.tries.refused = Some((Instant::now(), error.to_string()));
                    return Ok(Some(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(why) = self.record_spilled() {
                return Ok(Some(why));
            }
        }
        Ok(self.record_spilled())
    }

    /// Some: the record does not say it; then the files do not count, and the WAL is still needed.
    fn record_spilled(&mut self) -> Option<String> {
        let before = self.acked.spilled;
        let end = self.spill_end();
        if before == end {
            return None;
        }
        self.acked.spilled = end;
        if self.record_sending() {
            return None;
        }
        self.acked.spilled = before;
        Some("what is spilled cannot be recorded".to_owned())
    }
}

fn write(db: &DbPath, segment: &Segment) -> Result<(SpilledFile, FileChecksum), SegmentError> {
    let mut writer = spill::create(db, segment.header.range.max)?;
    let checksum = match &segment.content {
        Content::Encoded(bytes) => {
            writer.write(bytes)?;
            Trailer::from_end(bytes)?.file
        }
        Content::Pages(pages, _) => {
            let mut refused = None;
            let encoded = pages.encode(&segment.header, PIECE_BYTES, |piece| {
                refused = writer.write(&piece).err();
                refused.is_none()
            });
            match refused {
                Some(error) => return Err(error.into()),
                None => encoded?,
            }
        }
        Content::Spilled { .. } => return Err(SegmentError::Abandoned),
    };
    Ok((writer.finish()?, checksum))
}

#[cfg(test)]
mod tests;
