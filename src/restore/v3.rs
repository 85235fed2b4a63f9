//! Restores a Litestream 0.3 replica into the staged file: the snapshot, then the WAL, index by index. The
//! bytes of one index go through a scratch file beside the staged file, so that uncommitted frames never
//! reach it and memory stays small; transactions are applied as a checkpoint does.

use super::error::{Damage, RestoreError};
use super::settings::Owners;
use super::source::{Source, SourceError};
use super::staged::check_room;
use super::verify::{V3Assembled, VerifiedDb, verify_v3};
use super::{owner, staged};
use crate::ltx::{FrameDecoder, FrameError};
use crate::model::{DbPath, PageSize, Txid, TxidRange};
use crate::replica::RemoteFile;
use crate::rights::{self, Dir};
use crate::store::layout::Level;
use crate::v3::Part;
use crate::v3::size::{HEADER_BYTES, SnapshotSize, commit_is_possible};
use crate::v3::{V3File, V3Plan};
use crate::wal::{Cursor, Fed, HEADER, Scanner, WalHeader, frame_size};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Brings the plan's state into the staged file.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    plan: &V3Plan,
    owners: &Owners,
) -> Result<VerifiedDb, SourceError> {
    owner::create_directories(db, owners)?;
    let files: Vec<RemoteFile> = plan.files().map(as_remote).collect();
    let names: Vec<&V3File> = plan.files().collect();
    let mut assembly = V3Assembly::create(db, source.url())?;
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
    let verified = verify_v3(assembly.finish(last)?, source.url(), last)?;
    owner::prepare_staged(&verified, owners)?;
    Ok(verified)
}

/// For the requests, which know keys and sizes only.
pub(super) fn as_remote(file: &V3File) -> RemoteFile {
    RemoteFile {
        key: file.key.clone(),
        level: Level::RAW,
        range: TxidRange::single(Txid::FIRST),
        size: file.size,
        modified_ms: file.modified_ms,
    }
}

struct V3Assembly {
    replica: String,
    db: DbPath,
    path: PathBuf,
    staged: Arc<File>,
    scratch: Scratch,
    decoder: FrameDecoder,
    /// Bytes of the snapshot, and what its first page says of its size.
    snapshot: u64,
    size: Option<SnapshotSize>,
    page_size: Option<PageSize>,
    /// Pages of the database as it is in the staged file.
    pages: u64,
    /// There was room for so many bytes in the staged and in the scratch file.
    staged_room: u64,
    scratch_room: u64,
    wal: Wal,
}

/// Room is asked for in steps of this many bytes, where no size is known.
const ROOM: u64 = 32 << 20;

/// A file that goes with its owner.
struct Scratch {
    db: DbPath,
    path: PathBuf,
    file: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that stays goes with the staged file.
        let name = self.path.file_name().unwrap_or_default();
        let _ = rights::within(&self.db, || Dir::open(self.db.directory())?.remove(name));
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

impl V3Assembly {
    fn create(db: &DbPath, replica: &str) -> Result<V3Assembly, RestoreError> {
        let path = db.staged();
        // SQLite's own name for it: whatever cleans up after a staged file removes it, too.
        let scratch = DbPath::new(path.clone()).wal();
        Ok(V3Assembly {
            replica: replica.to_owned(),
            db: db.clone(),
            staged: Arc::new(staged::create(db, &path)?),
            path,
            scratch: Scratch { file: staged::create(db, &scratch)?, path: scratch, db: db.clone() },
            decoder: FrameDecoder::default(),
            snapshot: 0,
            size: None,
            page_size: None,
            pages: 0,
            staged_room: 0,
            scratch_room: 0,
            wal: Wal::default(),
        })
    }

    /// The next bytes of `file`; `last` when there are no more of it.
    fn feed(&mut self, file: &V3File, bytes: &[u8], last: bool) -> Result<(), RestoreError> {
        self.apply(file, bytes, last).map_err(|fault| self.explain(file, fault))
    }

    fn explain(&self, file: &V3File, fault: Fault) -> RestoreError {
        match fault {
            Fault::Damage(damage) => {
                RestoreError::Damaged { replica: self.replica.clone(), file: file.key.clone(), damage }
            }
            Fault::Io(source) => RestoreError::io("write", &self.path)(source),
            Fault::Local(error) => error,
        }
    }

    fn apply(&mut self, file: &V3File, bytes: &[u8], last: bool) -> Result<(), Fault> {
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
        let begun = self.snapshot;
        self.snapshot = begun.saturating_add(data.len() as u64);
        // Behind the end that the first page names nothing is part of the database.
        let most = self.size.map_or(u64::MAX, |size| size.bytes());
        let kept = most.saturating_sub(begun).min(data.len() as u64);
        let (kept, _) = data.split_at_checked(kept as usize).unwrap_or((data, &[]));
        if !kept.is_empty() {
            reserve(&self.staged, &self.path, &mut self.staged_room, begun + kept.len() as u64)?;
            self.staged.write_all_at(kept, begun)?;
        }
        if begun < HEADER_BYTES && self.snapshot >= HEADER_BYTES {
            self.read_size()?;
        }
        Ok(())
    }

    /// From the snapshot's first bytes: before more of it is written than there can be.
    fn read_size(&mut self) -> Result<(), Fault> {
        let mut header = [0; HEADER_BYTES as usize];
        self.staged.read_exact_at(&mut header, 0)?;
        let size = SnapshotSize::of(&header).ok_or(Damage::NotSqlite("it does not begin like a database"))?;
        if size.pages.is_some() {
            reserve(&self.staged, &self.path, &mut self.staged_room, size.bytes())?;
        }
        if self.snapshot > size.bytes() {
            self.staged.set_len(size.bytes())?;
        }
        self.size = Some(size);
        Ok(())
    }

    fn end_snapshot(&mut self) -> Result<(), Fault> {
        let size = self.size.ok_or(Damage::NotSqlite("it does not begin like a database"))?;
        let page = u64::from(size.page_size.get());
        if !self.snapshot.is_multiple_of(page) {
            return Err(Damage::NotSqlite("it ends in the middle of a page").into());
        }
        (self.page_size, self.pages) = (Some(size.page_size), self.snapshot.min(size.bytes()) / page);
        Ok(())
    }

    fn wal(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        let end = self.wal.length.saturating_add(data.len() as u64);
        reserve(&self.scratch.file, &self.scratch.path, &mut self.scratch_room, end)?;
        self.scratch.file.write_all_at(data, self.wal.length)?;
        self.wal.length = end;
        let frame = self.page_size.map_or(HEADER, frame_size) as usize;
        loop {
            let want = if self.wal.scanner.is_some() { frame } else { HEADER as usize };
            let (part, rest) =
                data.split_at_checked(want - self.wal.partial.len().min(want)).unwrap_or((data, &[]));
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
                Fed::End => {
                    Err(Damage::Wal("it holds a frame that does not follow the one before it").into())
                }
            },
        }
    }

    /// All of an index is there: its committed pages go into the database, which gets the size of the last
    /// commit.
    fn close_wal(&mut self) -> Result<(), Fault> {
        let wal = std::mem::take(&mut self.wal);
        if !wal.partial.is_empty() {
            return Err(Damage::Wal("the WAL before it ends in the middle of a frame").into());
        }
        let (Some(scanner), Some(size)) = (wal.scanner, self.page_size) else { return Ok(()) };
        let committed = scanner.finish();
        if !commit_is_possible(committed.commit, self.pages, committed.pages.len()) {
            return Err(Damage::Pages(committed.commit).into());
        }
        let bytes = u64::from(committed.commit) * u64::from(size.get());
        reserve(&self.staged, &self.path, &mut self.staged_room, bytes)?;
        let mut page = vec![0; size.bytes()];
        for (number, version) in &committed.pages {
            self.scratch.file.read_exact_at(&mut page, version.at)?;
            self.staged.write_all_at(&page, size.offset_of(*number))?;
        }
        if committed.commit > 0 {
            self.staged.set_len(bytes)?;
            self.pages = u64::from(committed.commit);
        }
        Ok(())
    }

    fn finish(mut self, last: &V3File) -> Result<V3Assembled, RestoreError> {
        self.close_wal().map_err(|fault| self.explain(last, fault))?;
        let Some(page_size) = self.page_size else {
            return Err(RestoreError::NothingThere { replica: self.replica });
        };
        Ok(V3Assembled { db: self.db, file: self.staged, page_size })
    }
}

/// Asks for room before `file` gets so many bytes; `room` is what was asked for last.
fn reserve(file: &File, path: &Path, room: &mut u64, bytes: u64) -> Result<(), Fault> {
    if bytes > *room {
        let wanted = bytes.next_multiple_of(ROOM);
        check_room(file, path, bytes).map_err(Fault::Local)?;
        // Near the end of the disk it is asked for each time.
        *room = if check_room(file, path, wanted).is_ok() { wanted } else { bytes };
    }
    Ok(())
}

/// What went wrong with a piece, before it is known of which file.
enum Fault {
    Damage(Damage),
    Io(io::Error),
    Local(RestoreError),
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
