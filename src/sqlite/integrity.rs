//! SQLite's own check of a database file that nobody else uses. Creates side files beside it.

use super::error::SqliteError;
use crate::model::DbPath;
use rusqlite::{Connection, OpenFlags};

/// What `PRAGMA integrity_check` (or `quick_check`) finds wrong, at most ten lines. Empty: nothing.
pub fn problems(db: &DbPath, quick: bool) -> Result<Vec<String>, SqliteError> {
    let operation = "check";
    let failed = |error| SqliteError::sql(operation, db, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(db.as_path(), flags).map_err(failed)?;
    let sql = if quick { "PRAGMA quick_check(10)" } else { "PRAGMA integrity_check(10)" };
    let mut statement = conn.prepare(sql).map_err(failed)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
    let mut lines = rows.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_and_unsound() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let conn = Connection::open(db.as_path()).unwrap();
        conn.execute_batch("CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES (1), (2);").unwrap();
        drop(conn);
        assert_eq!(problems(&db, false).unwrap(), Vec::<String>::new());
        let mut bytes = std::fs::read(db.as_path()).unwrap();
        let end = bytes.len();
        bytes[end - 4096..].fill(0);
        std::fs::write(db.as_path(), bytes).unwrap();
        assert!(problems(&db, true).map_or(true, |found| !found.is_empty()));
    }
}
