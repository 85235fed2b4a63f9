//! One LTX file to be: which pages, where each is read from, and what the header says. The pages stay where
//! they are (in the WAL and in the database file, under the hold) until they are sent, so a segment costs 32
//! bytes a page.

use crate::ltx::{Encoder, Header, LtxError};
use crate::model::{FileChecksum, PageNo, PageSize, page_checksum};
use crate::replicate::sums::PageSums;
use crate::sqlite::files::read_full;
use crate::wal::{Salts, Version, frame_size};
use std::fs::File;
use std::sync::{Arc, OnceLock};

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
    /// Checksum of its content; 0 until `enter_sums` when it is in the database file.
    pub sum: u64,
}

impl Entry {
    pub fn in_wal(page: PageNo, version: &Version) -> Entry {
        Entry { page, source: Source::Wal(version.at), sum: version.sum }
    }

    pub fn in_database(page: PageNo) -> Entry {
        Entry { page, source: Source::Database, sum: 0 }
    }
}

/// An empty list with room for all pages of a database; the size may come from a file that somebody else
/// wrote.
pub fn list_of(pages: u32) -> Result<Vec<Entry>, SegmentError> {
    let mut list = Vec::new();
    list.try_reserve_exact(pages as usize).map_err(|_| SegmentError::Memory { pages })?;
    Ok(list)
}

/// Bytes of pages read at a time.
const BATCH_BYTES: usize = 256 << 10;

/// Pages that were read together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where in them each page begins.
    places: Vec<usize>,
}

impl Batch {
    fn pages(&self, size: PageSize) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(move |place| self.bytes.get(*place..place + size.bytes()).unwrap_or_default())
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

/// A copy of an encoded segment in a file without a name, made while the segment is being sent: the pages
/// that it was made from may change then. It goes with the process.
#[derive(Clone, Default)]
pub struct Spool(Arc<OnceLock<File>>);

impl Spool {
    pub fn file(&self) -> Option<&File> {
        self.0.get()
    }

    pub fn set(&self, copy: File) {
        let _ = self.0.set(copy);
    }
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
    #[error("not enough memory to list the {pages} pages of the database")]
    Memory { pages: u32 },
    #[error("cannot read the copy of the segment that is being sent: {0}")]
    Spool(String),
    #[error("the upload went away")]
    Abandoned,
}

impl Pages {
    /// Reads the pages of the database file once, and enters all checksums, here and in the database's table.
    /// Those of the WAL are known from its scan: of the bytes that were proven then, and that `encode` must
    /// find again.
    pub fn enter_sums(&mut self, sums: &mut PageSums) -> Result<(), SegmentError> {
        let mut list = std::mem::take(&mut self.list);
        let mut batch = Batch::default();
        for entries in list.chunks_mut(self.at_a_time()) {
            if entries.iter().any(|entry| entry.sum == 0) {
                self.read(entries, &mut batch)?;
                let read = entries.iter_mut().zip(batch.pages(self.files.page_size));
                for (entry, bytes) in read.filter(|(entry, _)| entry.sum == 0) {
                    entry.sum = page_checksum(entry.page, bytes);
                }
            }
            entries.iter().for_each(|entry| sums.set(entry.page, entry.sum));
        }
        self.list = list;
        Ok(())
    }

    /// Writes the LTX file, handing out pieces of about `piece` bytes (and the rest at the end). Every page
    /// is compared with the checksum that it had when the header was made.
    pub fn encode(
        &self,
        header: &Header,
        piece: usize,
        mut send: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<FileChecksum, SegmentError> {
        let mut out = Vec::new();
        let mut encoder = Encoder::start(header, &mut out)?;
        let mut batch = Batch::default();
        for entries in self.list.chunks(self.at_a_time()) {
            self.read(entries, &mut batch)?;
            for (entry, bytes) in entries.iter().zip(batch.pages(self.files.page_size)) {
                if entry.sum != page_checksum(entry.page, bytes) {
                    return Err(SegmentError::Changed { page: entry.page.0 });
                }
                encoder.page(entry.page, bytes, &mut out)?;
                if out.len() >= piece && !send(std::mem::take(&mut out)) {
                    return Err(SegmentError::Abandoned);
                }
            }
        }
        let checksum = encoder.finish(&mut out)?;
        if send(out) { Ok(checksum) } else { Err(SegmentError::Abandoned) }
    }

    fn at_a_time(&self) -> usize {
        (BATCH_BYTES / self.files.page_size.bytes()).max(1)
    }

    /// Reads these pages, each from where it is.
    fn read(&self, entries: &[Entry], batch: &mut Batch) -> Result<(), SegmentError> {
        let failed =
            |error| SegmentError::Read { page: entries.first().map_or(0, |entry| entry.page.0), error };
        let in_wal = entries.iter().any(|entry| entry.source != Source::Database);
        let whole = self.read_runs(entries, |entry| entry.source, batch).map_err(failed)?;
        if whole && (!in_wal || self.wal_unchanged().map_err(failed)?) {
            return Ok(());
        }
        // A restart under the hold means mark 0: every frame had been copied into the database before. That
        // is the page's newest version only when nothing newer was asked for, as in a snapshot of the whole
        // database.
        if !self.whole_database {
            return Err(SegmentError::Restarted);
        }
        self.read_runs(entries, |_| Source::Database, batch).map_err(failed)?;
        Ok(())
    }

    /// Reads those that lie one behind the other at once. False: the WAL was emptied since the capture.
    fn read_runs(
        &self,
        entries: &[Entry],
        source: impl Fn(&Entry) -> Source,
        batch: &mut Batch,
    ) -> std::io::Result<bool> {
        let Files { page_size, db, wal, .. } = &self.files;
        let page = page_size.bytes();
        let frame = frame_size(*page_size) as usize;
        let follows = |a: &Entry, b: &Entry| match (source(a), source(b)) {
            (Source::Wal(a), Source::Wal(b)) => b == a + frame as u64,
            (Source::Database, Source::Database) => b.page.0 == a.page.0 + 1,
            _ => false,
        };
        batch.places.clear();
        batch.bytes.resize(entries.len() * frame, 0);
        let mut place = 0;
        for run in entries.chunk_by(follows) {
            let Some(first) = run.first() else { continue };
            let (file, offset, stride) = match source(first) {
                Source::Wal(offset) => (wal, offset, frame),
                Source::Database => (db, page_size.offset_of(first.page), page),
            };
            let end = place + (run.len() - 1) * stride + page;
            let buffer = batch.bytes.get_mut(place..end).unwrap_or_default();
            let got = read_full(file, offset, buffer)?;
            // SQLite reads a page behind the database file's end as zeros.
            if let Some(missing) = buffer.get_mut(got..).filter(|missing| !missing.is_empty()) {
                if source(first) != Source::Database {
                    return Ok(false);
                }
                missing.fill(0);
            }
            batch.places.extend((0..run.len()).map(|index| place + index * stride));
            place = end;
        }
        Ok(true)
    }

    /// Whether the WAL's header still has the salts of the capture. A restart writes it before any frame, so
    /// what was read before this check is what was captured.
    fn wal_unchanged(&self) -> std::io::Result<bool> {
        let mut bytes = [0; 8];
        if read_full(&self.files.wal, 16, &mut bytes)? < bytes.len() {
            return Ok(false);
        }
        let [a, b, c, d, e, f, g, h] = bytes;
        let now = Salts(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Ok(self.files.salts == Some(now))
    }
}
