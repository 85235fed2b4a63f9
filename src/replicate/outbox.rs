//! Relieves a WAL that passes its limit because the replica does not take what is captured: segments go to the spill
//! directory, then the WAL is copied into the database and may start over. `spill` ◦ decides. Blocks; memory is bounded by
//! one segment. Never blocks the app, never uploads.
//!
//! The record is the commit point: a file counts once the record says so, and only then is the WAL let go of. A kill before
//! costs nothing, the WAL has it all; a kill after is continued from the files.

use super::ReplicateSettings;
use super::capture::{Capture, CaptureError};
use super::checkpoint::Verdict;
use super::segment::SegmentError;
use super::spill::{self as rules, Pressure, Situation};
use super::upload::{Content, Segment};
use super::work::{OnDisk, Work};
use crate::local_state::spill::{self, Found};
use crate::ltx::Trailer;
use crate::model::{DbPath, FileChecksum};
use crate::store::layout::Level;
use crate::wal::frame_size;
use std::sync::Arc;
use std::time::Instant;

const PIECE_BYTES: usize = 1 << 20;
/// Times that a WAL nobody needs any more is copied while the app writes on.
const ROUNDS: usize = 8;

/// What a try to relieve the WAL came to.
#[derive(Debug)]
pub enum Relief {
    /// It was not time.
    Nothing,
    /// Everything captured is on the disk; `restarted`: the WAL starts over with the next commit.
    Done { restarted: bool },
    /// There is no room for what is captured: the WAL grows.
    Grows(String),
    /// The whole database was to be uploaded: that has to be looked at again.
    Anew,
}

/// When the WAL was relieved last, and when the disk refused a file.
#[derive(Default)]
pub struct Refusal {
    pub tried: Option<Instant>,
    refused: Option<(Instant, String)>,
}

impl Refusal {
    fn due(&mut self, capture: &Capture, settings: &ReplicateSettings) -> Result<bool, CaptureError> {
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
}

impl Work {
    /// Bytes in the spill directory.
    pub fn spilled_bytes(&self) -> u64 {
        self.queue.pending.iter().filter_map(|pending| pending.spilled.as_ref()).map(|file| file.bytes).sum()
    }

    /// Bytes of what is captured and not in the replica, as they are sent.
    pub fn waiting_bytes(&self) -> u64 {
        self.queue.pending.iter().map(|pending| pending.segment.content.bytes()).sum()
    }

    /// The same, and what the WAL holds beyond it.
    pub fn lag_bytes(&self) -> Result<u64, CaptureError> {
        Ok(self.waiting_bytes() + uncaptured(&self.capture)?)
    }

    /// If it is time: writes what is pending and what is committed to the spill directory, then lets the WAL start over.
    pub fn relieve(&mut self, settings: &ReplicateSettings) -> Result<Relief, CaptureError> {
        if !self.refusal.due(&self.capture, settings)? {
            return Ok(Relief::Nothing);
        }
        if self.queue.pending.iter().any(|pending| pending.image) {
            let_go(&mut self.capture)?;
            return Ok(Relief::Anew);
        }
        loop {
            if let Some(why) = self.spill(settings)? {
                return Ok(Relief::Grows(why));
            }
            if !self.capture_more()? {
                break;
            }
        }
        let Work { capture, queue, .. } = self;
        self.last_try = Instant::now();
        let restarted = match capture.checkpoint(Verdict::Locked, |draft| queue.push(draft, &[Level::RAW])) {
            // The next capture sees it too, and knows what to do.
            Err(CaptureError::Broken(_)) => false,
            other => other?,
        };
        if restarted {
            self.settled = self.capture.cursor();
        }
        let rest = self.spill(settings)?;
        let (files, bytes) = (self.queue.pending.len(), self.spilled_bytes());
        tracing::info!(db = %self.db, files, bytes, restarted, "the WAL passed its limit: what waits for the replica is on the disk");
        Ok(rest.map_or(Relief::Done { restarted }, Relief::Grows))
    }

    /// Writes what is pending to the disk, in order, and records it. Some: why not all of it.
    fn spill(&mut self, settings: &ReplicateSettings) -> Result<Option<String>, CaptureError> {
        for index in 0..self.queue.pending.len() {
            let spilled_bytes = self.spilled_bytes();
            let Some(pending) = self.queue.pending.get_mut(index).filter(|pending| pending.spilled.is_none()) else {
                continue;
            };
            let since_refusal = self.refusal.refused.as_ref().map(|(at, _)| at.elapsed());
            let bytes = pending.segment.content.bytes();
            match rules::decide(settings, Situation { files: index, spilled_bytes, bytes, since_refusal }) {
                rules::Verdict::Spill => {}
                rules::Verdict::Full => return Ok(Some("spill_limit is reached".to_owned())),
                rules::Verdict::Wait => return Ok(self.refusal.refused.as_ref().map(|(_, why)| why.clone())),
            }
            match write(&self.db, &pending.segment) {
                Ok((Found { path, bytes, .. }, checksum)) => {
                    let Segment { level, header, .. } = &*pending.segment;
                    let content = Content::Spilled { path: path.clone(), bytes };
                    pending.segment = Arc::new(Segment { level: *level, header: header.clone(), content });
                    pending.spilled = Some(OnDisk { path, bytes, checksum });
                    self.refusal.refused = None;
                }
                Err(SegmentError::Spill(error)) => {
                    self.refusal.refused = Some((Instant::now(), error.to_string()));
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
        let (before, end) = (self.acked.spilled, self.spill_end());
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

fn write(db: &DbPath, segment: &Segment) -> Result<(Found, FileChecksum), SegmentError> {
    let mut writer = spill::create(db, segment.header.range.max)?;
    let checksum = match &segment.content {
        Content::Encoded(bytes) => {
            writer.write(bytes)?;
            Trailer::from_end(bytes)?.file
        }
        Content::Pages(pages) => {
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

/// The same for a WAL that nothing needs, because the whole database is to be uploaded.
pub fn relieve_unneeded(
    capture: &mut Capture,
    refusal: &mut Refusal,
    settings: &ReplicateSettings,
) -> Result<(), CaptureError> {
    if refusal.due(capture, settings)? { let_go(capture) } else { Ok(()) }
}

/// Bytes of the WAL beyond the captured position.
fn uncaptured(capture: &Capture) -> Result<u64, CaptureError> {
    let (captured, frame) = (capture.wal_bytes().max(crate::wal::HEADER), frame_size(capture.page_size()));
    Ok(rules::count(|frames| capture.reaches(captured + frames * frame))? * frame)
}

fn let_go(capture: &mut Capture) -> Result<(), CaptureError> {
    for _ in 0..ROUNDS {
        while capture.next()?.is_some() {}
        if capture.checkpoint(Verdict::Locked, |_| Ok(()))? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
