//! One connection of ours: opened so that it never creates a file, never checkpoints behind our back, never leaves
//! anything in the database.

use super::error::SqliteError;
use crate::model::DbPath;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::ffi::c_int;
use std::sync::Once;
use std::time::Duration;

/// How long our own statements wait for a lock, in looks. Only ours: the app's waits are its own. SQLite's own waiting would
/// soon look only every 25 ms, and an app that writes without a pause writes much meanwhile.
const LOOKS: i32 = 1000;
const BETWEEN_LOOKS: Duration = Duration::from_micros(250);

fn wait_for_lock(looks: i32) -> bool {
    std::thread::sleep(BETWEEN_LOOKS);
    looks < LOOKS
}

pub(super) struct Link {
    conn: Connection,
    path: DbPath,
}

/// Hundreds of databases have two connections each, which read next to nothing: SQLite's memory for quick small allocations
/// (48 KiB) and for a page cache (20 pages), both made in advance for each connection, would be most of what they cost.
fn use_little_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let none = std::ptr::null_mut::<std::ffi::c_void>();
        // SAFETY: before this process's first connection (else SQLite refuses, which is harmless), and `Once` keeps other
        // threads out; the arguments are of the types that these options take.
        unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, 0 as c_int, 0 as c_int);
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_PAGECACHE, none, 0 as c_int, 0 as c_int);
        }
    });
}

impl Link {
    pub(super) fn open(path: &DbPath) -> Result<Link, SqliteError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| SqliteError::sql("open", path, &error);
        use_little_memory();
        let mut conn = Connection::open_with_flags(path.as_path(), flags).map_err(failed)?;
        conn.busy_handler(Some(wait_for_lock)).map_err(failed)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        // The page cache is of no use to us: we read one page of the schema at most.
        let link = Link { conn, path: path.clone() };
        for setting in ["wal_autocheckpoint=0", "cache_size=2", "synchronous=NORMAL", "temp_store=MEMORY"] {
            link.pragma("set up", setting)?;
        }
        Ok(link)
    }

    /// Switches the database to WAL mode; persistent, needs a moment without other readers and writers.
    pub(super) fn make_wal(&self) -> Result<(), SqliteError> {
        let operation = "switch to WAL mode";
        let mode: String = self
            .conn
            .query_row("PRAGMA journal_mode=wal", [], |row| row.get(0))
            .map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        if mode.eq_ignore_ascii_case("wal") {
            return Ok(());
        }
        let detail = format!("its journal mode stays {mode}; WAL needs a local file system with shared memory");
        Err(SqliteError::Failed { operation, subject: self.path.to_string(), detail })
    }

    pub(super) fn begin_read(&self) -> Result<(), SqliteError> {
        self.run("begin to read", "BEGIN")?;
        // BEGIN alone takes no snapshot; reading one header field does, and needs no schema.
        self.pragma("begin to read", "schema_version").inspect_err(|_| {
            let _ = self.end();
        })
    }

    /// Takes the write lock without writing. Rolled back by `end`.
    pub(super) fn begin_write(&self) -> Result<(), SqliteError> {
        self.run("lock", "BEGIN IMMEDIATE")
    }

    pub(super) fn end(&self) -> Result<(), SqliteError> {
        if self.conn.is_autocommit() { Ok(()) } else { self.run("end the transaction on", "ROLLBACK") }
    }

    /// PASSIVE copies what may be copied from the WAL into the database and syncs it, without waiting for anybody; NOOP
    /// only asks. Returns (frames in the WAL, frames copied so far).
    pub(super) fn checkpoint(&self, mode: &str) -> Result<(i64, i64), SqliteError> {
        let operation = "checkpoint";
        let (busy, frames, copied): (i64, i64, i64) = self
            .conn
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        // While somebody else checkpoints, the answer is a row (1, -1, -1), not an error.
        if busy != 0 {
            return Err(SqliteError::Busy { operation, subject: self.path.to_string() });
        }
        Ok((frames, copied))
    }

    fn run(&self, operation: &'static str, sql: &str) -> Result<(), SqliteError> {
        self.conn.execute_batch(sql).map_err(|error| SqliteError::sql(operation, &self.path, &error))
    }

    fn pragma(&self, operation: &'static str, body: &str) -> Result<(), SqliteError> {
        let each = |_: &rusqlite::Row<'_>| Ok(());
        let sql = format!("PRAGMA {body}");
        let mut statement = self.conn.prepare(&sql).map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        let rows = statement.query_map([], each).map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        rows.collect::<Result<(), _>>().map_err(|error| SqliteError::sql(operation, &self.path, &error))
    }
}
