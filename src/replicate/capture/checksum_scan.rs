//! The checksum scan: reads the whole database once, at the beginning of a session and after frames were
//! skipped. It takes as long as the disk needs, so it gives way to a checkpoint of the app that waits for the
//! hold.
//!
//! The table is right at the cursor at any time: a page has the checksum of its newest frame, or none yet. A
//! page without a frame since the scan began is in the file as it is at the cursor, also when the hold moved
//! and the WAL was started over meanwhile.

use super::overwritten::Checked;
use super::segment::{Entry, Pages, SegmentError};
use super::{Aside, Capture, CaptureError, Draft, Tail, files, header};
use crate::model::PageNo;
use crate::replicate::sums::PageSums;
use crate::sqlite::{ReadHold, WalView};
use crate::wal::Cursor;
use std::time::Duration;

/// Bytes that are read between two looks at the app's locks.
const STEP_BYTES: usize = 1 << 20;
/// Looks at a checkpoint that waits, and the time between two of them.
const LOOKS: usize = 500;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

impl Capture {
    /// Looks at the whole database under a hold and stands at its present end.
    pub fn scan_checksums(hold: ReadHold) -> Result<Capture, CaptureError> {
        let mut tail = Tail {
            cursor: None,
            emptied: false,
            rewound: false,
            skipped: None,
            last: None,
            open: None,
            commit: hold.db_pages()?,
            sums: PageSums::default(),
        };
        if let Some(header) = header(&hold)?.filter(|header| header.page_size == hold.page_size()) {
            tail.cursor = Some(Cursor::start(&header));
        }
        let mut capture = Capture { hold, tail, checked: Checked::default() };
        capture.checked.begin(&capture.hold);
        capture.scan_whole()?;
        Ok(capture)
    }

    /// The whole database, up to the last commit. When nothing came since the last look, the database need
    /// not be read: its checksums are known, and proven while the snapshot is sent.
    pub fn full_snapshot(&mut self) -> Result<Draft, CaptureError> {
        if !self.tail.rewound && self.tail.nothing_new(&self.hold)? {
            match self.snapshot() {
                Ok(None) | Err(CaptureError::Broken(_)) => {}
                Ok(Some(draft)) => return Ok(draft),
                Err(error) => return Err(error),
            }
        }
        self.scan_whole()?;
        self.scanned()
    }

    /// After the chain broke: takes a new hold, reads the whole database, and makes a segment of the pages
    /// that are not as they were captured. Right whatever happened to the WAL; costs one reading of the file.
    /// All pages, when it is not known how they were.
    pub fn compare(&mut self) -> Result<Draft, CaptureError> {
        self.hold.renew()?;
        self.checked.begin(&self.hold);
        (self.tail.cursor, self.tail.skipped) = (None, None);
        let known = !std::mem::take(&mut self.tail.rewound);
        let before = self.tail.sums.clone();
        // After an error it is not known any more how the pages were.
        let scanned = self.scan_whole().and_then(|()| self.scanned());
        let mut draft = scanned.inspect_err(|_| self.tail.rewound = true)?;
        if known {
            draft.pages.list.retain(|entry| before.get(entry.page) != Some(entry.sum));
        }
        Ok(draft)
    }

    fn scanned(&mut self) -> Result<Draft, CaptureError> {
        self.snapshot()?.ok_or(CaptureError::Broken("the database changed while it was read"))
    }

    /// Enters the checksum of every page, and stands at the last commit.
    fn scan_whole(&mut self) -> Result<(), CaptureError> {
        let Capture { hold, tail, .. } = self;
        if tail.cursor.is_none() {
            tail.commit = hold.db_pages()?;
        }
        tail.sums = PageSums::default();
        let here = tail.header_and_cursor(hold)?;
        if let Some((header, _)) = here {
            let found = tail.scan(hold, &header, Cursor::start(&header), usize::MAX)?;
            tail.stand_at(&found);
            found.pages.iter().for_each(|(page, version)| tail.sums.set(*page, version.sum));
        }
        if !tail.sums.reserve(tail.commit) {
            return Err(SegmentError::Memory { pages: tail.commit }.into());
        }
        let view = hold.view();
        let step = (STEP_BYTES / hold.page_size().bytes()).max(1) as u32;
        let mut page = 1;
        while page <= self.tail.commit {
            let next = page.saturating_add(step);
            self.tail.enter_missing(&self.hold, page..next)?;
            page = next;
            if let Some(view) = view.as_ref().filter(|view| view.checkpointer_waits()) {
                self.step_aside_scanned(view)?;
            }
        }
        Ok(())
    }

    /// Moves the hold until the checkpoint of another process has gone through. What is captured on the way
    /// is only entered in the table of checksums.
    pub fn step_aside_scanned(&mut self, view: &WalView) -> Result<(), CaptureError> {
        for _ in 0..LOOKS {
            std::thread::sleep(BETWEEN_LOOKS);
            if !view.checkpointer_waits() {
                break;
            }
            while self.step_aside(|_| Ok(()))? == Aside::TooMuch {}
        }
        Ok(())
    }
}

impl Tail {
    /// Reads the pages that have no checksum yet. They have no frame, so they are in the file.
    fn enter_missing(&mut self, hold: &ReadHold, range: std::ops::Range<u32>) -> Result<(), CaptureError> {
        let end = range.end.min(self.commit.saturating_add(1));
        let lock = hold.page_size().lock_page();
        let missing =
            (range.start..end).map(PageNo).filter(|page| *page != lock && self.sums.get(*page).is_none());
        let list: Vec<_> = missing.map(Entry::in_database).collect();
        Ok(Pages { files: files(hold, None), list, whole_database: false }.enter_sums(&mut self.sums)?)
    }
}
