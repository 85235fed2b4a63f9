//! A bucket around a dialect in memory, whose requests the test holds up.

use super::*;
use crate::store::paging::Entry;
use crate::store::{Scheme, open};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Two names a page; a request waits for a permit of `gate`.
struct Memory {
    objects: Mutex<BTreeMap<String, Bytes>>,
    gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Memory {
    async fn request(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let _permit = self.gate.acquire().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap()
    }
}

impl Dialect for Memory {
    type Client = ();
    const LAYOUT: Layout = Layout::S3;
    const LISTS_FROM: bool = true;
    const DELETES: (usize, usize) = (1, 8);

    fn new(_: &StoreSettings) -> Result<Memory, String> {
        Ok(Memory {
            objects: Mutex::default(),
            gate: Semaphore::new(1000),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn root(path: &str) -> String {
        format!("{path}/")
    }

    async fn connect(settings: &StoreSettings, _: &Arc<StoreClock>) -> Result<(), String> {
        if settings.ca_file.is_some() { Err("no such CA".to_owned()) } else { Ok(()) }
    }

    fn part_size(&self) -> usize {
        4
    }

    async fn list(&self, _: &Arc<()>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        self.request().await;
        let begin = if page.token.is_empty() { page.start } else { page.token };
        let objects = self.objects();
        let mut names = objects.keys().filter(|name| name.starts_with(page.prefix) && name.as_str() >= begin);
        let entry = |name: &String| Entry { name: name.clone(), size: Some(1), modified_ms: Some(0) };
        let entries = names.by_ref().take(2).map(entry).collect();
        let token = names.next().cloned();
        Ok(Listing { entries, directories: Vec::new(), more: Some(token.is_some()), token })
    }

    async fn get(&self, _: &Arc<()>, name: &str, mut download: Download<'_>) -> Result<Got, Failure> {
        self.request().await;
        let content = self.objects().get(name).cloned();
        let content = content.ok_or_else(|| Failure::new(StoreErrorKind::NotFound, "gone"))?;
        if download.range().is_some() {
            return Ok(Got::RangeRefused);
        }
        content.chunks(2).for_each(|piece| download.piece(Bytes::copy_from_slice(piece)));
        Ok(Got::Content)
    }

    async fn create(&self, _: &Arc<()>, object: NewObject, _: Deadline) -> Result<Put, Failure> {
        self.request().await;
        let mut objects = self.objects();
        if objects.contains_key(&object.name) {
            return Ok(Put::Exists);
        }
        objects.insert(object.name, object.first);
        Ok(Put::Created)
    }

    async fn put(&self, _: &Arc<()>, name: &str, content: Bytes) -> Result<(), Failure> {
        self.request().await;
        self.objects().insert(name.to_owned(), content);
        Ok(())
    }

    async fn delete(&self, _: &Arc<()>, names: &[String]) -> Result<(), Failure> {
        self.request().await;
        match self.objects().remove(&names[0]) {
            Some(content) if content == "kept" => {
                Err(Failure::new(StoreErrorKind::Denied, "a policy").deleting(&names[0]))
            }
            _ => Ok(()),
        }
    }
}

fn settings() -> StoreSettings {
    StoreSettings::new(Scheme::S3, "s3://b/app/".into(), "b".into(), "app".into())
}

fn bucket() -> Bucket<Memory> {
    Bucket::new(&settings(), &Links::default()).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

async fn put(bucket: &Bucket<Memory>, key: &str, content: &'static str) {
    bucket.put(key, Bytes::from_static(content.as_bytes()), soon()).await.unwrap();
}

fn keys(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn calls_are_counted_by_result() {
    let bucket = bucket();
    for _ in 0..2 {
        bucket.put_new("a", Body::Whole(Bytes::from_static(b"x")), 0, soon()).await.unwrap();
    }
    put(&bucket, "b", "").await;
    assert_eq!(bucket.get("a", None, soon()).await.unwrap(), "x");
    bucket.get_into("a", None, &|_| {}, soon()).await.unwrap();
    bucket.get("none", None, soon()).await.unwrap_err();
    bucket.list("", soon()).await.unwrap();
    bucket.list_page("", "", soon()).await.unwrap();
    bucket.directories(soon()).await.unwrap();
    bucket.delete(&["a".to_owned(), "b".to_owned()], soon()).await.unwrap();
    bucket.list("", Deadline::after(Duration::ZERO)).await.unwrap_err();
    bucket.dialect.gate.forget_permits(1000);
    let keys = ["x".to_owned()];
    let dropped = bucket.delete(&keys, soon());
    assert!(tokio::time::timeout(Duration::from_millis(5), dropped).await.is_err());
    let counts = bucket.counts().unwrap();
    let of = |operation| CallResult::ALL.map(|result| counts.get(operation, result));
    assert_eq!(of(Operation::Put), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(of(Operation::Get), [2, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(of(Operation::List), [3, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(of(Operation::Delete), [1, 0, 0, 0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn errors_name_operation_and_subject() {
    let bucket = bucket();
    put(&bucket, "a", "kept").await;
    let (a, climbs) = (["a".to_owned()], ["../x".to_owned()]);
    for (error, expected) in [
        (bucket.get("none", None, soon()).await.unwrap_err(), "cannot get s3://b/app/none: gone"),
        (bucket.get("../x", None, soon()).await.unwrap_err(), "cannot get s3://b/app/../x: not a valid key"),
        (
            bucket.get("a", Some(2..2), soon()).await.unwrap_err(),
            "cannot get s3://b/app/a: the range asked for is empty",
        ),
        (bucket.list("../", soon()).await.unwrap_err(), "cannot list s3://b/app/../: not a valid prefix"),
        (bucket.delete(&a, soon()).await.unwrap_err(), "cannot delete s3://b/app/a: a policy"),
        (bucket.delete(&climbs, soon()).await.unwrap_err(), "cannot delete s3://b/app/../x: not a valid key"),
        (
            bucket.delete(&a, Deadline::after(Duration::ZERO)).await.unwrap_err(),
            "cannot delete in s3://b/app: no time was left to try",
        ),
    ] {
        assert_eq!(error.to_string(), expected);
    }
    let untrusted = StoreSettings { ca_file: Some("/none".into()), ..settings() };
    let untrusted: Bucket<Memory> = Bucket::new(&untrusted, &Links::default()).unwrap();
    let error = untrusted.list("ltx/", soon()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot prepare the connection to s3://b/app: no such CA");
    assert_eq!(error.kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn listings_go_on_from_page_to_page() {
    let bucket = bucket();
    for key in ["a", "b", "c", "d", "e"] {
        put(&bucket, key, "").await;
    }
    for foreign in ["other", "app/c1/", "app/c2.tmp", "app/c3.tmp"] {
        bucket.dialect.objects().insert(foreign.to_owned(), Bytes::new());
    }
    assert_eq!(keys(&bucket.list("", soon()).await.unwrap()), ["a", "b", "c", "d", "e"]);
    for (after, expected, more) in
        [("", &["a", "b"][..], true), ("a", &["b"], true), ("c", &["d", "e"], false), ("e", &[], false)]
    {
        let page = bucket.list_page("", after, soon()).await.unwrap();
        assert_eq!((keys(&page.objects), page.more), (expected.to_vec(), more), "{after}");
    }
}

#[tokio::test]
async fn a_refused_range_is_checked_against_the_size() {
    let bucket = bucket();
    put(&bucket, "a", "x").await;
    assert_eq!(bucket.get("a", Some(1..9), soon()).await.unwrap(), "");
    let error = bucket.get("a", Some(0..9), soon()).await.unwrap_err();
    assert!(
        error.kind == StoreErrorKind::Unreachable && error.detail.contains("the object has 1"),
        "{error}"
    );
}

/// Each of many deletions takes a permit for each of its requests, and all of them come to an end.
#[tokio::test]
async fn many_deletions_at_once_share_the_permits() {
    let bucket = bucket();
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let deletions = (0..100).map(|_| bucket.delete(&keys, soon()));
    try_join_all(deletions).await.unwrap();
    bucket.dialect.gate.forget_permits(1000);
    let waiting = try_join_all((0..100).map(|_| bucket.delete(&keys, soon())));
    assert!(tokio::time::timeout(Duration::from_millis(5), waiting).await.is_err());
    assert_eq!(bucket.dialect.most.load(Ordering::SeqCst), 64);
}

#[tokio::test]
async fn a_stream_takes_no_permit() {
    let bucket = bucket();
    let (senders, streams): (Vec<_>, Vec<_>) =
        (0..100).map(|_| tokio::sync::mpsc::channel::<crate::store::Chunk>(1)).unzip();
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let uploads =
        names.iter().zip(streams).map(|(key, body)| bucket.put_new(key, Body::Stream(body), 0, soon()));
    let mut uploads = std::pin::pin!(try_join_all(uploads));
    assert!(tokio::time::timeout(Duration::from_millis(5), &mut uploads).await.is_err());
    put(&bucket, "small", "x").await;
    drop(senders);
    assert_eq!(uploads.await.unwrap_err().kind, StoreErrorKind::Invalid);
}

#[test]
fn a_directory_needs_a_path() {
    let error = open(&StoreSettings::new(Scheme::File, "file://".into(), String::new(), String::new()))
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("cannot open file://: the directory is missing"), "{error}");
}
