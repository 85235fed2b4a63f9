//! After a quiet time, and beside another writer: what maintenance does with a replica that may not be its
//! own any more.

use super::*;
use crate::replicate::upload::{Content, Segment, Stored};

/// A replica with work waiting: old raw files that are merged, and one that is not. Maintenance knows it as
/// it was listed, and has not heard of it for long.
struct Stale {
    directory: tempfile::TempDir,
    store: Arc<Faulty>,
    task: MaintenanceTask,
    events: mpsc::UnboundedSender<Event>,
}

impl Stale {
    async fn new() -> Stale {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let real = crate::store::open(&StoreSettings::new(
            Scheme::File,
            format!("file://{path}"),
            String::new(),
            path,
        ));
        let store = Arc::new(Faulty::new(real.unwrap()));
        put(&store, Level::SNAPSHOT, &header(1, 1, 1, 1), &page(1)).await;
        for txid in 2..=5 {
            put(&store, Level::RAW, &header(txid, txid, 1, txid as i64), &page(txid as u8)).await;
        }
        put(&store, Level(1), &header(2, 4, 1, 4), &page(4)).await;
        let db = crate::model::DbPath::new(directory.path().join("any.db"));
        let target = Target { db, store: store.clone() as Arc<dyn Store>, settings: quick(), late: false };
        let (events, inbox) = mpsc::unbounded_channel();
        let request = Arc::new(SnapshotRequest::new(Arc::new(Notify::new())));
        let mut task = MaintenanceTask::new(
            &target,
            &listed(&store).await,
            Clock::start(None),
            request,
            (events.clone(), inbox),
        );
        task.sure_since_ms = i64::MIN;
        task.check().await;
        Stale { directory, store, task, events }
    }

    fn remove(&self, level: Level, min: u64, max: u64) {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        std::fs::remove_file(self.directory.path().join(Layout::Directory.key(level, range))).unwrap();
    }

    fn remove_all(&self) {
        std::fs::remove_dir_all(self.directory.path().join("ltx")).unwrap();
    }

    /// Nothing was put, nothing is gone, no snapshot is asked for.
    async fn keeps_its_hands_off(&mut self) {
        let before = listed(&self.store).await;
        let (puts, deletes) = (self.store.count(Call::PutNew), self.store.count(Call::Delete));
        self.task.work().await;
        assert_eq!((self.store.count(Call::PutNew), self.store.count(Call::Delete)), (puts, deletes));
        assert_eq!(listed(&self.store).await, before);
        assert!(self.task.snapshot.is_none());
    }

    fn arrived(&self, txid: u64) {
        let (range, since_ms) = (TxidRange::single(Txid(txid)), self.task.clock.now_ms());
        self.events
            .send(Event::Arrived(File { level: Level::RAW, range, size: 0, since_ms, damaged: false }, None))
            .unwrap();
    }
}

#[tokio::test]
async fn after_a_quiet_time_the_work_is_done_where_nobody_else_writes() {
    let mut site = Stale::new().await;
    site.task.work().await;
    let files = listed(&site.store).await;
    assert!(holds(&files, 3, 2, 5), "{files:?}");
    let raw: Vec<_> =
        files.iter().filter(|file| file.level == Level::RAW).map(|file| file.range.max.0).collect();
    assert_eq!(raw, [5]);
}

#[tokio::test]
async fn what_another_writer_has_taken_over_is_left_alone() {
    let mut site = Stale::new().await;
    put(&site.store, Level::RAW, &header(6, 6, 1, 6), &page(6)).await;
    site.keeps_its_hands_off().await;
    // It was ours, on its way.
    site.arrived(6);
    site.task.work().await;
    assert!(site.store.count(Call::Delete) > 0);

    // The other one has merged what we know, and ours is gone.
    let mut site = Stale::new().await;
    put(&site.store, Level::RAW, &header(7, 7, 1, 7), &page(7)).await;
    put(&site.store, Level(1), &header(5, 6, 1, 6), &page(6)).await;
    (2..=5).for_each(|txid| site.remove(Level::RAW, txid, txid));
    site.keeps_its_hands_off().await;
    site.arrived(8);
    site.keeps_its_hands_off().await;
}

/// The same names, another content: what we would delete is all there is of it.
#[tokio::test]
async fn what_another_writer_has_begun_anew_is_left_alone() {
    let mut site = Stale::new().await;
    site.remove_all();
    put(&site.store, Level::SNAPSHOT, &header(1, 1, 1, 1), &page(91)).await;
    for txid in 2..=4 {
        put(&site.store, Level::RAW, &header(txid, txid, 1, txid as i64), &page(90 + txid as u8)).await;
    }
    site.keeps_its_hands_off().await;
    // Even if we have just uploaded something there: what replaces those files is not there.
    let mut site = Stale::new().await;
    site.remove(Level(1), 2, 4);
    site.task.sure_since_ms = site.task.clock.now_ms();
    site.task.pauses.merge.until_ms = i64::MAX;
    site.keeps_its_hands_off().await;
    assert!(site.store.count(Call::Get) > 0, "it has asked");
}

#[tokio::test]
async fn a_replica_that_was_emptied_gets_a_snapshot() {
    let mut site = Stale::new().await;
    site.remove_all();
    site.task.work().await;
    assert!(site.task.snapshot.is_some(), "a snapshot is asked for");
    assert_eq!(site.store.count(Call::Delete), 0);
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_again_later() {
    let mut site = Stale::new().await;
    site.store.all(Some(Call::Get), Fault::Fail(StoreErrorKind::Unreachable));
    site.keeps_its_hands_off().await;
    let until = site.task.work().await.unwrap();
    assert!(until <= site.task.clock.now_ms() + 60_000);
    site.store.heal();
    site.task.pauses.ownership.until_ms = 0;
    site.task.work().await;
    assert!(site.store.count(Call::Delete) > 0);
}

#[tokio::test]
async fn what_was_refused_is_asked_again_when_the_replica_takes_uploads() {
    let mut site = Stale::new().await;
    site.store.all(Some(Call::Get), Fault::Fail(StoreErrorKind::Denied));
    let until = site.task.work().await.unwrap();
    assert!(until > site.task.clock.now_ms() + 60_000);
    site.store.heal();
    site.task.take(Event::Back).await;
    site.task.work().await;
    assert!(site.store.count(Call::Delete) > 0);
}

/// A frozen machine thaws between the question and the put: other writers have used, merged and deleted that
/// name.
#[tokio::test]
async fn a_put_that_slept_removes_what_it_put_into_the_history_of_another() {
    for (other, expected) in [(true, None), (false, Some(true))] {
        let site = Stale::new().await;
        let bytes = Bytes::from(encode(&header(6, 6, 1, 6), &page(6)));
        let segment =
            Segment { level: Level::RAW, header: header(6, 6, 1, 6), content: Content::Encoded(bytes) };
        let key = Layout::Directory.key(Level::RAW, segment.header.range);
        let (begun, sure) = (Instant::now(), Duration::from_millis(50));
        site.store.nth(Call::PutNew, 1, Fault::Delay(4 * sure));
        let ours = ownership::put_next(&*site.store, &segment, None, begun, sure);
        let path = site.directory.path().join(Layout::Directory.key(Level(2), header(2, 9, 1, 9).range));
        let theirs = async {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, encode(&header(2, 9, 1, 9), &page(9))).unwrap();
        };
        let stored = if other { tokio::join!(ours, theirs).0 } else { ours.await };
        assert_eq!(stored.unwrap().map(|stored| matches!(stored, Stored::Yes(_))), expected);
        assert_eq!(site.directory.path().join(key).exists(), !other);
    }
}
