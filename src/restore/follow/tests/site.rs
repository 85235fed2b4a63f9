//! A database whose app commits, replicated by the real `replicate` into a directory, and copies of it.

use crate::lineage::state_file;
use crate::model::{DbPath, Deadline, Txid};
use crate::replica::Target;
use crate::replicate::{self, ReplicateSettings, Replicator, Retention};
use crate::restore::follow::{FollowError, Followed, Follower, Way};
use crate::restore::{
    OnRestoreFailure, Outcome, Owners, Progress, RestoreError, RestoreSettings, prepare, restore_to,
};
use crate::sqlite::files;
use crate::store::{self, Scheme, Store, StoreSettings};
use rusqlite::Connection;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub const WAYS: [Way; 2] = [Way::InPlace, Way::ThroughSqlite];

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub struct Site {
    dir: tempfile::TempDir,
    pub db: DbPath,
    pub app: Connection,
    pub store: Arc<dyn Store>,
    pub settings: ReplicateSettings,
    handle: Option<replicate::Handle>,
}

impl Site {
    pub fn new(pragmas: &str) -> Site {
        let dir = tempfile::Builder::new().prefix("litevisor-follow-").tempdir_in(scratch()).unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let app = Connection::open(db.as_path()).unwrap();
        app.execute_batch(&format!("{pragmas}; PRAGMA journal_mode=wal; PRAGMA synchronous=OFF")).unwrap();
        app.busy_timeout(Duration::from_secs(10)).unwrap();
        app.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO t(x) VALUES (randomblob(3000))",
        )
        .unwrap();
        let store = store(&dir.path().join("replica"));
        // Nothing is merged or deleted by itself.
        let settings = ReplicateSettings {
            sync_interval: Duration::ZERO,
            levels: Vec::new(),
            retention: None,
            ..ReplicateSettings::default()
        };
        Site { dir, db, app, store, settings, handle: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn replica(&self) -> PathBuf {
        self.path("replica")
    }

    /// The real replication of the app's database.
    pub fn replicate(&mut self) {
        self.handle = Some(replicate(&self.db, &self.store, &self.settings));
    }

    pub async fn stop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        handle.flush(true).await.unwrap();
        handle.ended().await;
    }

    pub fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Everything that is committed is in the replica: its newest position.
    pub async fn flush(&self) -> Txid {
        let status = self.handle.as_ref().unwrap().flush(false).await.unwrap();
        assert_eq!((status.fenced, status.problem), (None, None));
        status.uploaded.0
    }

    pub async fn commit(&self, sql: &str) -> Txid {
        self.run(sql);
        self.flush().await
    }

    /// What a start makes of the file at `db`.
    pub async fn start(&self, db: &DbPath) -> Result<Outcome, RestoreError> {
        let (settings, owners, progress) =
            (RestoreSettings::default(), Owners::default(), Progress::default());
        prepare(db, &*self.store, &settings, &owners, OnRestoreFailure::Abort, &progress).await
    }

    /// A copy that stands at the replica's newest position.
    pub async fn copy(&self, name: &str) -> DbPath {
        let copy = DbPath::new(self.path(name));
        self.start(&copy).await.unwrap();
        copy
    }

    pub async fn follow(&self, copy: &DbPath, way: Way) -> Follower {
        self.try_follow(copy, way).await.unwrap()
    }

    pub async fn try_follow(&self, copy: &DbPath, way: Way) -> Result<Follower, FollowError> {
        Follower::open(copy, Arc::clone(&self.store), RestoreSettings::default(), way).await
    }

    /// What a restore of that position is.
    pub async fn restored(&self, txid: Txid) -> Vec<u8> {
        let out = self.path("restored.db");
        let settings = RestoreSettings::default();
        let target = Target::Txid(txid);
        let progress = Progress::default();
        restore_to(&out, &*self.store, target, &settings, &Owners::default(), true, &progress).await.unwrap();
        std::fs::read(out).unwrap()
    }

    /// The copy is the replica's state: byte by byte, or but for what SQLite writes by itself.
    pub async fn assert_same(&self, copy: &DbPath, way: Way, txid: Txid) {
        self.assert_image(copy, way, self.restored(txid).await);
    }

    pub fn assert_image(&self, copy: &DbPath, way: Way, expected: Vec<u8>) {
        let found = match way {
            Way::InPlace => {
                assert!(!copy.wal().exists() && !copy.shm().exists());
                std::fs::read(copy.as_path()).unwrap()
            }
            Way::ThroughSqlite => reader(copy).serialize("main").unwrap().to_vec(),
        };
        let plain = |mut image: Vec<u8>| {
            if way == Way::ThroughSqlite {
                image[24..28].fill(0);
                image[92..100].fill(0);
            }
            image
        };
        let (expected, found) = (plain(expected), plain(found));
        assert_eq!(found.len(), expected.len(), "{way:?}");
        let differs = found.chunks(512).zip(expected.chunks(512)).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{way:?}: block of 512 bytes");
    }

    pub fn raw(&self, txid: Txid) -> PathBuf {
        self.replica().join(format!("ltx/0/{txid}-{txid}.ltx"))
    }
}

pub async fn poll(follower: &mut Follower) -> Followed {
    follower.poll(None, soon()).await.unwrap()
}

pub fn reader(copy: &DbPath) -> Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = Connection::open_with_flags(copy.as_path(), flags).unwrap();
    reader.busy_timeout(Duration::from_secs(10)).unwrap();
    reader
}

pub fn replicate(db: &DbPath, store: &Arc<dyn Store>, settings: &ReplicateSettings) -> replicate::Handle {
    let (conflict, _) = mpsc::unbounded_channel();
    let (store, settings) = (Arc::clone(store), settings.clone());
    Replicator::new(conflict, None)
        .start(replicate::Target { db: db.clone(), store, settings, late: false }, None)
}

/// What a process's end leaves of it.
pub fn killed(copy: &DbPath) {
    state_file::forget(copy);
    if let Ok(Some(id)) = files::identity(copy.as_path()) {
        files::died(id, false);
    }
}

fn store(root: &Path) -> Arc<dyn Store> {
    let path = root.display().to_string();
    let url = format!("file://{path}");
    store::open(&StoreSettings { scheme: Scheme::File, url, path, ..StoreSettings::default() }).unwrap()
}

/// Memory, where there is such a directory and no other is asked for.
fn scratch() -> PathBuf {
    if let Some(asked) = std::env::var_os("LITEVISOR_FOLLOW_DIR") {
        return asked.into();
    }
    Some(Path::new("/dev/shm")).filter(|shm| shm.is_dir()).map_or_else(std::env::temp_dir, Path::to_owned)
}

/// Merges and deletes all that it may, within milliseconds.
pub fn eager(settings: &ReplicateSettings) -> ReplicateSettings {
    let ms = Duration::from_millis;
    let retention = Some(Retention { snapshots: ms(60_000), raw: ms(1), ..Retention::default() });
    ReplicateSettings { levels: vec![ms(200), ms(1000)], retention, ..settings.clone() }
}

/// Another process that reads a copy. It says a line when it is ready, and ends when its input does.
pub struct Python(std::process::Child);

impl Python {
    pub fn start(script: &str, copy: &DbPath) -> Python {
        use std::process::{Command, Stdio};
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).arg(copy.as_path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        Python(child)
    }

    /// What it says at its end.
    pub fn end(mut self) -> String {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        said
    }
}
