//! Two kinds: a model of the decisions over made-up histories, where after every put and after every single
//! delete every promised state is restored and compared; and the doer on a directory, with faults.

use super::*;
use crate::ltx::merge::Step;
use crate::ltx::{Decoder, Encoder, Event as Ltx, Header, Merge};
use crate::model::{PageNo, PageSize, Txid};
use crate::replica::Target as Wanted;
use crate::replica::{Plan, plan};
use crate::replicate::upload::{Content, Segment};
use crate::replicate::{ReplicateSettings, Retention, Tiers};
use crate::store::faulty::{Call, Fault, Faulty};
use crate::store::layout::Layout;
use crate::store::{Body, Scheme, Store, StoreErrorKind, StoreSettings};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tokio::sync::Notify;

mod quiet;

type Pages = BTreeMap<u32, Vec<u8>>;

fn settings(raw_ms: u64) -> ReplicateSettings {
    let ms = Duration::from_millis;
    ReplicateSettings {
        levels: vec![ms(100), ms(300), ms(900)],
        snapshot_interval: ms(1000),
        retention: Some(Retention { snapshots: ms(1500), raw: ms(raw_ms), tiers: Tiers::default() }),
        ..ReplicateSettings::default()
    }
}

fn encode(header: &Header, pages: &Pages) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::start(header, &mut out).unwrap();
    pages.iter().for_each(|(page, data)| encoder.page(PageNo(*page), data, &mut out).unwrap());
    encoder.finish(&mut out).unwrap();
    out
}

fn size() -> PageSize {
    PageSize::new(512).unwrap()
}

fn header(min: u64, max: u64, commit: u32, timestamp_ms: i64) -> Header {
    let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
    Header::new(size(), commit, range, timestamp_ms)
}

fn apply(database: &mut Pages, mut file: &[u8]) {
    let (mut decoder, mut commit) = (Decoder::default(), 0);
    while let Some(event) = decoder.next(&mut file).unwrap() {
        match event {
            Ltx::Header(header) => commit = header.commit,
            Ltx::Page(page, data) => drop(database.insert(page.0, data.to_vec())),
            Ltx::End(_) => {}
        }
    }
    decoder.finish().unwrap();
    database.retain(|page, _| *page <= commit);
}

/// A replica in memory, the states it must be able to restore, and a clock.
struct Model {
    settings: ReplicateSettings,
    now: i64,
    inventory: Inventory,
    bytes: BTreeMap<(Level, TxidRange), (i64, Vec<u8>)>,
    /// Timestamp and content after each TXID, from 1 on.
    states: Vec<(i64, Pages)>,
    puts: usize,
}

impl Model {
    fn new(settings: ReplicateSettings) -> Model {
        let (inventory, bytes) = (Inventory::default(), BTreeMap::new());
        let mut model = Model { settings, now: 1, inventory, bytes, states: Vec::new(), puts: 0 };
        model.states.push((1, Pages::from([(1, vec![0; 512])])));
        model.snapshot();
        model
    }

    fn put(&mut self, level: Level, header: &Header, bytes: Vec<u8>, since_ms: i64) {
        let range = header.range;
        self.inventory.add(File { level, range, size: bytes.len() as u64, since_ms, damaged: false });
        let before = self.bytes.insert((level, range), (header.timestamp_ms, bytes));
        assert!(before.is_none(), "{level:?} {range} is there already");
        self.puts += 1;
        self.check();
    }

    fn write(&mut self, commit: u32, pages: &[u32], seed: u8) {
        let (_, before) = self.states.last().unwrap();
        let mut after = before.clone();
        // As SQLite does: page 1 is part of every transaction, and a database grows by pages that are
        // written.
        let grown = (before.len() as u32 + 1..=commit).chain([1]);
        let written: Pages = pages
            .iter()
            .copied()
            .chain(grown)
            .filter(|page| *page <= commit)
            .map(|page| (page, vec![seed; 512]))
            .collect();
        after.extend(written.clone());
        after.retain(|page, _| *page <= commit);
        self.now += 1;
        let txid = self.states.len() as u64 + 1;
        self.states.push((self.now, after));
        let header = header(txid, txid, commit, self.now);
        let bytes = encode(&header, &written);
        self.put(Level::RAW, &header, bytes, self.now);
    }

    fn snapshot(&mut self) {
        let (_, pages) = self.states.last().unwrap();
        let header = header(1, self.states.len() as u64, pages.len() as u32, self.now);
        let bytes = encode(&header, pages);
        self.put(Level::SNAPSHOT, &header, bytes, self.now);
    }

    /// Everything that is due; when there may be more.
    fn maintenance(&mut self) -> Option<i64> {
        loop {
            let settings = &self.settings;
            let snapshot = match schedule::snapshot(&self.inventory, settings.snapshot_interval, self.now) {
                Due::Now(()) => {
                    self.snapshot();
                    continue;
                }
                due => due.at(),
            };
            let merge = match schedule::merge(&self.inventory, &settings.levels, self.now) {
                Due::Now(job) => {
                    self.merge(&job);
                    continue;
                }
                due => due.at(),
            };
            let retention = settings.retention.unwrap();
            let expired = retention::expired(&self.inventory, &retention, self.now);
            for deletion in expired.groups.iter().flatten() {
                self.bytes.remove(&(deletion.level, deletion.range)).unwrap();
                self.inventory.remove(deletion.level, deletion.range);
                self.check();
            }
            if expired.groups.is_empty() {
                return snapshot.into_iter().chain(merge).chain(expired.next_ms).min();
            }
        }
    }

    fn merge(&mut self, job: &Job) {
        let ranges: Vec<_> = job.inputs.iter().map(|file| file.range).collect();
        let mut merge = Merge::new(&ranges, usize::MAX).unwrap();
        for (index, file) in job.inputs.iter().enumerate() {
            merge.feed(index, self.bytes[&(file.level, file.range)].1.clone().into(), true);
        }
        let Step::Head(header) = merge.step().unwrap() else { panic!() };
        let Step::Piece(bytes) = merge.step().unwrap() else { panic!() };
        assert!(matches!(merge.step().unwrap(), Step::End(_)));
        assert!(header.range.min > Txid::FIRST, "the snapshot is dragged along");
        let since = job.inputs.iter().map(|file| file.since_ms).max().unwrap();
        self.put(job.level, &header, bytes.to_vec(), since);
    }

    fn restore(&self, plan: &Plan) -> Pages {
        let mut database = Pages::new();
        plan.files.iter().for_each(|file| apply(&mut database, &self.bytes[&(file.level, file.range)].1));
        database
    }

    /// Every state that is promised: the newest; each of the last while that raw files are kept; each that a
    /// merged file of the retention ends with. By TXID, and by time as Litestream plans it.
    fn check(&self) {
        let files: Vec<_> = self.inventory.files().map(super::inventory::remote).collect();
        let newest = self.states.len() as u64;
        let latest = plan(&files, Wanted::Latest).unwrap();
        assert_eq!((latest.end, &self.restore(&latest)), (Txid(newest), &self.states[newest as usize - 1].1));
        let retention = self.settings.retention.unwrap();
        let (raw, window) =
            (self.now - schedule::millis(retention.raw), self.now - schedule::millis(retention.snapshots));
        for (index, (timestamp, content)) in self.states.iter().enumerate() {
            let txid = Txid(index as u64 + 1);
            let until = self.states.get(index + 1).map_or(i64::MAX, |(next, _)| *next);
            let ends_here = files.iter().any(|file| file.range.max == txid && file.level > Level::RAW);
            let raw_young = *timestamp > raw;
            if raw_young || (ends_here && until > window) {
                let plan = plan(&files, Wanted::Txid(txid))
                    .unwrap_or_else(|error| panic!("{txid} at {}: {error}", self.now));
                assert_eq!(&self.restore(&plan), content, "{txid}");
            }
            // A time of that state's, and where the merged files alone lead at that time.
            let time = timestamp.max(if until > window { &window } else { timestamp }) + 1;
            let merged = self.ends(time, Level(1)).filter(|max| *max <= txid).max().unwrap_or(Txid::NONE);
            match self.at_time(time) {
                reached if raw_young => assert_eq!(reached, Some(txid), "the state of {timestamp}"),
                // Coarser, by what was merged, but never by more than that.
                Some(reached) => {
                    assert!(reached <= txid && reached >= merged, "{reached} for {txid} at {time}")
                }
                None => assert!(until <= window, "nothing at {time}"),
            }
        }
    }

    /// Where the files of a level and above end that are older than `time`.
    fn ends(&self, time: i64, from: Level) -> impl Iterator<Item = Txid> {
        let before =
            self.bytes.iter().filter(move |((level, _), (timestamp, _))| *level >= from && *timestamp < time);
        before.map(|((_, range), _)| range.max)
    }

    /// Where Litestream ends when it is asked for a time (exclusive): no gap stops it.
    fn at_time(&self, time: i64) -> Option<Txid> {
        let before: Vec<_> =
            self.bytes.iter().filter(|(_, (timestamp, _))| *timestamp < time).map(|(key, _)| *key).collect();
        let bases = before.iter().filter(|(level, _)| *level == Level::SNAPSHOT);
        let mut end = bases.map(|(_, range)| range.max).max().unwrap_or(Txid::NONE);
        while let Some(next) = before
            .iter()
            .filter(|(level, range)| *level < Level::SNAPSHOT && range.min <= end.next() && range.max > end)
            .map(|(_, range)| range.max)
            .max()
        {
            end = next;
        }
        (end > Txid::NONE).then_some(end)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn every_promised_state_can_be_restored_after_every_put_and_every_delete(
        raw_ms in prop::sample::select(vec![50u64, 250, 1000]),
        acts in prop::collection::vec((1..7u32, prop::collection::vec(1..7u32, 0..3), any::<u8>(), 0..400i64, any::<bool>()), 1..40),
    ) {
        let mut model = Model::new(settings(raw_ms));
        for (commit, pages, seed, pass, works) in acts {
            model.write(commit, &pages, seed);
            model.now += pass;
            // Maintenance may have been away for a while.
            if works {
                model.maintenance();
            }
        }
        // Nobody writes any more: it comes to rest, with little left.
        let puts = model.puts;
        let mut turns = 0;
        while let Some(next) = model.maintenance() {
            prop_assert!(next > model.now, "it must wait for something");
            model.now = next;
            turns += 1;
            prop_assert!(turns < 30, "it never rests");
        }
        prop_assert!(model.puts - puts <= 10, "{} puts while nothing was written", model.puts - puts);
        let count = |level: u8| model.inventory.level(Level(level)).count();
        prop_assert_eq!(count(9), 1, "{:?}", model.inventory);
        prop_assert_eq!(count(0), 1, "{:?}", model.inventory);
        prop_assert!((1..=3).all(|level| count(level) <= 1), "{:?}", model.inventory);
    }
}

fn page(content: u8) -> Pages {
    Pages::from([(1, vec![content; 512])])
}

/// A directory with faults, the doer on it, and the session's part of the work.
struct Site {
    _directory: tempfile::TempDir,
    store: Arc<Faulty>,
    maintenance: Maintenance,
    state: Pages,
    txid: u64,
}

impl Site {
    async fn new(settings: ReplicateSettings) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        let real = crate::store::open(&StoreSettings::new(
            Scheme::File,
            format!("file://{path}"),
            String::new(),
            path,
        ));
        let store = Arc::new(Faulty::new(real.unwrap()));
        let state = Pages::from([(1, vec![7; 512])]);
        put(&store, Level::SNAPSHOT, &header(1, 1, 1, 1), &state).await;
        let db = crate::model::DbPath::new(directory.path().join("any.db"));
        let target = Target { db, store: store.clone() as Arc<dyn Store>, settings, late: false };
        let maintenance = Maintenance::start(
            &target,
            &listed(&store).await,
            size(),
            Arc::new(SnapshotRequest::new(Arc::default())),
            &Arc::default(),
            None,
        );
        Site { _directory: directory, store, maintenance, state, txid: 1 }
    }

    async fn write(&mut self) {
        self.write_as(Content::Encoded).await;
    }

    async fn write_as(&mut self, content: impl FnOnce(Bytes) -> Content) {
        self.txid += 1;
        let (pages, txid) = (Pages::from([(1, vec![self.txid as u8; 512])]), self.txid);
        self.state.extend(pages.clone());
        let header = header(txid, txid, 1, 1000 + txid as i64);
        let bytes = put(&self.store, Level::RAW, &header, &pages).await;
        self.maintenance.arrived(&Segment { level: Level::RAW, header, content: content(bytes) });
    }

    async fn wait(&self, what: &str, ready: impl Fn(&[RemoteFile]) -> bool) -> Vec<RemoteFile> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let files = listed(&self.store).await;
            if ready(&files) {
                return files;
            }
            assert!(Instant::now() < end, "{what}: {files:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn assert_restores(&self) {
        let plan = plan(&listed(&self.store).await, Wanted::Latest).unwrap();
        assert_eq!(plan.end, Txid(self.txid));
        let mut database = Pages::new();
        for file in plan.files {
            apply(&mut database, &self.store.get(&file.key, None, Deadline::after(REQUEST)).await.unwrap());
        }
        assert_eq!(database, self.state);
    }
}

async fn put(store: &Faulty, level: Level, header: &Header, pages: &Pages) -> Bytes {
    let bytes = Bytes::from(encode(header, pages));
    let key = Layout::Directory.key(level, header.range);
    let put =
        || store.put_new(&key, Body::Whole(bytes.clone()), header.timestamp_ms, Deadline::after(REQUEST));
    // A fault may be meant for a merge and meet this one, on a slow machine.
    if put().await.is_err() {
        put().await.unwrap();
    }
    bytes
}

async fn listed(store: &Faulty) -> Vec<RemoteFile> {
    crate::replica::Listing::of(Layout::Directory, &store.list("", Deadline::after(REQUEST)).await.unwrap())
        .files
}

/// Whether the files of a level lead from `min` to `max`. An aligned instant may come between two writes:
/// then they are two.
fn holds(files: &[RemoteFile], level: u8, min: u64, max: u64) -> bool {
    let mut ranges: Vec<_> =
        files.iter().filter(|file| file.level == Level(level)).map(|file| file.range).collect();
    ranges.sort();
    let chain = ranges.iter().skip_while(|range| range.min.0 != min);
    chain
        .scan(min, |next, range| {
            (range.min.0 == *next).then(|| *next = range.max.0 + 1).map(|()| range.max.0)
        })
        .any(|end| end == max)
}

fn quick() -> ReplicateSettings {
    ReplicateSettings { snapshot_interval: Duration::from_secs(36_500 * 86_400), ..settings(100) }
}

#[tokio::test]
async fn small_files_are_merged_without_reading_them_and_a_lost_reply_is_no_harm() {
    let mut site = Site::new(quick()).await;
    // The put of the first merged file goes through, and we do not hear of it.
    site.store.nth(Call::PutNew, 4, Fault::LoseReply);
    for _ in 0..3 {
        site.write().await;
    }
    let whole = |files: &[RemoteFile]| {
        holds(files, 3, 2, 4) && files.iter().filter(|file| file.level == Level::RAW).count() == 1
    };
    let files = site.wait("everything merged, raw files gone", whole).await;
    assert!(holds(&files, 0, 4, 4), "the newest raw file stays");
    // One for the head of what was there already, and maybe one to read it; each deletion asks for what
    // replaces it. A slow machine passes more aligned instants, and so makes more merges.
    let merges = site.store.count(Call::PutNew) - 3;
    let reads = site.store.count(Call::Get);
    let deletes = site.store.count(Call::Delete);
    assert!(reads <= 1 + merges + 3 * deletes, "{reads} reads, {merges} merges, {deletes} deletions");
    site.assert_restores().await;
}

#[tokio::test]
async fn a_store_that_allows_no_delete_is_asked_once_and_the_rest_goes_on() {
    let mut site = Site::new(quick()).await;
    site.store.all(Some(Call::Delete), Fault::Fail(StoreErrorKind::Denied));
    site.write().await;
    site.write().await;
    site.wait("the first merge", |files| holds(files, 3, 2, 3)).await;
    let asked = Instant::now() + Duration::from_secs(30);
    while site.store.count(Call::Delete) == 0 {
        assert!(Instant::now() < asked, "never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.write().await;
    site.wait("merging goes on", |files| holds(files, 3, 4, 4)).await;
    assert_eq!(site.store.count(Call::Delete), 1);
    site.assert_restores().await;
}

#[tokio::test]
async fn a_lost_file_and_a_damaged_one_are_covered_by_a_new_snapshot() {
    let mut site = Site::new(quick()).await;
    site.write().await;
    site.write().await;
    site.wait("the first merge", |files| holds(files, 3, 2, 3)).await;
    assert!(!site.maintenance.wants_snapshot());
    // Begun anew from a listing, with a file that went since, and one that is no LTX file any more.
    // The newest one is there: it is the same replica.
    put(&site.store, Level::RAW, &header(5, 5, 1, 1005), &page(5)).await;
    let mut listed = listed(&site.store).await;
    let lost = |txid: u64| RemoteFile {
        key: String::new(),
        level: Level::RAW,
        range: TxidRange::single(Txid(txid)),
        size: 300,
        modified_ms: 1,
    };
    listed.push(lost(4));
    let path = site._directory.path().join(Layout::Directory.key(Level::RAW, TxidRange::single(Txid(4))));
    for damaged in [false, true] {
        if damaged {
            std::fs::write(&path, vec![0; 300]).unwrap();
        }
        let db = crate::model::DbPath::new(site._directory.path().join("any.db"));
        let target =
            Target { db, store: site.store.clone() as Arc<dyn Store>, settings: quick(), late: false };
        let request = Arc::new(SnapshotRequest::new(Arc::default()));
        let maintenance = Maintenance::start(&target, &listed, size(), request, &Arc::default(), None);
        let end = Instant::now() + Duration::from_secs(30);
        while !maintenance.wants_snapshot() {
            assert!(Instant::now() < end, "nobody asks for a snapshot (damaged: {damaged})");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_was_spilled_is_merged_like_anything_else() {
    let mut site = Site::new(quick()).await;
    for _ in 0..3 {
        site.write_as(|bytes| Content::Spilled { path: "gone".into(), bytes: bytes.len() as u64 }).await;
    }
    let lists = site.store.count(Call::List);
    let looks = std::cell::Cell::new(0);
    site.wait("everything merged", |files| {
        looks.set(looks.get() + 1);
        holds(files, 3, 2, 4)
    })
    .await;
    assert_eq!(site.store.count(Call::List), lists + looks.get(), "their sizes are known");
    site.assert_restores().await;
}
