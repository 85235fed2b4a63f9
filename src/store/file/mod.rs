//! A directory as a store. Owns: the files under its root. In: keys, bytes. Out: files that appear whole or not at all,
//! durable when the call returns. Never: blocks the caller's thread (file systems may hang), or follows a key out of the
//! root.

mod errors;
mod temp;
mod walk;

use super::{Body, Chunk, Object, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, layout::Layout, limit::within};
use crate::model::Deadline;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use temp::Temp;
use tokio::sync::mpsc;

pub(super) struct FileStore {
    url: String,
    root: PathBuf,
    /// Left behind by runs that were killed; seen by a listing, removed by whoever writes.
    stale: Mutex<Vec<PathBuf>>,
}

impl FileStore {
    pub(super) fn new(settings: &StoreSettings) -> FileStore {
        FileStore {
            url: settings.url.trim_end_matches('/').to_owned(),
            root: PathBuf::from(&settings.path),
            stale: Mutex::default(),
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    fn path(&self, operation: &'static str, key: &str) -> Result<PathBuf, StoreError> {
        if key::is_object(key) {
            return Ok(self.root.join(key));
        }
        Err(StoreError::new(StoreErrorKind::Invalid, operation, self.subject(key), "not a valid key"))
    }

    async fn write_new(&self, key: &str, body: Body, timestamp_ms: i64) -> Result<Put, StoreError> {
        const CREATE: &str = "create";
        let target = self.path(CREATE, key)?;
        let subject = self.subject(key);
        let temp = blocking(CREATE, &subject, move || Temp::create(&target)).await?;
        let temp = match body {
            Body::Whole(bytes) => blocking(CREATE, &subject, move || temp.write(&bytes)).await?,
            Body::Stream(chunks) => stream(temp, chunks, CREATE, &subject).await?,
        };
        let stale = std::mem::take(&mut *self.stale.lock().unwrap_or_else(PoisonError::into_inner));
        let publish = move || {
            let put = temp.publish_new(timestamp_ms)?;
            for path in stale {
                // What is left is seen again.
                let _ = std::fs::remove_file(path);
            }
            Ok(put)
        };
        blocking(CREATE, &subject, publish).await
    }

    async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let target = self.path("put", key)?;
        let work = move || Temp::create(&target)?.write(&body)?.publish_over();
        blocking("put", &self.subject(key), work).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let path = self.path("get", key)?;
        let subject = self.subject(key);
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(StoreError::new(StoreErrorKind::Invalid, "get", subject, "the range asked for is empty"));
        }
        blocking("get", &subject, move || read_range(&path, range)).await
    }

    async fn walk(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let subject = self.subject(prefix);
        if !key::is_prefix(prefix) {
            return Err(StoreError::new(StoreErrorKind::Invalid, "list", subject, "not a valid prefix"));
        }
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let found = blocking("list", &subject, move || walk::walk(&root, &prefix)).await?;
        if !found.stale.is_empty() {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = found.stale;
        }
        Ok(found.objects)
    }

    async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            let path = self.path("delete", key)?;
            blocking("delete", &self.subject(key), move || match std::fs::remove_file(&path) {
                Err(error) if !errors::is_absent(&error) => Err(error),
                _ => Ok(()),
            })
            .await?;
        }
        Ok(())
    }
}

impl Store for FileStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(async move { within(by, "list", &self.subject(prefix), self.walk(prefix)).await })
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        let (root, subject) = (self.root.clone(), self.subject(""));
        Box::pin(async move {
            within(by, "list", &subject, blocking("list", &subject, move || walk::directories(&root))).await
        })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async move { within(by, "get", &self.subject(key), self.read(key, range)).await })
    }

    fn put_new<'a>(&'a self, key: &'a str, body: Body, timestamp_ms: i64, by: Deadline) -> StoreFuture<'a, Put> {
        Box::pin(async move { within(by, "create", &self.subject(key), self.write_new(key, body, timestamp_ms)).await })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "put", &self.subject(key), self.replace(key, body)).await })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "delete in", &self.url, self.remove(keys)).await })
    }
}

/// Appends every piece. A channel that closes early drops `temp`, which removes the file.
async fn stream(
    mut temp: Temp,
    mut chunks: mpsc::Receiver<Chunk>,
    operation: &'static str,
    subject: &str,
) -> Result<Temp, StoreError> {
    loop {
        match chunks.recv().await {
            Some(Chunk::Data(bytes)) => temp = blocking(operation, subject, move || temp.write(&bytes)).await?,
            Some(Chunk::End) => return Ok(temp),
            None => return Err(StoreError::new(StoreErrorKind::Invalid, operation, subject, super::PRODUCER_GONE)),
        }
    }
}

/// Runs `work` on the blocking pool. When the caller gives up first, the work ends by itself and its result is dropped.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    subject: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(errors::explain(operation, subject, &error)),
        Err(_) => Err(StoreError::new(StoreErrorKind::Unreachable, operation, subject, "the work was broken off")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the replica, no database")]
fn read_range(path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let range = range.unwrap_or(0..metadata.len());
    let end = range.end.min(metadata.len());
    let length = end.saturating_sub(range.start);
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
