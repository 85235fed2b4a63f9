//! `prepare`: what becomes of a database before the app starts.

use super::fixture::*;
use litevisor::testing::lineage::record::LocalState;
use litevisor::testing::lineage::state_file;
use litevisor::testing::model::{DbChecksum, DbPath, PageNo, Txid, page_checksum};
use litevisor::testing::restore::{
    FileAccess, Kept, OnRestoreFailure, Outcome, Owner, Owners, Progress, RestoreError, RestoreErrorKind,
    RestoreSettings, prepare, recover,
};
use litevisor::testing::store::{Store, StoreErrorKind};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

struct Machine {
    _dir: tempfile::TempDir,
    db: DbPath,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("data/app.db"));
        Machine { _dir: dir, db }
    }

    /// With a default file and side files, as an image ships them.
    fn with_default() -> Machine {
        let machine = Machine::new();
        fs::create_dir(machine.db.directory()).unwrap();
        fs::write(machine.db.as_path(), page(1, 0)).unwrap();
        for side in machine.db.sides() {
            fs::write(side, "side").unwrap();
        }
        machine
    }

    /// The same disk, mounted somewhere else: this process remembers nothing about it.
    fn elsewhere(self) -> Machine {
        let directory = self._dir.path().join("elsewhere");
        fs::rename(self.db.directory(), &directory).unwrap();
        Machine { db: DbPath::new(directory.join("app.db")), _dir: self._dir }
    }

    async fn start(&self, store: &dyn Store) -> Result<Outcome, RestoreError> {
        self.start_with(store, OnRestoreFailure::Abort).await
    }

    async fn start_with(&self, store: &dyn Store, policy: OnRestoreFailure) -> Result<Outcome, RestoreError> {
        let settings = RestoreSettings {
            timeout: Duration::from_millis(600),
            parallelism: 4,
            ..RestoreSettings::default()
        };
        prepare(&self.db, store, &settings, &Owners::default(), policy, &Progress::default()).await
    }

    /// Files beside the database, without our state.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(self.db.directory()) else { return Vec::new() };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn state(&self) -> Option<LocalState> {
        state_file::load(&self.db).unwrap()
    }

    fn holds(&self, sample: &str) -> bool {
        self.files()
            == [("app.db".to_string(), fs::read(samples().join(sample).join("restored.db")).unwrap())]
    }
}

const SAMPLE: &str = "s1-v05-tiny";

#[tokio::test]
async fn no_file_and_no_replica() {
    let (machine, empty) = (Machine::new(), tempfile::tempdir().unwrap());
    assert!(matches!(machine.start(&DirStore::new(empty.path())).await, Ok(Outcome::StartedEmpty)));
    assert!(machine.files().is_empty());
    // A stale side file would be replayed into whatever the app creates.
    fs::create_dir_all(machine.db.directory()).unwrap();
    fs::write(machine.db.as_path(), "").unwrap();
    fs::write(machine.db.wal(), "stale").unwrap();
    assert!(matches!(machine.start(&DirStore::new(empty.path())).await, Ok(Outcome::StartedEmpty)));
    assert_eq!(machine.files(), [("app.db".to_string(), vec![])]);
}

#[tokio::test]
async fn an_empty_replica_never_costs_the_default_file() {
    let (machine, empty) = (Machine::with_default(), tempfile::tempdir().unwrap());
    let before = machine.files();
    let outcome = machine.start(&DirStore::new(empty.path())).await.unwrap();
    assert!(matches!(outcome, Outcome::KeptLocal { why: Kept::ReplicaEmpty }));
    assert_eq!(machine.files(), before);
}

/// What can never be replicated is told at once, and left alone.
#[tokio::test]
async fn a_file_that_is_no_database_is_refused_at_the_start() {
    let (machine, empty) = (Machine::with_default(), tempfile::tempdir().unwrap());
    fs::write(machine.db.as_path(), "default").unwrap();
    let before = machine.files();
    for policy in [OnRestoreFailure::Abort, OnRestoreFailure::Start] {
        let error = machine.start_with(&DirStore::new(empty.path()), policy).await.unwrap_err();
        assert!(matches!(error, RestoreError::Unusable { .. }), "{error}");
        assert_eq!((error.kind(), machine.files()), (RestoreErrorKind::Local, before.clone()));
    }
}

/// Of a large replica only a part is listed: the raw file at its end is among it, whatever else ends there.
#[tokio::test]
async fn what_was_restored_is_known_after_it_was_merged() {
    let (machine, replica) = (Machine::new(), tempfile::tempdir().unwrap());
    put(replica.path(), 9, &header(2, 1, 1), &[(1, 0), (2, 1)]);
    for txid in 2..32 {
        put(replica.path(), 0, &header(2, txid, txid), &[(2, txid as u8)]);
    }
    machine.start(&DirStore::new(replica.path())).await.unwrap();
    fs::write(machine.db.wal(), "commits").unwrap();
    let before = machine.files();
    put(replica.path(), 1, &header(2, 2, 31), &[(2, 31)]);
    let mut store = DirStore::new(replica.path());
    store.page = 10;
    let outcome = machine.start(&store).await.unwrap();
    assert!(matches!(outcome, Outcome::KeptLocal { why: Kept::ByRecord }), "{outcome:?}");
    assert_eq!(machine.files(), before);
}

#[tokio::test]
async fn a_default_file_never_hides_the_replica() {
    let replica = sample_replica(SAMPLE);
    for machine in [Machine::new(), Machine::with_default()] {
        let outcome = machine.start(&DirStore::new(replica.path())).await.unwrap();
        assert!(matches!(outcome, Outcome::Restored { txid: Txid(3), files: 3, .. }), "{outcome:?}");
        assert!(machine.holds(SAMPLE));
    }
}

#[tokio::test]
async fn the_next_start_knows_what_the_last_one_restored() {
    let (machine, replica) = (Machine::new(), sample_replica(SAMPLE));
    let store = DirStore::new(replica.path());
    machine.start(&store).await.unwrap();
    let state = machine.state().unwrap();
    assert_eq!((state.acked, state.sent, state.replica.as_str()), (Txid(3), Txid(3), store.url()));
    let mut sum = DbChecksum::default();
    for (at, page) in fs::read(machine.db.as_path()).unwrap().chunks(4096).enumerate() {
        sum.toggle(page_checksum(PageNo(at as u32 + 1), page));
    }
    assert_eq!(state.db_checksum, Some(sum));

    // The app goes on in its WAL; container restarts, disk kept.
    fs::write(machine.db.wal(), "commits").unwrap();
    let before = machine.files();
    let outcome = machine.start(&store).await.unwrap();
    assert!(matches!(outcome, Outcome::KeptLocal { why: Kept::ByRecord }), "{outcome:?}");
    assert_eq!(machine.files(), before);
    assert_eq!(machine.state(), Some(state));
}

#[tokio::test]
async fn a_file_that_is_behind_or_of_unknown_origin_is_replaced() {
    let replica = sample_replica(SAMPLE);
    let store = DirStore::new(replica.path());
    let at = |machine: &Machine, change: fn(&mut LocalState)| {
        let mut state = machine.state().unwrap();
        change(&mut state);
        state_file::store(&machine.db, &state).unwrap();
        fs::write(machine.db.as_path(), "other").unwrap();
        fs::write(machine.db.wal(), "other").unwrap();
    };
    for change in [
        (|state| (state.acked, state.sent) = (Txid(2), Txid(2))) as fn(&mut LocalState),
        |state| state.replica = "s3://elsewhere".into(),
        |state| state.tip_checksum = None,
    ] {
        let machine = Machine::new();
        machine.start(&store).await.unwrap();
        at(&machine, change);
        let outcome = machine.start(&store).await.unwrap();
        assert!(matches!(outcome, Outcome::Restored { .. }), "{outcome:?}");
        assert!(machine.holds(SAMPLE));
    }
    // A torn state file is none. This run remembers what it recorded, but not of a file at another path.
    let machine = Machine::new();
    machine.start(&store).await.unwrap();
    let machine = machine.elsewhere();
    fs::write(machine.db.state_dir().join("state.json"), "{\"version\":").unwrap();
    assert!(matches!(machine.start(&store).await, Ok(Outcome::Restored { .. })));
    assert!(machine.state().is_some());
}

#[tokio::test]
async fn a_replica_that_another_has_made_anew_is_not_overrun() {
    let (machine, replica) = (Machine::new(), sample_replica(SAMPLE));
    let store = DirStore::new(replica.path());
    machine.start(&store).await.unwrap();
    let mut state = machine.state().unwrap();
    (state.acked, state.sent) = (Txid(9), Txid(9));
    state_file::store(&machine.db, &state).unwrap();
    let before = machine.files();
    let error = machine.start(&store).await.unwrap_err();
    assert!(matches!(error, RestoreError::Refused { .. }), "{error}");
    assert_eq!(machine.files(), before);

    // Ours, but shorter than what was confirmed: the local file has what the replica lost.
    let mut tip = header(2, 1, 4);
    tip.node_id = state.node_id;
    fs::remove_dir_all(replica.path().join("ltx")).unwrap();
    put(replica.path(), 9, &tip, &[(1, 0), (2, 7)]);
    let outcome = machine.start(&store).await.unwrap();
    assert!(matches!(outcome, Outcome::KeptLocal { why: Kept::Ahead }), "{outcome:?}");
    assert_eq!(machine.files(), before);
}

/// A disk on which another program, Litestream for one, has replicated: only the WAL tells.
#[tokio::test]
async fn a_wal_that_still_holds_the_tip_proves_the_file() {
    let (machine, replica) = (Machine::new(), tempfile::tempdir().unwrap());
    fs::create_dir_all(machine.db.directory()).unwrap();
    let app = rusqlite::Connection::open(machine.db.as_path()).unwrap();
    app.pragma_update(None, "page_size", PAGE as u32).unwrap();
    app.pragma_update(None, "journal_mode", "wal").unwrap();
    app.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    app.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES('one');").unwrap();
    replicate_by_hand(&machine.db, replica.path());
    app.execute_batch("INSERT INTO t VALUES('two');").unwrap();

    let store = DirStore::new(replica.path());
    let before = machine.files();
    let outcome = machine.start(&store).await.unwrap();
    assert!(matches!(outcome, Outcome::KeptLocal { why: Kept::ByWal }), "{outcome:?}");
    assert_eq!(machine.files(), before);
    let (state, raw) = (machine.state().unwrap(), fs::read(machine.db.wal()).unwrap());
    assert_eq!((state.acked, state.wal.salt1.to_be_bytes()), (Txid(2), raw[16..20].try_into().unwrap()));
    assert!(
        state.wal.offset > 32 && state.wal.offset < raw.len() as u64,
        "the second commit is still to come"
    );
    let frame = &raw[state.wal.offset as usize - (24 + PAGE)..];
    assert_eq!(state.wal.checksum.map(u32::to_be_bytes).concat(), frame[16..24]);
    // From now on the state says it.
    assert!(matches!(machine.start(&store).await, Ok(Outcome::KeptLocal { why: Kept::ByRecord })));

    // The same WAL beside a replica whose last frame is another one proves nothing.
    fs::remove_dir_all(machine.db.state_dir()).unwrap();
    let mut wal = raw.clone();
    wal[state.wal.offset as usize - 1] ^= 1;
    fs::write(machine.db.wal(), wal).unwrap();
    drop(store);
    let outcome = machine.start(&DirStore::new(replica.path())).await.unwrap();
    assert!(matches!(outcome, Outcome::Restored { .. }), "{outcome:?}");
    assert_eq!(machine.files().len(), 1);
}

/// What a replicator would have written: a snapshot of everything in the WAL, then the same as the newest raw
/// file.
fn replicate_by_hand(db: &DbPath, replica: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    fs::copy(db.as_path(), &copy).unwrap();
    fs::copy(db.wal(), DbPath::new(&copy).wal()).unwrap();
    let wal = fs::read(db.wal()).unwrap();
    rusqlite::Connection::open(&copy).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let pages: std::collections::BTreeMap<u32, Vec<u8>> =
        (1..).zip(fs::read(&copy).unwrap().chunks(PAGE).map(<[u8]>::to_vec)).collect();
    put_bytes(
        replica,
        &key(9, &header(pages.len() as u32, 1, 1)),
        &encode(&header(pages.len() as u32, 1, 1), &pages),
    );
    let mut raw = header(pages.len() as u32, 2, 2);
    (raw.wal_offset, raw.wal_size) = (32, wal.len() as i64 - 32);
    raw.salt1 = u32::from_be_bytes(wal[16..20].try_into().unwrap());
    raw.salt2 = u32::from_be_bytes(wal[20..24].try_into().unwrap());
    put_bytes(replica, &key(0, &raw), &encode(&raw, &pages));
}

#[tokio::test]
async fn unreachable_is_not_empty() {
    let replica = sample_replica(SAMPLE);
    for fate in [
        Fate::Fails(StoreErrorKind::Unreachable),
        Fate::Fails(StoreErrorKind::Denied),
        Fate::Fails(StoreErrorKind::TimedOut),
        Fate::Hangs,
    ] {
        for what in ["list", "ltx"] {
            let store =
                DirStore::with(
                    replica.path(),
                    move |request, _| {
                        if request.starts_with(what) { fate } else { Fate::Served }
                    },
                );
            for machine in [Machine::new(), Machine::with_default()] {
                let before = machine.files();
                let error = machine.start(&store).await.unwrap_err();
                assert_eq!(error.kind(), RestoreErrorKind::Unavailable, "{error}");
                assert_eq!(machine.files(), before, "{fate:?} {what}");
            }
        }
    }
}

#[tokio::test]
async fn newer_data_in_the_old_format_is_restored_and_kept_until_it_is_replicated() {
    for sample in ["s5-v03", "s6-mixed-v03-newer"] {
        let replica = sample_replica(sample);
        for machine in [Machine::new(), Machine::with_default()] {
            let store = DirStore::new(replica.path());
            let outcome = machine.start(&store).await.unwrap();
            assert!(matches!(outcome, Outcome::Restored { files: 13, .. }), "{outcome:?}");
            assert!(machine.holds(sample));
            // The app has written; nothing of it has reached the replica; the container starts again.
            fs::write(machine.db.as_path(), page(1, 7)).unwrap();
            let outcome = machine.start(&store).await.unwrap();
            assert!(matches!(outcome, Outcome::KeptLocal { .. }), "{outcome:?}");
            assert_eq!(fs::read(machine.db.as_path()).unwrap(), page(1, 7));
            // Somebody has written to the old replica since: that is the head.
            let newer = "generations/21a5e296c131c7c0/wal/00000003_00001038.wal.lz4";
            let time = fs::metadata(replica.path().join(newer)).unwrap().modified().unwrap();
            let file = fs::File::options()
                .write(true)
                .open(replica.path().join(newer.replace("1038", "0000")))
                .unwrap();
            file.set_modified(time + std::time::Duration::from_secs(5)).unwrap();
            machine.start(&store).await.unwrap();
            assert!(machine.holds(sample));
            file.set_modified(time - std::time::Duration::from_secs(1)).unwrap();
        }
    }
    let (machine, newer) = (Machine::new(), sample_replica("s7-mixed-v05-newer"));
    machine.start(&DirStore::new(newer.path())).await.unwrap();
    assert!(machine.holds("s7-mixed-v05-newer"));
}

#[tokio::test]
async fn starting_all_the_same_is_told() {
    let replica = sample_replica(SAMPLE);
    let store = DirStore::with(replica.path(), |_, _| Fate::Fails(StoreErrorKind::Denied));
    let machine = Machine::with_default();
    let before = machine.files();
    let outcome = machine.start_with(&store, OnRestoreFailure::Start).await.unwrap();
    assert!(matches!(outcome, Outcome::Unrestored(RestoreError::Unavailable { .. })), "{outcome:?}");
    assert_eq!(machine.files(), before);
    // What is in the way on this machine stays in the way.
    fs::write(machine.db.aside().as_path(), "x").unwrap();
    fs::write(machine.db.staged(), "x").unwrap();
    let error = machine.start_with(&store, OnRestoreFailure::Start).await.unwrap_err();
    assert_eq!(error.kind(), RestoreErrorKind::Local);
}

#[tokio::test]
async fn giving_up_in_the_middle_puts_everything_back() {
    let replica = sample_replica(SAMPLE);
    let store = DirStore::with(replica.path(), |request, _| {
        if request.contains("0000000000000002") { Fate::Hangs } else { Fate::Served }
    });
    for machine in [Machine::new(), Machine::with_default()] {
        let before = machine.files();
        let patient = RestoreSettings::default();
        let (owners, progress) = (Owners::default(), Progress::default());
        {
            let work = prepare(&machine.db, &store, &patient, &owners, OnRestoreFailure::Abort, &progress);
            let mut work = std::pin::pin!(work);
            // Until the first file has been applied and the last one is waited for.
            while progress.done() == 0 {
                let _ = tokio::time::timeout(Duration::from_millis(5), &mut work).await;
            }
        }
        assert!(machine.db.staged().exists());
        recover(&machine.db, FileAccess::Exclusive).unwrap();
        assert_eq!(machine.files(), before);
    }
}

#[tokio::test]
async fn mode_and_missing_directories() {
    let replica = sample_replica(SAMPLE);
    let machine = Machine::new();
    let configured = Owner { mode: Some(0o640), ..Owner::default() };
    let owners = Owners { configured, app: Owner::default() };
    let settings = RestoreSettings::default();
    let store = DirStore::new(replica.path());
    prepare(&machine.db, &store, &settings, &owners, OnRestoreFailure::Abort, &Progress::default())
        .await
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(machine.db.as_path()), 0o640);

    let machine = Machine::with_default();
    fs::set_permissions(machine.db.as_path(), fs::Permissions::from_mode(0o606)).unwrap();
    machine.start(&store).await.unwrap();
    assert_eq!(mode(machine.db.as_path()), 0o606);
}

/// The engine runs several on its threads.
#[test]
fn the_future_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (machine, replica) = (Machine::new(), tempfile::tempdir().unwrap());
    let store = DirStore::new(replica.path());
    let (settings, owners, progress) = (RestoreSettings::default(), Owners::default(), Progress::default());
    is_send(&prepare(&machine.db, &store, &settings, &owners, OnRestoreFailure::Abort, &progress));
}
