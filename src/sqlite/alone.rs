//! A database file that litevisor itself writes to while no process has the database open. The lock is the
//! one that SQLite takes before it deletes a WAL: a process that opens the database meanwhile is told that it
//! is locked.

use super::connection::Link;
use super::error::SqliteError;
use super::files;
use crate::model::DbPath;
use crate::rights;
use std::fs::File;
use std::io::{self, ErrorKind};

/// Opens the file for writing, and keeps all processes from it until the file is dropped. None: a process has
/// the database open. This process must have no connection to the database: its locks would be lost.
pub fn lock_alone(db: &DbPath) -> io::Result<Option<File>> {
    rights::within(db, || files::lock_all(db.as_path()))
}

/// Whether no WAL and no journal is beside the file: all of the database is in it.
pub fn is_complete(db: &DbPath) -> io::Result<bool> {
    for side in [db.wal(), db.journal()] {
        match rights::within(db, || std::fs::symlink_metadata(&side)) {
            Ok(meta) if meta.len() > 0 => return Ok(false),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// Copies what is in the WAL into the file, and removes the WAL, if no process has the database open.
pub fn absorb_wal(db: &DbPath) -> Result<(), SqliteError> {
    {
        let link = Link::open(db)?;
        link.checkpoint("TRUNCATE")?;
    }
    let removed = files::remove_sides_alone(db, |wal| wal.metadata().is_ok_and(|meta| meta.len() == 0));
    removed.map(|_| ()).map_err(|error| SqliteError::io("remove the WAL of", db, &error))
}

/// What is wrong with the structure of the database; None: nothing. Reads every page. No process has it open.
pub fn structure_problem(db: &DbPath) -> Result<Option<String>, SqliteError> {
    let found = Link::open(db)?.structure_problem()?;
    let removed = files::remove_sides_alone(db, |wal| wal.metadata().is_ok_and(|meta| meta.len() == 0));
    removed.map_err(|error| SqliteError::io("remove the WAL of", db, &error))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn database() -> (tempfile::TempDir, DbPath) {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let app = Connection::open(db.as_path()).unwrap();
        app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
        drop(app);
        (dir, db)
    }

    #[test]
    fn a_locked_file_is_kept_from_others() {
        let (_dir, db) = database();
        let locked = lock_alone(&db).unwrap().unwrap();
        let other = Connection::open(db.as_path()).unwrap();
        let refused = other.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        drop(locked);
        assert_eq!(other.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)), Ok(1));
        assert!(lock_alone(&db).unwrap().is_none(), "a connection is open");
    }

    #[test]
    fn a_wal_that_was_left_is_absorbed() {
        let (_dir, db) = database();
        let app = Connection::open(db.as_path()).unwrap();
        app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        drop(app);
        assert!(!is_complete(&db).unwrap());
        absorb_wal(&db).unwrap();
        assert!(is_complete(&db).unwrap() && !db.wal().exists());
        assert_eq!(structure_problem(&db).unwrap(), None);
        let app = Connection::open(db.as_path()).unwrap();
        assert_eq!(app.query_row("SELECT sum(x) FROM t", [], |row| row.get::<_, i64>(0)), Ok(3));
    }
}
