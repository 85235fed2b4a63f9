//! A Litestream 0.3 replica into the staged file: the snapshot as it comes, then index by index of the WAL. The bytes of
//! one index go through a scratch file beside the staged one, so that what is not committed never touches it and memory
//! stays small; its transactions are applied as a checkpoint would.

use super::error::{Damage, RestoreError};
use super::owner;
use super::settings::Owners;
use super::source::{Source, SourceError};
use super::verify::{VerifiedDb, verify_old};
use crate::ltx::v3::Part;
use crate::ltx::{FrameDecoder, FrameError};
use crate::model::{DB_MAGIC, DbPath, PageSize, Txid, TxidRange};
use crate::replica::{OldFile, OldPlan, RemoteFile};
use crate::store::layout::Level;
use crate::wal::{Cursor, Fed, HEADER, Scanner, WalHeader, frame_size};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Brings the plan's state into the staged file.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    plan: &OldPlan,
    owners: &Owners,
) -> Result<VerifiedDb, SourceError> {
    owner::create_directories(db, owners)?;
    let files: Vec<RemoteFile> = plan.files().map(as_remote).collect();
    let names: Vec<&OldFile> = plan.files().collect();
    let mut assembly = OldAssembly::create(db, source.url())?;
    let mut reading = source.read(&files);
    while let Some(fetched) = reading.next().await? {
        let Some(file) = names.get(fetched.file) else { continue };
        for part in fetched.parts.iter() {
            assembly.feed(file, part, false)?;
            // This computes: others on this thread get their turn.
            tokio::task::yield_now().await;
        }
        if fetched.last {
            assembly.feed(file, &[], true)?;
        }
    }
    let last = plan.segments.last().unwrap_or(&plan.snapshot);
    let verified = verify_old(assembly.finish(last)?, source.url(), last)?;
    owner::prepare_staged(db, owners)?;
    Ok(verified)
}

/// For the requests, which know keys and sizes only.
pub(super) fn as_remote(file: &OldFile) -> RemoteFile {
    RemoteFile {
        key: file.key.clone(),
        level: Level::RAW,
        range: TxidRange::single(Txid::FIRST),
        size: file.size,
        modified_ms: file.modified_ms,
    }
}

/// A complete staged file.
pub struct OldAssembled {
    pub db: DbPath,
    pub file: File,
    pub page_size: PageSize,
}

struct OldAssembly {
    replica: String,
    db: DbPath,
    path: PathBuf,
    staged: File,
    scratch: Scratch,
    decoder: FrameDecoder,
    /// Bytes of the snapshot.
    snapshot: u64,
    page_size: Option<PageSize>,
    wal: Wal,
}

/// A file that goes with its owner.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that stays goes with the staged file.
        let _ = fs::remove_file(&self.path);
    }
}

/// One index of the WAL.
#[derive(Default)]
struct Wal {
    index: Option<u64>,
    /// Bytes of it so far.
    length: u64,
    /// The beginning of a frame, or of the header.
    partial: Vec<u8>,
    scanner: Option<Scanner>,
}

impl OldAssembly {
    fn create(db: &DbPath, replica: &str) -> Result<OldAssembly, RestoreError> {
        let path = db.staged();
        // SQLite's own name for it: whatever cleans up after a staged file removes it, too.
        let scratch = DbPath::new(path.clone()).wal();
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
            file.map_err(RestoreError::io("create", path))
        };
        Ok(OldAssembly {
            replica: replica.to_owned(),
            db: db.clone(),
            staged: open(&path)?,
            path,
            scratch: Scratch { file: open(&scratch)?, path: scratch },
            decoder: FrameDecoder::default(),
            snapshot: 0,
            page_size: None,
            wal: Wal::default(),
        })
    }

    /// The next bytes of `file`; `last` when there are no more of it.
    fn feed(&mut self, file: &OldFile, bytes: &[u8], last: bool) -> Result<(), RestoreError> {
        self.apply(file, bytes, last).map_err(|fault| self.explain(file, fault))
    }

    fn explain(&self, file: &OldFile, fault: Fault) -> RestoreError {
        match fault {
            Fault::Damage(damage) => {
                RestoreError::Damaged { replica: self.replica.clone(), file: file.key.clone(), damage }
            }
            Fault::Io(source) => RestoreError::io("write", &self.path)(source),
        }
    }

    fn apply(&mut self, file: &OldFile, bytes: &[u8], last: bool) -> Result<(), Fault> {
        let mut decoder = std::mem::take(&mut self.decoder);
        match file.name.part {
            Part::Snapshot => decoder.push(bytes, |data| self.snapshot(data))?,
            Part::Segment(offset) => {
                if self.wal.index != Some(file.name.index) {
                    self.close_wal()?;
                    self.wal.index = Some(file.name.index);
                }
                // Checked again with every piece of a segment: only at the first one it can differ.
                let begins = decoder.is_fresh();
                if begins && self.wal.length != offset {
                    return Err(Damage::Offset { got: offset, want: self.wal.length }.into());
                }
                decoder.push(bytes, |data| self.wal(data))?;
            }
        }
        self.decoder = decoder;
        if last {
            std::mem::take(&mut self.decoder).finish()?;
            if file.name.part == Part::Snapshot {
                self.end_snapshot()?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.staged.write_all_at(data, self.snapshot)?;
        self.snapshot += data.len() as u64;
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), Fault> {
        let mut header = [0; 100];
        let whole = self.snapshot >= header.len() as u64;
        if whole {
            self.staged.read_exact_at(&mut header, 0)?;
        }
        let size = header.get(16..18).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
        let size = size.filter(|_| header.starts_with(DB_MAGIC)).and_then(PageSize::from_db_header);
        let size = size.ok_or(Damage::NotSqlite("it does not begin like a database"))?;
        if !self.snapshot.is_multiple_of(u64::from(size.get())) {
            return Err(Damage::NotSqlite("it ends in the middle of a page").into());
        }
        self.page_size = Some(size);
        Ok(())
    }

    fn wal(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        self.scratch.file.write_all_at(data, self.wal.length)?;
        self.wal.length += data.len() as u64;
        let frame = self.page_size.map_or(HEADER, frame_size) as usize;
        loop {
            let want = if self.wal.scanner.is_some() { frame } else { HEADER as usize };
            let (part, rest) = data.split_at_checked(want - self.wal.partial.len().min(want)).unwrap_or((data, &[]));
            // A whole frame in one piece is not copied.
            if self.wal.partial.is_empty() && part.len() == want {
                self.wal_part(part)?;
            } else {
                self.wal.partial.extend_from_slice(part);
                if self.wal.partial.len() < want {
                    return Ok(());
                }
                let whole = std::mem::take(&mut self.wal.partial);
                self.wal_part(&whole)?;
            }
            data = rest;
        }
    }

    /// The WAL's header, or a frame.
    fn wal_part(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.wal.scanner {
            None => {
                let header = WalHeader::parse(bytes).ok_or(Damage::Wal("its WAL header is damaged"))?;
                if Some(header.page_size) != self.page_size {
                    return Err(Damage::Wal("its page size is not the snapshot's").into());
                }
                self.wal.scanner = Some(Scanner::new(&header, Cursor::start(&header), 0));
                Ok(())
            }
            Some(scanner) => match scanner.feed(bytes) {
                Fed::Open | Fed::Commit => Ok(()),
                Fed::End => Err(Damage::Wal("it holds a frame that does not follow the one before it").into()),
            },
        }
    }

    /// All of an index is there: its committed pages go into the database, which gets the size of the last commit.
    fn close_wal(&mut self) -> Result<(), Fault> {
        let wal = std::mem::take(&mut self.wal);
        if !wal.partial.is_empty() {
            return Err(Damage::Wal("the WAL before it ends in the middle of a frame").into());
        }
        let (Some(scanner), Some(size)) = (wal.scanner, self.page_size) else { return Ok(()) };
        let committed = scanner.finish();
        let mut page = vec![0; size.bytes()];
        for (number, version) in &committed.pages {
            self.scratch.file.read_exact_at(&mut page, version.at)?;
            self.staged.write_all_at(&page, size.offset_of(*number))?;
        }
        if committed.commit > 0 {
            self.staged.set_len(u64::from(committed.commit) * u64::from(size.get()))?;
        }
        Ok(())
    }

    fn finish(mut self, last: &OldFile) -> Result<OldAssembled, RestoreError> {
        self.close_wal().map_err(|fault| self.explain(last, fault))?;
        let Some(page_size) = self.page_size else {
            return Err(RestoreError::NothingThere { replica: self.replica });
        };
        Ok(OldAssembled { db: self.db, file: self.staged, page_size })
    }
}

/// What went wrong with a piece, before it is known of which file.
enum Fault {
    Damage(Damage),
    Io(io::Error),
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Fault::Damage(damage)
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Fault::Damage(Damage::Frame(error))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}
