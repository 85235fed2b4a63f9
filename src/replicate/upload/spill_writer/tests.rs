//! Killed at each point of a spill and of its upload: the next start goes on, nothing is lost, no number is
//! given twice.

use super::*;
use crate::lineage::state_file;
use crate::model::Txid;
use crate::replica::{Tip, TipFile};
use crate::replicate::capture::Capture;
use crate::replicate::resume_point;
use crate::replicate::upload;
use crate::replicate::upload::pressure::Need;
use crate::sqlite::hold::MEANWHILE;
use crate::sqlite::{ReadHold, Writers};
use rusqlite::Connection;

const REPLICA: &str = "file:///r";

struct World {
    _dir: tempfile::TempDir,
    db: DbPath,
    app: Connection,
    /// What has arrived, in order.
    replica: Vec<TipFile>,
    runs: u64,
}

fn settings() -> ReplicateSettings {
    ReplicateSettings { wal_limit: 64 << 10, ..ReplicateSettings::default() }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let app = Connection::open(db.as_path()).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x)").unwrap();
        World { _dir: dir, db, app, replica: Vec::new(), runs: 0 }
    }

    fn start(&mut self) -> DatabaseWriter {
        self.runs += 1;
        let capture = Capture::scan_checksums(ReadHold::take(&self.db, Writers::None).unwrap()).unwrap();
        let tip = self.replica.last().map(|file| Tip {
            txid: file.header.range.max,
            first: file.clone(),
            others: Vec::new(),
        });
        let anchor = resume_point::find(&self.db, REPLICA, self.runs, capture, tip, false).unwrap();
        DatabaseWriter::new(self.db.clone(), REPLICA.to_owned(), anchor).unwrap()
    }

    fn write(&self, bytes: u32) {
        self.app.execute("INSERT INTO t VALUES (randomblob(?1))", [bytes]).unwrap();
    }

    /// The next segment arrives; nobody here hears of it yet.
    fn put(&mut self, work: &mut DatabaseWriter) {
        assert!(work.record_sending());
        let segment = work.pending().unwrap();
        let bytes = match &segment.content {
            Content::Encoded(bytes) => bytes.to_vec(),
            Content::Spilled { path, .. } => std::fs::read(path).unwrap(),
            Content::Pages(pages, spool) => {
                let (sender, mut receiver) = tokio::sync::mpsc::channel(1000);
                upload::produce(pages, spool, &segment.header, &sender).unwrap();
                let mut bytes = Vec::new();
                while let Ok(crate::store::Chunk::Data(piece)) = receiver.try_recv() {
                    bytes.extend_from_slice(&piece);
                }
                bytes
            }
        };
        let (header, checksum) = (segment.header.clone(), Trailer::from_end(&bytes).unwrap().file);
        self.replica.push(TipFile { key: "k".into(), level: segment.level, header, checksum });
    }

    fn upload_all(&mut self, work: &mut DatabaseWriter) {
        loop {
            while work.pending().is_some() {
                self.put(work);
                let (_, file) = work.arrived().unwrap();
                file.inspect(|path| spill::remove(path).unwrap());
            }
            if !work.capture(false).unwrap() {
                return work.record_settled();
            }
        }
    }

    /// A run with everything in the replica, then an outage with `segments` captured and spilled, and not let
    /// go of.
    fn outage(&mut self, segments: usize) -> DatabaseWriter {
        let mut work = self.start();
        self.upload_all(&mut work);
        for _ in 0..segments {
            self.write(30_000);
            assert!(work.capture_more().unwrap());
            assert_eq!(work.spill(&settings()).unwrap(), None);
        }
        work
    }

    /// The next run: is it whole, and was it made without the image of the whole database?
    fn goes_on(&mut self, point: &str) -> bool {
        self.write(100);
        let mut work = self.start();
        let images = work.queue.pending.iter().any(|pending| pending.full_snapshot);
        self.upload_all(&mut work);
        drop(work);
        let now = Capture::scan_checksums(ReadHold::take(&self.db, Writers::None).unwrap()).unwrap();
        let last = self.replica.last().unwrap();
        assert_eq!(last.header.db_checksum, Some(now.db_checksum()), "{point}");
        let txids: Vec<u64> = self.replica.iter().map(|file| file.header.range.max.0).collect();
        let whole = txids.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(whole, "{point}: {txids:?}");
        assert_eq!(spill::list(&self.db).unwrap(), [], "{point}");
        assert_eq!(state_file::load(&self.db).unwrap().unwrap().spilled, None, "{point}");
        !images
    }
}

fn state_file(db: &DbPath) -> std::path::PathBuf {
    db.state_dir().join("state.json")
}

#[test]
fn killed_before_and_after_the_record() {
    let mut world = World::new();
    let mut work = world.outage(1);
    let before = std::fs::read(state_file(&world.db)).unwrap();
    world.write(30_000);
    work.capture_more().unwrap();
    work.spill(&settings()).unwrap();
    drop(work);
    assert_eq!(spill::list(&world.db).unwrap().len(), 2);
    std::fs::write(state_file(&world.db), before).unwrap();
    assert!(world.goes_on("renamed, not recorded"));
    let work = world.outage(2);
    drop(work);
    assert!(world.goes_on("recorded, the WAL still there"));
}

#[test]
fn killed_after_the_wal_was_let_go_of() {
    let mut world = World::new();
    let mut work = world.outage(1);
    world.write(100_000);
    let relief = work.relieve(&settings()).unwrap();
    assert!(matches!(relief, Outcome::Done { restarted: true }), "{relief:?}");
    assert!(work.queue.pending.iter().all(|pending| pending.spilled.is_some()));
    world.write(100);
    drop(work);
    assert!(world.goes_on("the WAL was started over"));
}

/// On a nearly full disk an upload is begun once more only for a WAL that grows. After the app's end that
/// would go on for ever.
#[test]
fn a_wal_that_does_not_grow_is_left_to_its_upload() {
    let mut world = World::new();
    world.write(20 << 20);
    let mut work = world.start();
    let make_room = |work: &mut DatabaseWriter| work.act(Need::MakeRoom, &settings()).unwrap();
    for _ in 0..2 {
        assert!(matches!(make_room(&mut work), Outcome::Nothing));
        assert!(work.pending().is_some());
    }
    world.write(1 << 20);
    assert!(matches!(make_room(&mut work), Outcome::Anew(_)));
    drop(work);
    // Everything is copied now, and the WAL has its length still.
    let mut work = world.start();
    assert_eq!(attempts::seen(work.view().as_ref(), &work.tries).wal_bytes, Some(0));
    assert!(matches!(make_room(&mut work), Outcome::Nothing));
    world.upload_all(&mut work);
    drop(work);
    assert!(world.goes_on("after the upload"));
}

/// In each pause between two steps the app writes more than may be copied while writers are kept out: no
/// round becomes short. The WAL starts over all the same, and what was not captured is found by a comparison.
#[test]
fn an_app_that_outruns_the_capture_does_not_keep_the_wal_from_starting_over() {
    let mut world = World::new();
    let mut work = world.outage(0);
    let app = Connection::open(world.db.as_path()).unwrap();
    app.busy_timeout(std::time::Duration::ZERO).unwrap();
    let storm = move || {
        // It meets the write lock now and then.
        let _ = app.execute_batch("INSERT OR REPLACE INTO t(rowid, x) VALUES (1000, randomblob(3000000))");
    };
    world.write(200_000);
    MEANWHILE.set(Some(Box::new(storm)));
    let relief = work.relieve(&settings());
    MEANWHILE.set(None);
    assert!(matches!(relief.as_ref().unwrap(), Outcome::Done { restarted: true }), "{relief:?}");
    world.write(100);
    let end = attempts::end(&work.capture);
    assert!(end < 64 << 10, "the WAL goes on at {end}");
    world.upload_all(&mut work);
    drop(work);
    assert!(world.goes_on("after the storm"));
}

#[test]
fn killed_while_the_files_are_uploaded() {
    for (arrived, point) in [(false, "sent, no reply"), (true, "arrived, the file not removed")] {
        let mut world = World::new();
        let mut work = world.outage(3);
        // The first, the middle and the last of them; across runs with other node ids.
        for _ in 0..3 {
            world.put(&mut work);
            if arrived {
                work.arrived().unwrap();
            }
            drop(work);
            work = world.start();
        }
        drop(work);
        assert!(world.goes_on(point));
    }
}

#[test]
fn files_that_do_not_fit_are_set_aside_and_the_database_has_it_all() {
    let damage: [fn(&SpilledFile); 2] = [
        |file| std::fs::remove_file(&file.path).unwrap(),
        |file| {
            let mut bytes = std::fs::read(&file.path).unwrap();
            bytes[150] ^= 1;
            std::fs::write(&file.path, bytes).unwrap();
        },
    ];
    for damage in damage {
        let mut world = World::new();
        let mut work = world.outage(2);
        world.write(100_000);
        assert!(matches!(work.relieve(&settings()).unwrap(), Outcome::Done { restarted: true }));
        world.write(100);
        drop(work);
        let found = spill::list(&world.db).unwrap();
        damage(&found[0]);
        let tip = world.replica.last().unwrap().header.range.max;
        assert!(!world.goes_on("damaged"), "the WAL has been started over: only an image is whole");
        assert!(world.replica.iter().any(|file| file.header.range.max == tip.next()), "no hole");
        assert!(world.db.state_dir().join("spill-set-aside-1").is_dir());
    }
}

#[test]
fn the_limit_is_kept_and_the_queue_bounded() {
    let mut world = World::new();
    let mut work = world.start();
    world.upload_all(&mut work);
    let settings = ReplicateSettings { spill_limit: 150_000, ..settings() };
    for _ in 0..6 {
        world.write(60_000);
        work.tries.tried = None;
        let _ = work.relieve(&settings).unwrap();
    }
    assert!(work.spilled_bytes() <= 150_000);
    assert!(work.queue.pending.iter().filter(|pending| pending.spilled.is_none()).count() <= 1);
    assert!(!matches!(work.relieve(&settings).unwrap(), Outcome::Done { .. }));
    world.upload_all(&mut work);
    drop(work);
    assert!(world.goes_on("after the limit"));
}

/// A first snapshot that is being sent counts, and so does what is committed meanwhile.
#[test]
fn what_is_missing_is_counted() {
    let mut world = World::new();
    world.write(300_000);
    let mut work = world.start();
    let cell = crate::replicate::status::StatusCell::new(&world.db);
    let lag = |work: &DatabaseWriter| {
        cell.set_capture(Some(work.capture_state()));
        cell.read().lag_bytes.unwrap()
    };
    assert!(lag(&work) >= 300_000);
    world.write(200_000);
    assert!(lag(&work) >= 500_000);
    assert_eq!(cell.read().wal_bytes, std::fs::metadata(world.db.wal()).unwrap().len());
    world.upload_all(&mut work);
    assert_eq!(lag(&work), 0);
    world.write(50_000);
    assert!((50_000..100_000).contains(&lag(&work)));
}

/// The WAL passes its limit while a large first snapshot is being sent: it goes on from a copy, byte for
/// byte, and what the app writes meanwhile follows.
#[test]
fn a_large_snapshot_on_its_way_goes_on_from_a_copy() {
    let mut world = World::new();
    for _ in 0..3 {
        world.write(20 << 20);
    }
    let mut work = world.start();
    work.sending = true;
    let segment = work.pending().unwrap();
    let Content::Pages(pages, spool) = &segment.content else { panic!("it is read while it is sent") };
    let encode = || {
        let mut bytes = Vec::new();
        let encoded = pages.encode(&segment.header, 1 << 20, |piece| {
            bytes.extend(piece);
            true
        });
        encoded.map(|_| bytes)
    };
    let before = encode().unwrap();
    world.app.execute("UPDATE t SET x = randomblob(3000000) WHERE rowid = 1", []).unwrap();
    let relief = work.relieve(&settings()).unwrap();
    assert!(matches!(relief, Outcome::Done { restarted: true }), "{relief:?}");
    assert!(spool.file().is_some());
    for _ in 0..3 {
        world.app.execute("UPDATE t SET x = randomblob(4000000) WHERE rowid = 2", []).unwrap();
        work.tries.tried = None;
        let _ = work.relieve(&settings()).unwrap();
    }
    assert!(encode().is_err(), "the database is no longer as it was");
    assert!(std::fs::metadata(world.db.wal()).unwrap().len() < 40 << 20);
    world.put(&mut work);
    let sent = world.replica.last().unwrap().checksum;
    assert_eq!(sent, Trailer::from_end(&before).unwrap().file, "the same bytes");
    work.arrived().unwrap();
    world.upload_all(&mut work);
    drop(work);
    assert!(world.goes_on("after the copy"));
}

#[test]
fn an_image_on_its_way_is_looked_at_again() {
    let mut world = World::new();
    let mut work = world.start();
    world.write(100_000);
    assert!(matches!(work.relieve(&settings()).unwrap(), Outcome::Anew(_)));
    assert_eq!(spill::list(&world.db).unwrap(), []);
    drop(work);
    let mut work = world.start();
    world.upload_all(&mut work);
    assert_eq!(world.replica[0].header.range.max, Txid(1));
}

/// A snapshot says that it is the newest position of the replica: with anything still waiting it would not
/// be.
#[test]
fn no_snapshot_while_anything_waits() {
    let mut world = World::new();
    let mut work = world.outage(2);
    assert!(work.snapshot().unwrap().is_none(), "two are spilled");
    drop(work);
    let mut work = world.start();
    while work.pending().is_some() {
        assert!(work.snapshot().unwrap().is_none(), "what an earlier run spilled is on its way");
        world.put(&mut work);
        let (_, file) = work.arrived().unwrap();
        file.inspect(|path| spill::remove(path).unwrap());
    }
    world.upload_all(&mut work);
    let of_the_tip = |world: &World, work: &mut DatabaseWriter| {
        let header = work.snapshot().unwrap().unwrap().header;
        let tip = &world.replica.last().unwrap().header;
        assert_eq!((header.range.min, header.range.max), (Txid::FIRST, tip.range.max));
        assert_eq!((header.db_checksum, header.commit), (tip.db_checksum, tip.commit));
    };
    of_the_tip(&world, &mut work);
    // Committed and not captured yet: the snapshot is of the replica's position all the same.
    world.write(100);
    of_the_tip(&world, &mut work);
    assert!(work.capture(false).unwrap());
    assert!(work.snapshot().unwrap().is_none(), "one is pending");
}

/// The WAL's limit counts for more than a snapshot on its way: that is given up, and never a mixture.
#[test]
fn a_snapshot_on_its_way_is_right_or_given_up_when_the_wal_is_let_go_of() {
    let mut world = World::new();
    let mut work = world.start();
    world.write(2_000_000);
    world.upload_all(&mut work);
    let snapshot = work.snapshot().unwrap().unwrap();
    let Content::Pages(pages, _) = &snapshot.content else {
        panic!("it is large enough to be read while it is sent")
    };
    let encode = || {
        let mut bytes = Vec::new();
        pages.encode(&snapshot.header, usize::MAX, |piece| {
            bytes = piece;
            true
        })?;
        Ok::<_, SegmentError>(bytes)
    };
    let before = encode().unwrap();
    world.app.execute_batch("UPDATE t SET x = randomblob(1000000)").unwrap();
    let relief = work.relieve(&settings()).unwrap();
    assert!(matches!(relief, Outcome::Done { restarted: true }), "{relief:?}");
    assert_eq!(encode().unwrap(), before, "its frames are still there");
    // The next commit starts the WAL over; the database file has the newer pages.
    world.write(100);
    assert!(matches!(encode(), Err(SegmentError::Changed { .. })));
    world.upload_all(&mut work);
    let after = work.snapshot().unwrap().unwrap();
    assert!(after.header.range.max > snapshot.header.range.max);
    drop(work);
    assert!(world.goes_on("after the snapshot"));
}

/// Points in time are found by the timestamps: they increase with the TXID whatever the clock does, also
/// across runs.
#[test]
fn the_clock_may_be_set_back() {
    let mut world = World::new();
    let mut work = world.start();
    world.upload_all(&mut work);
    let future = 4_102_444_800_000;
    work.queue.last_timestamp_ms = future;
    for run in 0..3 {
        for _ in 0..2 {
            world.write(100);
            world.upload_all(&mut work);
        }
        let snapshot = work.snapshot().unwrap().unwrap().header.timestamp_ms;
        world.write(100);
        world.upload_all(&mut work);
        let newest = world.replica.last().unwrap().header.timestamp_ms;
        assert!(snapshot > future && newest > snapshot, "run {run}");
        drop(work);
        work = world.start();
    }
    let times: Vec<i64> = world.replica.iter().map(|file| file.header.timestamp_ms).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}
