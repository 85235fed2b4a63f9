//! A deployment as root sets it up: a data directory of the app's user, a replica and other services' files
//! that this user may not touch.

use crate::support::SOON;
use crate::support::process::{Ended, Process};
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The app's user, and another service's.
pub const APP: u32 = 4242;
pub const OTHER: u32 = 5555;
/// Stands in every file outside.
pub const CANARY: &str = "CANARY-9f1c2b7e";
pub const SEGMENT: &str = "0000000000000001-0000000000000001.ltx";

pub struct Place {
    root: tempfile::TempDir,
    /// Text before `[[database]]`.
    pub settings: String,
    /// More keys of `[[database]]`.
    pub database: String,
    pub user: Option<String>,
    /// The database's path below the data directory.
    pub name: &'static str,
}

/// What a path is: kind and mode, uid, gid, and content.
type Look = (u32, u32, u32, Vec<u8>);

impl Place {
    /// None: we are not root, and there is no boundary.
    pub fn new() -> Option<Place> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let (settings, database) = ("[shutdown]\ngrace = \"5s\"\n".to_owned(), String::new());
        let place = Place { root, settings, database, user: Some(format!("{APP}:{APP}")), name: "app.db" };
        mode(place.root.path(), 0o711);
        for (name, owner, bits) in [("data", APP, 0o755), ("bucket", 0, 0o700), ("outside", 0, 0o711)] {
            fs::create_dir(place.path(name)).unwrap();
            give(&place.path(name), owner, bits);
        }
        place.fill_outside();
        Some(place)
    }

    /// Files and directories of root's and of another service's.
    fn fill_outside(&self) {
        let file = |name: &str, text: &[u8], owner, bits| {
            let path = self.outside(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            give(&path, owner, bits);
        };
        file("secret", CANARY.as_bytes(), 0, 0o600);
        file("shadow", CANARY.as_bytes(), 0, 0o640);
        file("run.conf", CANARY.as_bytes(), 0, 0o644);
        file("tmp/1.tmp", CANARY.as_bytes(), 0, 0o600);
        file(&format!("tmp/{SEGMENT}.tmp"), CANARY.as_bytes(), 0, 0o600);
        file(&format!("litestream/ltx/0/{SEGMENT}"), CANARY.as_bytes(), 0, 0o600);
        file("litestream/ltx/notes/deep", CANARY.as_bytes(), 0, 0o600);
        let made = self.outside("made.db");
        let conn = rusqlite::Connection::open(&made).unwrap();
        conn.execute_batch(&format!("CREATE TABLE t(x); INSERT INTO t VALUES ('{CANARY}')")).unwrap();
        drop(conn);
        let database = fs::read(&made).unwrap();
        fs::remove_file(&made).unwrap();
        file("service/app.db", &database, OTHER, 0o640);
        file("secrets/app.db", &database, 0, 0o600);
        file("secrets/vault.db", &database, 0, 0o600);
        give(&self.outside("service"), OTHER, 0o755);
        give(&self.outside("secrets"), 0, 0o711);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    pub fn outside(&self, name: &str) -> PathBuf {
        self.path("outside").join(name)
    }

    pub fn db(&self) -> PathBuf {
        self.data(self.name)
    }

    /// A directory of the app's user below the data directory.
    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.data(name);
        fs::create_dir_all(&path).unwrap();
        for path in path.ancestors().take_while(|path| path.starts_with(self.path("data"))) {
            give(path, APP, 0o755);
        }
        path
    }

    /// Everything outside of the data directory, as it is.
    pub fn look_outside(&self) -> BTreeMap<PathBuf, Look> {
        let mut all = BTreeMap::new();
        let mut todo = vec![self.path("outside")];
        while let Some(path) = todo.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if meta.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            all.insert(path, (meta.mode(), meta.uid(), meta.gid(), content));
        }
        all
    }

    /// Nothing outside of the data directory is in the replica, or has come into the data directory.
    pub fn assert_nothing_leaked(&self) {
        for top in ["bucket", "data"] {
            let mut todo = vec![self.path(top)];
            while let Some(path) = todo.pop() {
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.is_dir() {
                    todo.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
                } else if meta.is_file() {
                    let text = fs::read(&path).unwrap_or_default();
                    let leaked = text.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes());
                    assert!(!leaked, "{} holds a file from outside", path.display());
                }
            }
        }
    }

    /// supervisor.toml as things are now.
    pub fn config(&self) -> PathBuf {
        let path = self.path("supervisor.toml");
        let user = self.user.as_ref().map(|user| format!("user = \"{user}\"\n")).unwrap_or_default();
        let subject = if self.name.ends_with(".db") { "path" } else { "dir" };
        let text = format!(
            "[app]\n{user}{}[[database]]\n{subject} = \"{}\"\n{}[database.replica]\nurl = \"{}\"\nsync_interval = \"100ms\"\n",
            self.settings,
            self.db().display(),
            self.database,
            self.path("bucket").display()
        );
        fs::write(&path, text).unwrap();
        path
    }

    pub fn run(&self, app: &[&str]) -> Process {
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(self.config()).arg("--").args(app);
        command.current_dir(self.root.path());
        Process::start(command)
    }

    /// Runs an app that ends by itself.
    pub fn live(&self, app: &[&str]) -> (Ended, String) {
        let mut run = self.run(app);
        let ended = run.wait(SOON);
        (ended, run.log_text())
    }

    /// An app that does some SQL and ends.
    pub fn live_sql(&self, sql: &str) -> (Ended, String) {
        let (script, db) = (sql_app(), self.db());
        self.live(&["python3", "-c", script, db.to_str().unwrap(), sql])
    }

    /// A first life with a database, so that the replica holds one.
    pub fn make_history(&self) {
        let (ended, log) = self.live_sql("create table t(x); insert into t values (1)");
        assert_eq!(ended.code, 0, "{log}");
    }

    /// The disk is another one; the replica stays.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.path("data")).unwrap();
        fs::create_dir(self.path("data")).unwrap();
        give(&self.path("data"), APP, 0o755);
    }

    pub fn command(&self, words: &[&str]) -> std::process::Output {
        let config = self.config();
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(config).current_dir(self.root.path());
        command.output().unwrap()
    }
}

/// Another build of litevisor can be tried by naming it.
pub fn binary() -> PathBuf {
    std::env::var_os("LITEVISOR_BOUNDARY_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_litevisor").into(), PathBuf::from)
}

pub fn sql_app() -> &'static str {
    "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=10)\nc.execute('pragma journal_mode=wal')\n\
     c.executescript(sys.argv[2])\nc.commit()\nc.close()"
}

pub fn stop(run: &mut Process) -> Ended {
    kill(run.pid(), Signal::SIGTERM).unwrap();
    run.wait(SOON)
}

pub fn give(path: &Path, owner: u32, bits: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    mode(path, bits);
}

pub fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

pub fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}
