//! A directory. Files appear whole or not at all, and are durable when the call returns. All work runs on the
//! blocking pool: a file system may hang.

mod errors;
mod temp;
mod walk;

use super::bucket::{Dialect, NewObject};
use super::download::{Download, Got};
use super::failure::Failure;
use super::paging::{Listing, PageRequest};
use super::{Put, StoreClock, StoreSettings, layout::Layout};
use crate::model::Deadline;
use bytes::Bytes;
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use temp::Temp;

/// What is written at once.
const PART: usize = 1 << 20;

pub(super) struct Directory {
    root: PathBuf,
    /// Temporary files that killed runs left behind: found by a listing, removed by the next create.
    stale: Mutex<Vec<PathBuf>>,
}

impl Dialect for Directory {
    type Client = ();
    const LAYOUT: Layout = Layout::Directory;
    const LISTS_FROM: bool = false;
    const DELETES: (usize, usize) = (1, 1);

    fn new(settings: &StoreSettings) -> Result<Directory, String> {
        if settings.path.is_empty() {
            return Err(
                "the directory is missing: give an absolute path, as in file:///var/backup/app".to_owned()
            );
        }
        Ok(Directory { root: PathBuf::from(&settings.path), stale: Mutex::default() })
    }

    fn root(_: &str) -> String {
        String::new()
    }

    async fn connect(_: &StoreSettings, _: &Arc<StoreClock>) -> Result<(), String> {
        Ok(())
    }

    fn part_size(&self) -> usize {
        PART
    }

    async fn list(&self, _: &Arc<()>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        let root = self.root.clone();
        if page.by_directory {
            return Ok(Listing::complete(Vec::new(), blocking(move || walk::directories(&root)).await?));
        }
        let prefix = page.prefix.to_owned();
        let tree = blocking(move || walk::walk(&root, &prefix)).await?;
        if !tree.stale.is_empty() {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = tree.stale;
        }
        Ok(Listing::complete(tree.entries, Vec::new()))
    }

    async fn get(&self, _: &Arc<()>, name: &str, mut download: Download<'_>) -> Result<Got, Failure> {
        let path = self.root.join(name);
        let range = download.range().cloned();
        download.piece(blocking(move || read_range(&path, range)).await?);
        Ok(Got::Content)
    }

    async fn create(&self, _: &Arc<()>, mut object: NewObject, _: Deadline) -> Result<Put, Failure> {
        let target = self.root.join(&object.name);
        let mut temp = blocking(move || Temp::create(&target)?.write(&object.first)).await?;
        while let Some(part) = object.rest.next().await.map_err(Failure::invalid)? {
            temp = blocking(move || temp.write(&part)).await?;
        }
        let stale = std::mem::take(&mut *self.stale.lock().unwrap_or_else(PoisonError::into_inner));
        let publish = move || {
            let put = temp.publish_new(object.timestamp_ms)?;
            for path in stale {
                // The next listing finds what is left.
                let _ = std::fs::remove_file(path);
            }
            Ok(put)
        };
        blocking(publish).await
    }

    async fn put(&self, _: &Arc<()>, name: &str, content: Bytes) -> Result<(), Failure> {
        let target = self.root.join(name);
        blocking(move || Temp::create(&target)?.write(&content)?.publish_over()).await
    }

    async fn delete(&self, _: &Arc<()>, names: &[String]) -> Result<(), Failure> {
        for name in names {
            let path = self.root.join(name);
            let deleted = blocking(move || match std::fs::remove_file(&path) {
                Err(error) if !errors::is_absent(&error) => Err(error),
                _ => Ok(()),
            });
            deleted.await.map_err(|failure| failure.deleting(name))?;
        }
        Ok(())
    }
}

/// Runs `work` on the blocking pool. If the caller drops the call, the work goes on and its result is
/// dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| errors::explain(&error)),
        Err(_) => Err(Failure::unreachable("the work was broken off")),
    }
}

fn read_range(path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
    // Opening a pipe would block for ever without O_NONBLOCK.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let range = range.unwrap_or(0..metadata.len());
    let end = range.end.min(metadata.len());
    let length = end.saturating_sub(range.start);
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
