//! A directory as a store, with a hook before each request, and replicas made for a test.

use litevisor::testing::ltx::{Encoder, Header};
use litevisor::testing::model::{Deadline, PageNo, PageSize, Txid, TxidRange};
use litevisor::testing::store::layout::{Layout, Level};
use litevisor::testing::store::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a request shall meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Served,
    Fails(StoreErrorKind),
    Delayed(Duration),
    /// Never answers; ends at its deadline.
    Hangs,
    /// So many bytes come, then the line breaks.
    Cut(usize),
    /// So many bytes come at a time, with a pause after each.
    Drips(usize, Duration),
}

type Hook = Box<dyn Fn(&str, usize) -> Fate + Send + Sync>;

/// Serves what is below `root`. The hook gets "list" or a key, and how many requests came before.
pub struct DirStore {
    root: PathBuf,
    hook: Hook,
    pub log: Mutex<Vec<String>>,
    running: AtomicUsize,
    pub most_at_once: AtomicUsize,
    /// How often somebody asked while nothing was on its way: round trips that were waited for one after the
    /// other.
    pub rounds: AtomicUsize,
    pub bytes_served: AtomicUsize,
    /// Objects in one reply to a listing.
    pub page: usize,
}

impl DirStore {
    pub fn new(root: &Path) -> DirStore {
        DirStore::with(root, |_, _| Fate::Served)
    }

    pub fn with(root: &Path, hook: impl Fn(&str, usize) -> Fate + Send + Sync + 'static) -> DirStore {
        DirStore {
            root: root.to_owned(),
            hook: Box::new(hook),
            log: Mutex::default(),
            running: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            rounds: AtomicUsize::new(0),
            bytes_served: AtomicUsize::new(0),
            page: 1000,
        }
    }

    fn part(&self, key: &str, range: Option<Range<u64>>) -> Result<bytes::Bytes, StoreError> {
        let kind = StoreErrorKind::NotFound;
        let missing = StoreError::new(kind, "get", key, "no such file");
        let bytes = fs::read(self.root.join(key)).map_err(|_| missing)?;
        let clamp = |edge: u64| (edge as usize).min(bytes.len());
        let range = range.map_or(0..bytes.len(), |range| clamp(range.start)..clamp(range.end));
        Ok(bytes::Bytes::copy_from_slice(&bytes[range]))
    }

    async fn meet(&self, what: &str, by: Deadline) -> Result<Fate, StoreError> {
        let before = {
            let mut log = self.log.lock().unwrap();
            log.push(what.to_owned());
            log.len() - 1
        };
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        self.rounds.fetch_add(usize::from(running == 1), Ordering::SeqCst);
        let fate = (self.hook)(what, before);
        let error = |kind| StoreError::new(kind, "get", what, format!("{kind:?}"));
        let met = match fate {
            Fate::Served | Fate::Cut(_) | Fate::Drips(..) => Ok(fate),
            Fate::Fails(kind) => Err(error(kind)),
            Fate::Delayed(span) if span < by.left() => {
                tokio::time::sleep(span).await;
                Ok(fate)
            }
            Fate::Delayed(_) | Fate::Hangs => {
                tokio::time::sleep(by.left()).await;
                Err(error(StoreErrorKind::TimedOut))
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        met
    }
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<Object>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let key = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            walk(&entry.path(), &format!("{key}/"), found);
        } else {
            let age = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
            found.push(Object { key, size: metadata.len(), modified_ms: age.as_millis() as i64 });
        }
    }
}

impl Store for DirStore {
    fn url(&self) -> &str {
        "file:///replica"
    }

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(async move {
            self.meet("list", by).await?;
            let mut found = Vec::new();
            walk(&self.root, "", &mut found);
            found.retain(|object| object.key.starts_with(prefix));
            Ok(found)
        })
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        by: Deadline,
    ) -> StoreFuture<'a, bytes::Bytes> {
        Box::pin(async move {
            self.meet(key, by).await?;
            self.part(key, range)
        })
    }

    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(async move {
            self.meet(format!("list {prefix} {after}").trim_end(), by).await?;
            let mut objects = Vec::new();
            walk(&self.root, "", &mut objects);
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            objects.retain(|object| object.key.starts_with(prefix) && object.key.as_str() > after);
            let more = objects.len() > self.page;
            objects.truncate(self.page);
            Ok(Page { objects, more })
        })
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: &'a (dyn Fn(bytes::Bytes) + Send + Sync),
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let fate = self.meet(key, by).await?;
            let bytes = self.part(key, range)?;
            let take = |bytes: bytes::Bytes| {
                self.bytes_served.fetch_add(bytes.len(), Ordering::SeqCst);
                take(bytes);
            };
            match fate {
                Fate::Cut(at) if at < bytes.len() => {
                    take(bytes.slice(..at));
                    let kind = StoreErrorKind::Unreachable;
                    return Err(StoreError::new(kind, "get", key, "cut"));
                }
                Fate::Drips(size, pause) => {
                    for at in (0..bytes.len()).step_by(size) {
                        tokio::time::sleep(pause).await;
                        take(bytes.slice(at..(at + size).min(bytes.len())));
                    }
                }
                _ => take(bytes),
            }
            Ok(())
        })
    }

    fn put_new<'a>(&'a self, _: &'a str, _: Body, _: i64, _: Deadline) -> StoreFuture<'a, Put> {
        panic!("a restore writes nothing to the store")
    }

    fn put<'a>(&'a self, _: &'a str, _: bytes::Bytes, _: Deadline) -> StoreFuture<'a, ()> {
        panic!("a restore writes nothing to the store")
    }

    fn delete<'a>(&'a self, _: &'a [String], _: Deadline) -> StoreFuture<'a, ()> {
        panic!("a restore removes nothing from the store")
    }
}

pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// A copy of a sample's replica whose files have the times that they had.
pub fn sample_replica(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let expected = expected(name);
    for entry in expected["files"].as_array().into_iter().flatten() {
        let key = format!("ltx/{}/{}", entry["level"], entry["name"].as_str().unwrap());
        copy(name, &key, entry["mtime_ms"].as_u64().unwrap(), dir.path());
    }
    for entry in expected["v3_files"].as_array().into_iter().flatten() {
        copy(name, entry["path"].as_str().unwrap(), entry["mtime_ms"].as_u64().unwrap(), dir.path());
    }
    dir
}

pub fn expected(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(samples().join(name).join("expected.json")).unwrap()).unwrap()
}

fn copy(sample: &str, key: &str, mtime_ms: u64, to: &Path) {
    let target = to.join(key);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(samples().join(sample).join("replica").join(key), &target).unwrap();
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(mtime_ms);
    fs::File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
}

pub const PAGE: usize = 512;

/// Page 1 of a database that says nothing but its page size; other pages are filled with one byte.
pub fn page(number: u32, fill: u8) -> Vec<u8> {
    let mut data = vec![fill; PAGE];
    if number == 1 {
        data[..100].fill(0);
        data[..16].copy_from_slice(b"SQLite format 3\0");
        data[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
    }
    data
}

pub fn header(commit: u32, min: u64, max: u64) -> Header {
    let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
    Header::new(PageSize::new(PAGE as u32).unwrap(), commit, range, 0)
}

pub fn key(level: u8, header: &Header) -> String {
    Layout::Directory.key(Level(level), header.range)
}

pub fn encode(header: &Header, pages: &BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::start(header, &mut out).unwrap();
    for (number, data) in pages {
        encoder.page(PageNo(*number), data, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out
}

/// Puts a file of the given pages, `(number, fill)`, into a replica.
pub fn put(root: &Path, level: u8, header: &Header, pages: &[(u32, u8)]) -> PathBuf {
    let pages = pages.iter().map(|(number, fill)| (*number, page(*number, *fill))).collect();
    put_bytes(root, &key(level, header), &encode(header, &pages))
}

pub fn put_bytes(root: &Path, key: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}
