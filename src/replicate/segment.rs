//! One LTX file to be: which pages, where each is read from, and what the header says. The pages stay where they are (in
//! the WAL and in the database file, under the hold) until they are sent, so a segment costs 32 bytes a page.

use super::sums::PageSums;
use crate::ltx::{Encoder, Header, LtxError};
use crate::model::{FileChecksum, PageNo, PageSize, page_checksum};
use crate::sqlite::files::read_full;
use crate::wal::Salts;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Where a page's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// At this offset of the WAL.
    Wal(u64),
    /// In the database file.
    Database,
}

/// The files that the pages are read from, and the WAL's salts when the segment was captured.
#[derive(Clone)]
pub struct Files {
    pub page_size: PageSize,
    pub db: Arc<File>,
    pub wal: Arc<File>,
    pub salts: Option<Salts>,
}

/// A page of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub page: PageNo,
    pub source: Source,
    /// Checksum of its content; 0 until `enter_sums`.
    pub sum: u64,
}

impl Entry {
    pub fn new(page: PageNo, source: Source) -> Entry {
        Entry { page, source, sum: 0 }
    }
}

#[derive(Clone)]
pub struct Pages {
    pub files: Files,
    /// In page order.
    pub list: Vec<Entry>,
    /// Made from the whole database, not from a range of the WAL: each page is the newest there is.
    pub whole_database: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("cannot read page {page}: {error}")]
    Read { page: u32, error: std::io::Error },
    #[error("the WAL was restarted although it was held")]
    Restarted,
    #[error("page {page} changed while it was being read")]
    Changed { page: u32 },
    #[error("cannot encode the segment: {0}")]
    Encode(#[from] LtxError),
    #[error("cannot read the spilled segment {}: {error}", .path.display())]
    Spilled { path: std::path::PathBuf, error: String },
    #[error("cannot spill the segment: {0}")]
    Spill(#[from] crate::local_state::LocalStateError),
    #[error("the upload went away")]
    Abandoned,
}

impl Pages {
    /// Reads every page once and enters its checksum, here and in the database's table.
    pub fn enter_sums(&mut self, sums: &mut PageSums) -> Result<(), SegmentError> {
        let mut buffer = vec![0; self.files.page_size.bytes()];
        let mut list = std::mem::take(&mut self.list);
        for entry in &mut list {
            self.read(entry, &mut buffer)?;
            entry.sum = page_checksum(entry.page, &buffer);
            sums.set(entry.page, entry.sum);
        }
        self.list = list;
        Ok(())
    }

    /// Writes the LTX file, handing out pieces of about `piece` bytes (and the rest at the end). Every page is compared
    /// with the checksum that it had when the header was made.
    pub fn encode(
        &self,
        header: &Header,
        piece: usize,
        mut send: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<FileChecksum, SegmentError> {
        let mut out = Vec::new();
        let mut encoder = Encoder::start(header, &mut out)?;
        let mut buffer = vec![0; self.files.page_size.bytes()];
        for entry in &self.list {
            self.read(entry, &mut buffer)?;
            if entry.sum != page_checksum(entry.page, &buffer) {
                return Err(SegmentError::Changed { page: entry.page.0 });
            }
            encoder.page(entry.page, &buffer, &mut out)?;
            if out.len() >= piece && !send(std::mem::take(&mut out)) {
                return Err(SegmentError::Abandoned);
            }
        }
        let checksum = encoder.finish(&mut out)?;
        if send(out) { Ok(checksum) } else { Err(SegmentError::Abandoned) }
    }

    fn read(&self, entry: &Entry, buffer: &mut [u8]) -> Result<(), SegmentError> {
        let failed = |error| SegmentError::Read { page: entry.page.0, error };
        if let Source::Wal(offset) = entry.source {
            if self.read_wal(buffer, offset).map_err(failed)? {
                return Ok(());
            }
            // A restart under the hold means mark 0: every frame had been copied into the database before. That is the
            // page's newest version only when nothing newer was asked for, as in an image of the whole database.
            if !self.whole_database {
                return Err(SegmentError::Restarted);
            }
        }
        let got = read_full(&self.files.db, self.files.page_size.offset_of(entry.page), buffer).map_err(failed)?;
        // SQLite reads a page behind the file's end as zeros.
        buffer.get_mut(got..).unwrap_or_default().fill(0);
        Ok(())
    }

    /// False: the WAL was started over, or emptied, since the capture.
    fn read_wal(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<bool> {
        let read = self.files.wal.read_exact_at(buffer, offset).and_then(|()| self.wal_unchanged());
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            read => read,
        }
    }

    /// Whether the WAL's header still has the salts of the capture. A restart writes it before any frame, so what was
    /// read before this check is what was captured.
    fn wal_unchanged(&self) -> std::io::Result<bool> {
        let mut bytes = [0; 8];
        self.files.wal.read_exact_at(&mut bytes, 16)?;
        let [a, b, c, d, e, f, g, h] = bytes;
        let now = Salts(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Ok(self.files.salts == Some(now))
    }
}
