//! Files of the replica that are merged, deleted or replaced while a copy follows it; and copies that another
//! program has touched.

use super::site::{Python, Site, WAYS, eager, killed, poll, soon};
use super::*;
use crate::store::layout::Layout;
use crate::store::{Body, Object, Put, StoreFuture};
use std::fs;
use std::ops::Range;

fn anew(error: FollowError) -> Anew {
    match error {
        FollowError::RestoreAnew(anew) => anew,
        FollowError::Failed(error) => panic!("{error}"),
    }
}

const GROWS: &str = "INSERT INTO t(x) VALUES (randomblob(2500))";

/// A store in which something happens just before a file is read.
struct Hooked {
    inner: Arc<dyn Store>,
    hook: Box<dyn Fn(&str) + Send + Sync>,
    gets: std::sync::atomic::AtomicUsize,
    lists: std::sync::atomic::AtomicUsize,
}

impl Store for Hooked {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        self.lists.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.inner.list(prefix, by)
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        by: Deadline,
    ) -> StoreFuture<'a, bytes::Bytes> {
        self.gets.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (self.hook)(key);
        self.inner.get(key, range, by)
    }

    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put> {
        self.inner.put_new(key, body, timestamp_ms, by)
    }

    fn put<'a>(&'a self, key: &'a str, body: bytes::Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        self.inner.put(key, body, by)
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        self.inner.delete(keys, by)
    }
}

fn hooked(site: &Site, hook: impl Fn(&str) + Send + Sync + 'static) -> Arc<Hooked> {
    let (gets, lists) = Default::default();
    Arc::new(Hooked { inner: Arc::clone(&site.store), hook: Box::new(hook), gets, lists })
}

/// The replica merges, and deletes raw files, as fast as it can; a copy that looks rarely goes on by merged
/// files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_files_lead_on() {
    let mut site = Site::new("PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL");
    site.settings = eager(&site.settings);
    site.replicate();
    site.flush().await;
    let copies = [site.copy("in-place.db").await, site.copy("through.db").await];
    let mut followers = Vec::new();
    for (way, copy) in WAYS.into_iter().zip(&copies) {
        followers.push(site.follow(copy, way).await);
    }
    let mut random = Random(5);
    let mut merged = 0;
    let mut at = followers[0].poll(None, soon()).await.unwrap().position;
    for round in 0.. {
        assert!(round < 200, "no merged file was ever needed: {merged}");
        let until = Instant::now() + Duration::from_millis(250);
        while Instant::now() < until {
            site.commit(&act(&mut random)).await;
        }
        let end = site.commit(GROWS).await;
        for ((way, copy), follower) in WAYS.into_iter().zip(&copies).zip(&mut followers) {
            let followed = poll(follower).await;
            assert_eq!(followed.position, end, "{way:?}");
            if (followed.files as u64) < end.0 - at.0 {
                merged += 1;
            }
            if round % 4 == 0 {
                site.assert_same(copy, way, end).await;
            }
        }
        at = end;
        if merged >= 6 {
            break;
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn a_file_that_goes_between_plan_and_fetch() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        site.flush().await;
        let copy = site.copy("copy.db").await;
        let first = site.commit(GROWS).await;
        let end = site.commit(GROWS).await;
        // A snapshot is what is left, once the raw file is gone.
        site.stop().await;
        let snapshot = site.path("snapshot.ltx");
        make_snapshot(&site, end, &snapshot).await;
        let (raw, to) = (site.raw(end), site.replica().join(format!("ltx/9/{}-{end}.ltx", Txid::FIRST)));
        let key = format!("ltx/0/{first}-{first}.ltx");
        let (hidden, first_raw) = (snapshot.clone(), site.raw(first));
        let store = hooked(&site, move |asked| {
            if asked == key && hidden.exists() {
                fs::rename(&hidden, &to).unwrap();
                fs::remove_file(&raw).unwrap();
                fs::remove_file(&first_raw).unwrap();
            }
        });
        let mut follower = Follower::open(&copy, store, RestoreSettings::default(), way).await.unwrap();
        let followed = poll(&mut follower).await;
        assert_eq!((followed.position, followed.files), (end, 1), "{way:?}");
        assert!(!snapshot.exists());
        site.assert_same(&copy, way, end).await;
    }
}

/// A snapshot of that state, written as `replicate` would.
async fn make_snapshot(site: &Site, txid: Txid, to: &std::path::Path) {
    use crate::ltx::{Encoder, Header};
    use crate::model::{DbChecksum, PageNo, PageSize, TxidRange, page_checksum};
    let image = site.restored(txid).await;
    let size = PageSize::new(1024).unwrap();
    let range = TxidRange::new(Txid::FIRST, txid).unwrap();
    let mut header = Header::new(size, (image.len() / 1024) as u32, range, 1);
    let mut sum = DbChecksum::default();
    let pages = || (1..).map(PageNo).zip(image.chunks(1024));
    pages().for_each(|(page, data)| sum.toggle(page_checksum(page, data)));
    header.db_checksum = Some(sum);
    let mut out = Vec::new();
    let mut encoder = Encoder::start(&header, &mut out).unwrap();
    pages().for_each(|(page, data)| encoder.page(page, data, &mut out).unwrap());
    encoder.finish(&mut out).unwrap();
    fs::write(to, out).unwrap();
}

#[tokio::test]
async fn a_gap_is_told_and_never_passed() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        let start = site.flush().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        let lost = site.commit(GROWS).await;
        site.commit(GROWS).await;
        fs::remove_file(site.raw(lost)).unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(&told, Anew::Gap { from, .. } if *from == start), "{told}");
        site.assert_same(&copy, way, start).await;
        site.stop().await;
    }
}

/// The newest file of the replica goes; then all of it, and another one begins in its place.
#[tokio::test]
async fn a_replica_that_begins_anew_is_noticed() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        site.flush().await;
        let end = site.commit(GROWS).await;
        site.stop().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        assert_eq!(poll(&mut follower).await.files, 0);
        fs::rename(site.raw(end), site.path("aside")).unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::Behind { .. }), "{told}");
        fs::remove_dir_all(site.replica()).unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::Behind { end: Txid::NONE, .. }), "{told}");
        let v3 = site.replica().join("generations/0123456789abcdef/snapshots/00000000.snapshot.lz4");
        fs::create_dir_all(v3.parent().unwrap()).unwrap();
        fs::write(v3, "x").unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert_eq!(told, Anew::OlderFormat);
        fs::remove_dir_all(site.replica()).unwrap();

        // Another database reaches the same position, then goes on.
        let mut other = Site::new("PRAGMA page_size=1024");
        other.store = Arc::clone(&site.store);
        other.replicate();
        while other.commit("INSERT INTO t(x) VALUES (2)").await < end {}
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::OtherHistory { .. }), "{told}");
        other.commit(GROWS).await;
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::OtherHistory { .. }), "{told}");
        // Without the file of its own position, the next one tells.
        fs::remove_file(site.raw(end)).unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::OtherHistory { .. }), "{told}");
        assert_eq!(state_file::load(&copy).unwrap().unwrap().acked, end);
        other.stop().await;
    }
}

#[tokio::test]
async fn another_page_size_is_told() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        site.flush().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        site.stop().await;
        site.run("PRAGMA journal_mode=delete; PRAGMA page_size=4096; VACUUM; PRAGMA journal_mode=wal");
        site.replicate();
        site.commit(GROWS).await;
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::PageSize { .. }), "{told}");
        site.stop().await;
    }
}

#[tokio::test]
async fn a_copy_that_others_write_to_is_not_believed() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        site.flush().await;
        let copy = site.copy("copy.db").await;
        let mut follower = site.follow(&copy, way).await;
        site.commit(GROWS).await;
        poll(&mut follower).await;
        {
            let other = rusqlite::Connection::open(copy.as_path()).unwrap();
            other.execute_batch("INSERT INTO t(x) VALUES (1)").unwrap();
        }
        let end = site.commit(GROWS).await;
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::Touched { .. }), "{told}");
        drop(follower);
        killed(&copy);
        let told = anew(site.try_follow(&copy, way).await.err().unwrap());
        assert!(matches!(told, Anew::Content { .. }), "{told}");
        // The caller restores it, and it goes on.
        assert!(matches!(site.start(&copy).await.unwrap(), Outcome::Restored { txid, .. } if txid == end));
        let mut follower = site.follow(&copy, way).await;
        let end = site.commit(GROWS).await;
        assert_eq!(poll(&mut follower).await.position, end);
        site.assert_same(&copy, way, end).await;
        site.stop().await;
    }
}

/// A checkpoint of a reader changes nothing; a process that has the file open keeps pages from being written
/// in place.
#[tokio::test]
async fn readers_of_a_copy() {
    let mut site = Site::new("PRAGMA page_size=1024");
    site.replicate();
    site.flush().await;
    let copy = site.copy("copy.db").await;
    let mut follower = site.follow(&copy, Way::ThroughSqlite).await;
    let other = rusqlite::Connection::open(copy.as_path()).unwrap();
    for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
        let end = site.commit(GROWS).await;
        assert_eq!(poll(&mut follower).await.position, end);
        other.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
    }
    let end = site.commit(GROWS).await;
    assert_eq!(poll(&mut follower).await.position, end);
    site.assert_same(&copy, Way::ThroughSqlite, end).await;
    drop((follower, other));
    killed(&copy);
    let reads = Python::start(
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('SELECT count(*) FROM \
         t').fetchall()\n\
                               print('x', flush=True)\nsys.stdin.read()",
        &copy,
    );
    let told = site.try_follow(&copy, Way::InPlace).await.err().unwrap().to_string();
    assert!(told.contains("is open in another process (PID"), "{told}");
    reads.end();
    let mut follower = site.follow(&copy, Way::InPlace).await;
    let end = site.commit(GROWS).await;
    assert_eq!(poll(&mut follower).await.position, end);
    site.assert_same(&copy, Way::InPlace, end).await;
    site.stop().await;
}

/// A quiet replica costs one request; so does a look at one that has grown, and each file one more.
#[tokio::test]
async fn what_a_poll_costs() {
    let mut site = Site::new("PRAGMA page_size=1024");
    site.replicate();
    site.flush().await;
    let copy = site.copy("copy.db").await;
    let store = hooked(&site, |_| {});
    let counts = || {
        let count = |of: &std::sync::atomic::AtomicUsize| of.swap(0, std::sync::atomic::Ordering::SeqCst);
        (count(&store.lists), count(&store.gets))
    };
    let same = Arc::clone(&store) as Arc<dyn Store>;
    let mut follower = Follower::open(&copy, same, RestoreSettings::default(), Way::InPlace).await.unwrap();
    poll(&mut follower).await;
    assert_eq!(counts(), (1, 1), "the first time it reads the file of its own position");
    poll(&mut follower).await;
    assert_eq!(counts(), (1, 0));
    site.commit(GROWS).await;
    site.commit(GROWS).await;
    poll(&mut follower).await;
    assert_eq!(counts(), (1, 2));
    poll(&mut follower).await;
    assert_eq!(counts(), (1, 0));
    site.stop().await;
}

/// A replica that does not answer costs the time that was given, and the copy stays as it is.
#[tokio::test]
async fn a_poll_ends_at_its_deadline() {
    let mut site = Site::new("PRAGMA page_size=1024");
    site.replicate();
    let start = site.flush().await;
    let copy = site.copy("copy.db").await;
    let faulty = Arc::new(crate::store::faulty::Faulty::new(Arc::clone(&site.store)));
    let same = Arc::clone(&faulty) as Arc<dyn Store>;
    let mut follower = Follower::open(&copy, same, RestoreSettings::default(), Way::InPlace).await.unwrap();
    site.commit(GROWS).await;
    faulty.all(Some(crate::store::faulty::Call::Get), crate::store::faulty::Fault::Hang);
    let begun = Instant::now();
    let error = follower.poll(None, Deadline::after(Duration::from_millis(300))).await.unwrap_err();
    assert!(matches!(error, FollowError::Failed(RestoreError::Unavailable { .. })), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    faulty.heal();
    site.assert_same(&copy, Way::InPlace, start).await;
    assert!(poll(&mut follower).await.position > start);
    site.stop().await;
}

/// Writes the raw file of that position again without checksums, as Litestream's are, and with its pages
/// changed.
fn without_checksum(site: &Site, txid: Txid, change: impl Fn(u32, &mut Vec<u8>)) {
    use crate::ltx::{Decoder, Encoder, Event};
    let bytes = fs::read(site.raw(txid)).unwrap();
    let (mut decoder, mut left, mut out, mut encoder) = (Decoder::default(), &bytes[..], Vec::new(), None);
    while let Some(event) = decoder.next(&mut left).unwrap() {
        match event {
            Event::Header(header) => {
                let plain = crate::ltx::Header { db_checksum: None, ..header.clone() };
                encoder = Some(Encoder::start(&plain, &mut out).unwrap());
            }
            Event::Page(page, data) => {
                let mut data = data.to_vec();
                change(page.0, &mut data);
                encoder.as_mut().unwrap().page(page, &data, &mut out).unwrap();
            }
            Event::End(_) => {}
        }
    }
    encoder.unwrap().finish(&mut out).unwrap();
    fs::write(site.raw(txid), out).unwrap();
}

/// Without a checksum the file of the copy's own position proves whose the next one is, and SQLite's check
/// what came of it.
#[tokio::test]
async fn files_without_checksums() {
    for way in WAYS {
        let mut site = Site::new("PRAGMA page_size=1024");
        site.replicate();
        let start = site.flush().await;
        let first = site.commit(GROWS).await;
        let second = site.commit(GROWS).await;
        let third = site.commit("CREATE TABLE u(x); INSERT INTO u VALUES (1)").await;
        site.stop().await;
        for txid in [first, second] {
            without_checksum(&site, txid, |_, _| {});
        }
        without_checksum(&site, third, |page, data| {
            if page > 1 {
                data.fill(0xee);
            }
        });
        // Restored before the rest had come.
        let later: Vec<_> =
            [second, third].map(|txid| (site.raw(txid), fs::read(site.raw(txid)).unwrap())).into();
        later.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
        let copy = site.copy("copy.db").await;
        assert_eq!(state_file::load(&copy).unwrap().unwrap().acked, first);
        let own = fs::read(site.raw(first)).unwrap();
        fs::remove_file(site.raw(first)).unwrap();
        fs::write(&later[0].0, &later[0].1).unwrap();
        let mut follower = site.follow(&copy, way).await;
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(told, Anew::Unproven { txid, .. } if txid == first), "{told}");
        fs::write(site.raw(first), own).unwrap();
        assert_eq!(poll(&mut follower).await.position, second);
        site.assert_same(&copy, way, second).await;
        fs::write(&later[1].0, &later[1].1).unwrap();
        let told = anew(follower.poll(None, soon()).await.unwrap_err());
        assert!(matches!(&told, Anew::Damaged { problem, .. } if !problem.is_empty()), "{told}");
        let torn = state_file::load(&copy).unwrap().unwrap().torn();
        assert_eq!(torn, (way == Way::InPlace).then_some(third));
        assert!(start < first);
    }
}
