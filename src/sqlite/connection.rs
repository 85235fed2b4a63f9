//! A connection of litevisor: it creates no file, makes no automatic checkpoint, and leaves nothing in the
//! database.

use super::error::SqliteError;
use super::integrity;
use crate::model::DbPath;
use crate::rights::{self, Acting, Rights};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::Once;
use std::time::Duration;

/// How long our own statements wait for a lock, in looks. Only ours: the app's waits are its own. SQLite's
/// own waiting would soon look only every 25 ms, and an app that writes without a pause writes much
/// meanwhile.
const LOOKS: i32 = 1000;
const BETWEEN_LOOKS: Duration = Duration::from_micros(250);

/// `SQLITE_CHECKPOINT_NOOP`
const NOOP: c_int = -1;

/// A check of the whole structure visits inner pages again and again.
const CHECK_CACHE_KIB: u32 = 2048;

thread_local! {
    static PATIENCE: Cell<i32> = const { Cell::new(LOOKS) };
}

fn wait_for_lock(looks: i32) -> bool {
    if looks >= PATIENCE.get() {
        return false;
    }
    std::thread::sleep(BETWEEN_LOOKS);
    true
}

/// Runs statements that wait for locks for so many looks only.
pub(super) fn with_patience<T>(looks: i32, work: impl FnOnce() -> T) -> T {
    let before = PATIENCE.replace(looks);
    let done = work();
    PATIENCE.set(before);
    done
}

pub(super) struct Link {
    conn: Connection,
    path: DbPath,
    /// SQLite opens and creates files by name whenever it needs them, so every statement runs with these.
    rights: Option<Rights>,
}

/// Hundreds of databases have two connections each, which read next to nothing: SQLite's memory for quick
/// small allocations (48 KiB) and for a page cache (20 pages), both made in advance for each connection,
/// would be most of what they cost.
fn use_little_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let none = std::ptr::null_mut::<std::ffi::c_void>();
        // SAFETY: before this process's first connection (else SQLite refuses, which is harmless), and `Once`
        // keeps other threads out; the arguments are of the types that these options take.
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
        let rights = rights::of(path);
        let _acting = rights::act(rights.as_ref());
        let mut conn = Connection::open_with_flags(path.as_path(), flags).map_err(failed)?;
        conn.busy_handler(Some(wait_for_lock)).map_err(failed)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        // The page cache is of no use to us: we read one page of the schema at most.
        let link = Link { conn, path: path.clone(), rights };
        for setting in ["wal_autocheckpoint=0", "cache_size=2", "synchronous=NORMAL", "temp_store=MEMORY"] {
            link.pragma("set up", setting)?;
        }
        Ok(link)
    }

    /// Switches the database to WAL mode; persistent, needs a moment without other readers and writers. One
    /// try: a lock of ours that waits would keep an app out that does not wait.
    pub(super) fn make_wal(&mut self) -> Result<(), SqliteError> {
        let operation = "switch to WAL mode";
        let _acting = self.acting();
        let failed = |error| SqliteError::sql(operation, &self.path, &error);
        self.conn.busy_handler(None::<fn(i32) -> bool>).map_err(failed)?;
        let switched = self.conn.query_row("PRAGMA journal_mode=wal", [], |row| row.get::<_, String>(0));
        self.conn.busy_handler(Some(wait_for_lock)).map_err(failed)?;
        let mode = switched.map_err(failed)?;
        if mode.eq_ignore_ascii_case("wal") {
            return Ok(());
        }
        let detail =
            format!("its journal mode stays {mode}; WAL needs a local file system with shared memory");
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

    /// How many frames of the WAL are copied into the database file. Copies none, and reads nothing of the
    /// file: the answer does not depend on what is in it.
    pub(super) fn copied_frames(&self) -> Result<i64, SqliteError> {
        let _acting = self.acting();
        let (mut frames, mut copied): (c_int, c_int) = (0, 0);
        // SAFETY: the handle is that of this open connection, which no other thread uses meanwhile; the name
        // is a C string, and both numbers outlive the call.
        let code = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(
                self.conn.handle(),
                c"main".as_ptr(),
                NOOP,
                &mut frames,
                &mut copied,
            )
        };
        if code == ffi::SQLITE_OK {
            return Ok(i64::from(copied));
        }
        Err(SqliteError::sql(
            "look at the WAL of",
            &self.path,
            &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None),
        ))
    }

    /// PASSIVE copies what may be copied from the WAL into the database and syncs it, without waiting for
    /// anybody. Returns (frames in the WAL, frames copied so far).
    pub(super) fn checkpoint(&self, mode: &str) -> Result<(i64, i64), SqliteError> {
        let operation = "checkpoint";
        let _acting = self.acting();
        let (busy, frames, copied): (i64, i64, i64) = self
            .conn
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        // While another connection checkpoints, the answer is a row (1, -1, -1), not an error.
        if busy != 0 {
            return Err(SqliteError::Busy { operation, subject: self.path.to_string() });
        }
        Ok((frames, copied))
    }

    pub(super) fn acting(&self) -> Acting {
        rights::act(self.rights.as_ref())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.conn
    }

    /// What is wrong with the structure of the database as this connection sees it; None: nothing. Reads
    /// every page.
    pub(super) fn structure_problem(&self) -> Result<Option<String>, SqliteError> {
        let _acting = self.acting();
        self.pragma("check", &format!("cache_size=-{CHECK_CACHE_KIB}"))?;
        let found = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        self.pragma("check", "cache_size=2")?;
        match found {
            Ok(line) => Ok(integrity::structural(&line).then(|| line.lines().collect::<Vec<_>>().join(" "))),
            Err(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(Some(error.to_string())),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure) => {
                    Err(SqliteError::sql("check", &self.path, &error))
                }
                // The schema names functions, collations or modules that only the app has.
                _ => Ok(None),
            },
        }
    }

    pub(super) fn run(&self, operation: &'static str, sql: &str) -> Result<(), SqliteError> {
        let _acting = self.acting();
        self.conn.execute_batch(sql).map_err(|error| SqliteError::sql(operation, &self.path, &error))
    }

    pub(super) fn pragma(&self, operation: &'static str, body: &str) -> Result<(), SqliteError> {
        let _acting = self.acting();
        let each = |_: &rusqlite::Row<'_>| Ok(());
        let sql = format!("PRAGMA {body}");
        let mut statement =
            self.conn.prepare(&sql).map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        let rows =
            statement.query_map([], each).map_err(|error| SqliteError::sql(operation, &self.path, &error))?;
        rows.collect::<Result<(), _>>().map_err(|error| SqliteError::sql(operation, &self.path, &error))
    }
}
