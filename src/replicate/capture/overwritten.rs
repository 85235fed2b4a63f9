//! Notices that something other than SQLite wrote to the database file: `cp` or `cat >` over it, for one. In
//! WAL mode only checkpoints write to the file, and they write only pages of the WAL. So every page without a
//! frame in the WAL, and every page whose newest frame is copied, must have the checksum that was captured.
//! What is read when is decided by `extent`.
//!
//! Costs one `stat` as long as the file does not change.

use super::{Capture, CaptureError, FinishedWal, Replacement, Tail};
use crate::model::{PageNo, page_checksum};
use crate::replicate::capture::frames::{header, scan};
use crate::sqlite::files::read_full;
use crate::sqlite::{FileStamp, ReadHold};
use crate::wal::{Cursor, HEADER, Salts, frame_size};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Databases up to this size are read as a whole.
const SMALL_BYTES: u64 = 1 << 20;
/// Pages of a sample: those that were written last, and as many that follow each other.
const SAMPLE: usize = 64;
/// Between two samples while checkpoints change the file all the time.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// A change that no checkpoint explains for this long is looked at as a whole: a checkpoint that is under way
/// is explained at its end.
const UNEXPLAINED: Duration = Duration::from_secs(2);

/// What says that a checkpoint has written to the file: the WAL, and how many of its frames are copied.
type Copied = Option<(Salts, i64)>;

/// The file when it was last found to hold what was captured.
pub struct Checked {
    stamp: Option<FileStamp>,
    copied: Copied,
    at: Instant,
    /// The stamp was so young that a later write may have the same one.
    young: bool,
    /// Since when there is a change that no checkpoint explains.
    unexplained: Option<Instant>,
    /// Pages that were captured last.
    recent: VecDeque<PageNo>,
    /// Where the next sample of pages that follow each other begins.
    next: u32,
}

impl Default for Checked {
    fn default() -> Checked {
        let recent = VecDeque::new();
        Checked {
            stamp: None,
            copied: None,
            at: Instant::now(),
            young: false,
            unexplained: None,
            recent,
            next: 1,
        }
    }
}

impl Checked {
    /// The file is about to be read as a whole.
    pub fn begin(&mut self, hold: &ReadHold) {
        self.stamp = hold.stamp().ok();
        self.copied = copied(hold);
        self.young = true;
        (self.at, self.unexplained) = (Instant::now(), None);
    }

    pub fn captured(&mut self, pages: impl DoubleEndedIterator<Item = PageNo>) {
        self.recent.extend(pages.rev().take(SAMPLE));
        self.recent.drain(..self.recent.len().saturating_sub(SAMPLE));
    }
}

/// How much of the file is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Nothing,
    Sample,
    Whole,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    /// The stamp is another one.
    stamp: bool,
    /// A checkpoint has copied frames.
    copied: bool,
    /// The last stamp was young.
    young: bool,
    since_check: Duration,
    unexplained: Option<Duration>,
}

/// Pure.
fn extent(change: Change) -> Extent {
    let Change { stamp, copied, young, since_check, unexplained } = change;
    match (stamp, copied) {
        (false, _) if !young => Extent::Nothing,
        (false, _) | (true, true) if since_check < BETWEEN_SAMPLES => Extent::Nothing,
        (true, false) if unexplained.is_some_and(|since| since >= UNEXPLAINED) => Extent::Whole,
        (true, false) if unexplained.is_some() && since_check < BETWEEN_SAMPLES => Extent::Nothing,
        _ => Extent::Sample,
    }
}

fn copied(hold: &ReadHold) -> Copied {
    let salts = header(hold).ok().flatten()?.salts;
    Some((salts, hold.copied_frames().ok()?))
}

impl Capture {
    /// The first page found that is not what was captured, if the file has changed since the last look.
    /// `now`: the answer must not be left to a later look.
    pub fn overwritten(&mut self, now: bool) -> Result<Option<PageNo>, CaptureError> {
        let Capture { hold, tail, checked } = self;
        // What was let go of without being captured is not known.
        if tail.rewound || tail.skipped.is_some() {
            return Ok(None);
        }
        let stamp = hold.stamp()?;
        let is_other = checked.stamp != Some(stamp);
        if !is_other && !checked.young {
            return Ok(None);
        }
        let copied = copied(hold);
        let explained = copied != checked.copied;
        let change = Change {
            stamp: is_other,
            copied: explained,
            young: checked.young,
            since_check: if now { Duration::MAX } else { checked.at.elapsed() },
            unexplained: checked.unexplained.map(|since| since.elapsed()),
        };
        let small = u64::from(tail.commit) * u64::from(hold.page_size().get()) <= SMALL_BYTES;
        let whole = match extent(change) {
            Extent::Nothing => return Ok(None),
            Extent::Sample => small,
            Extent::Whole => true,
        };
        let pages: Vec<PageNo> =
            if whole { (1..=tail.commit).map(PageNo).collect() } else { checked.sample(tail.commit) };
        let Some(other) = tail.other_page(hold, copied, &pages)? else { return Ok(None) };
        checked.at = Instant::now();
        if other.is_some() {
            return Ok(other);
        }
        if whole || explained || !is_other {
            (checked.stamp, checked.copied, checked.unexplained) = (Some(stamp), copied, None);
            checked.young = stamp.is_young(SystemTime::now());
        } else {
            checked.unexplained.get_or_insert_with(Instant::now);
        }
        Ok(None)
    }

    /// An error, if the file was overwritten.
    pub fn prove_untouched(&mut self, now: bool) -> Result<(), CaptureError> {
        let Some(PageNo(page)) = self.overwritten(now)? else { return Ok(()) };
        let why = format!(
            "the database file was overwritten while it was in use (page {page} is not what was committed)"
        );
        Err(self.is_another(why))
    }

    /// An error, if a new connection finds no sound database.
    pub fn prove_sound(&mut self) -> Result<(), CaptureError> {
        match self.hold.structure_problem()? {
            None => Ok(()),
            Some(problem) => Err(self.is_another(format!("the database is not sound any more ({problem})"))),
        }
    }

    fn is_another(&mut self, why: String) -> CaptureError {
        let finished = self.finished_wal();
        CaptureError::Replaced(Box::new(Replacement::new(why, &self.hold, finished)))
    }

    /// The WAL, if everything in it is captured and copied into the database file.
    pub fn finished_wal(&mut self) -> Option<FinishedWal> {
        let end = self.tail.cursor.filter(|_| self.copied())?;
        let here =
            self.tail.header_and_cursor(&self.hold).ok().flatten().is_some_and(|(_, cursor)| cursor == end);
        let finished = here && self.hold.missing().is_none() && self.tail.nothing_new(&self.hold).ok()?;
        finished.then(|| FinishedWal { end, frame_size: frame_size(self.hold.page_size()) })
    }
}

impl Checked {
    /// The first page, those that were written last, and some more in turn.
    fn sample(&mut self, commit: u32) -> Vec<PageNo> {
        let from = if self.next > commit { 1 } else { self.next };
        let until = from.saturating_add(SAMPLE as u32).min(commit.saturating_add(1));
        self.next = until;
        let recent = self.recent.iter().copied().filter(|page| page.0 <= commit);
        std::iter::once(PageNo(1)).chain(recent).chain((from..until).map(PageNo)).collect()
    }
}

impl Tail {
    /// The first of the pages that the file has otherwise than captured. None: that cannot be told at this
    /// moment.
    fn other_page(
        &self,
        hold: &ReadHold,
        copied: Copied,
        pages: &[PageNo],
    ) -> Result<Option<Option<PageNo>>, CaptureError> {
        let size = hold.page_size();
        let wal = header(hold)?;
        // A writer has just started the WAL over.
        if copied.map(|(salts, _)| salts) != wal.map(|header| header.salts) {
            return Ok(None);
        }
        let in_wal = match &wal {
            Some(header) if header.page_size == size => {
                scan(hold, header, Cursor::start(header), self.commit, usize::MAX, None)?.0.pages
            }
            Some(_) => return Ok(None),
            None => Default::default(),
        };
        let end = self.cursor.filter(|cursor| Some(cursor.salts) == copied.map(|(salts, _)| salts));
        let captured = end.map_or(0, |cursor| cursor.offset);
        let copied = copied.and_then(|(_, frames)| u64::try_from(frames).ok()).unwrap_or(0);
        let copied = HEADER + copied * frame_size(size);
        // Frames that a checkpoint has copied, or is just copying, replace the page in the file.
        let is_known =
            |page: &PageNo| in_wal.get(page).is_none_or(|version| version.at < captured.min(copied));
        let mut buffer = vec![0; size.bytes()];
        for page in pages.iter().filter(|page| is_known(page)) {
            let Some(sum) = self.sums.get(*page) else { continue };
            let at = u64::from(page.0 - 1) * u64::from(size.get());
            let got = read_full(hold.db_file(), at, &mut buffer).unwrap_or(0);
            if got < buffer.len() || page_checksum(*page, &buffer) != sum {
                return Ok(Some(Some(*page)));
            }
        }
        Ok(Some(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_is_read() {
        let long = Duration::from_secs(9);
        let base = Change { stamp: false, copied: false, young: false, since_check: long, unexplained: None };
        let unexplained = Change { stamp: true, ..base };
        let explained = Change { stamp: true, copied: true, ..base };
        for (change, expected) in [
            (base, Extent::Nothing),
            (Change { copied: true, ..base }, Extent::Nothing),
            (Change { young: true, ..base }, Extent::Sample),
            (Change { young: true, since_check: Duration::ZERO, ..base }, Extent::Nothing),
            (explained, Extent::Sample),
            (Change { since_check: Duration::ZERO, ..explained }, Extent::Nothing),
            // The first look does not wait.
            (Change { since_check: Duration::ZERO, ..unexplained }, Extent::Sample),
            (Change { unexplained: Some(Duration::ZERO), ..unexplained }, Extent::Sample),
            (
                Change { unexplained: Some(Duration::ZERO), since_check: Duration::ZERO, ..unexplained },
                Extent::Nothing,
            ),
            (Change { unexplained: Some(long), since_check: Duration::ZERO, ..unexplained }, Extent::Whole),
            // A checkpoint has ended that was under way.
            (Change { unexplained: Some(long), ..explained }, Extent::Sample),
        ] {
            assert_eq!(extent(change), expected, "{change:?}");
        }
    }
}
