//! SQLite's own check of a database file that no other process uses. Creates side files beside it. A schema
//! may need functions and collations that only its app has; what cannot be checked without them is reported
//! as unknown.

use super::error::SqliteError;
use crate::model::DbPath;
use crate::rights;
use rusqlite::{Connection, InterruptHandle, OpenFlags};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong, at most ten lines for each table. Empty: nothing.
    pub problems: Vec<String>,
    /// What could not be checked, and why.
    pub unknown: Vec<String>,
}

/// Ends a check that runs, from any thread.
pub struct Interrupt(InterruptHandle);

impl Interrupt {
    pub fn interrupt(&self) {
        self.0.interrupt();
    }
}

/// Runs `PRAGMA integrity_check` (or `quick_check`).
pub fn check(db: &DbPath, quick: bool) -> Result<Findings, SqliteError> {
    check_until(db, quick, drop)
}

/// The same; `begun` gets the means to end it early, which is an error.
pub fn check_until(db: &DbPath, quick: bool, begun: impl FnOnce(Interrupt)) -> Result<Findings, SqliteError> {
    rights::within(db, || run(db, quick, begun))
}

fn run(db: &DbPath, quick: bool, begun: impl FnOnce(Interrupt)) -> Result<Findings, SqliteError> {
    let failed = |error| SqliteError::sql("check", db, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(db.as_path(), flags).map_err(failed)?;
    begun(Interrupt(conn.get_interrupt_handle()));
    let pragma = if quick { "quick_check" } else { "integrity_check" };
    match lines(&conn, &format!("PRAGMA {pragma}(10)")) {
        Ok(problems) => Ok(Findings { problems, unknown: Vec::new() }),
        Err(error) if is_of_the_schema(&error) => table_by_table(&conn, pragma).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// One table whose schema cannot be worked with ends the check of all: each is checked alone. That of the
/// schema table covers the list of free pages.
fn table_by_table(conn: &Connection, pragma: &str) -> Result<Findings, rusqlite::Error> {
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let tables: Vec<String> =
        std::iter::once(Ok("sqlite_schema".to_owned())).chain(names).collect::<Result<_, _>>()?;
    let mut findings = Findings::default();
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        match lines(conn, &format!("PRAGMA {pragma}(\"{quoted}\")")) {
            Ok(problems) => findings.problems.extend(problems),
            Err(error) if is_of_the_schema(&error) => {
                findings.unknown.push(format!("table {table}: {}", text(&error)))
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

fn lines(conn: &Connection, sql: &str) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut lines = rows.take(10).collect::<Result<Vec<_>, _>>()?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

/// SQLite has understood the file and cannot run the statement: a function or a collation is missing. Damage
/// has codes of its own.
fn is_of_the_schema(error: &rusqlite::Error) -> bool {
    let code = match error {
        rusqlite::Error::SqlInputError { error, .. } | rusqlite::Error::SqliteFailure(error, _) => {
            error.extended_code
        }
        _ => return false,
    };
    code & 0xff == rusqlite::ffi::SQLITE_ERROR
}

/// SQLite's own words, without the statement.
fn text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } | rusqlite::Error::SqliteFailure(_, Some(msg)) => {
            msg.clone()
        }
        error => error.to_string(),
    }
}

/// Whether a line of SQLite's check is about the structure of the file. Other lines are about rows (NULL in a
/// NOT NULL column, a CHECK constraint that does not hold): the app may have them so.
pub fn structural(line: &str) -> bool {
    let starts = [
        "*** in database",
        "Tree ",
        "Page ",
        "Freelist",
        "Main freelist",
        "database disk image is malformed",
    ];
    starts.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_the_structure() {
        for (line, expected) in [
            ("ok", false),
            ("*** in database main ***\nTree 2 page 3: btreeInitPage() returns error code 11", true),
            ("Tree 2 page 2 cell 0: 2nd reference to page 3", true),
            ("Page 4: never used", true),
            ("NULL value in t.x", false),
            ("CHECK constraint failed in t", false),
            ("row 1 missing from index i", false),
        ] {
            assert_eq!(structural(line), expected, "{line}");
        }
    }

    fn made_by(sql: &str) -> (tempfile::TempDir, DbPath) {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        Connection::open(db.as_path()).unwrap().execute_batch(sql).unwrap();
        (dir, db)
    }

    fn zero_last_page(db: &DbPath) {
        let mut bytes = std::fs::read(db.as_path()).unwrap();
        let end = bytes.len();
        bytes[end - 4096..].fill(0);
        std::fs::write(db.as_path(), bytes).unwrap();
    }

    #[test]
    fn sound_and_unsound() {
        let (_dir, db) = made_by("CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES (1), (2);");
        assert_eq!(check(&db, false).unwrap(), Findings::default());
        zero_last_page(&db);
        assert!(check(&db, true).map_or(true, |found| !found.problems.is_empty()));
    }

    #[test]
    fn what_only_the_app_can_check_is_named_and_the_rest_is_checked() {
        for (schema, from, to) in [
            ("CREATE TABLE a(x TEXT COLLATE NOCASE); CREATE INDEX ai ON a(x)", "NOCASE", "THEIRS"),
            ("CREATE TABLE a(x TEXT); CREATE INDEX ai ON a(lower(x))", "lower", "theirs"),
            ("CREATE TABLE a(x TEXT CHECK (length(x) > 0))", "length", "theirs"),
            ("CREATE TABLE a(x TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID", "NOCASE", "THEIRS"),
        ] {
            let (_dir, db) = made_by(&format!(
                "{schema}; INSERT INTO a VALUES ('b'), ('A'); CREATE TABLE z(x); CREATE INDEX zi ON z(x); \
                 INSERT INTO z VALUES (1), (2); PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = \
                 replace(sql, '{from}', '{to}');"
            ));
            for quick in [false, true] {
                let found = check(&db, quick).unwrap();
                assert_eq!(found.problems, [""; 0], "{schema}");
                let named =
                    |line: &String| line.starts_with("table a: ") && line.to_lowercase().contains("theirs");
                // A quick check compares no index and may need nothing of theirs.
                assert!(
                    found.unknown.iter().all(named) && (quick || found.unknown.len() == 1),
                    "{schema}: {found:?}"
                );
            }
            zero_last_page(&db);
            assert!(
                check(&db, false).map_or(true, |found| !found.problems.is_empty()),
                "{schema}: z is damaged"
            );
        }
    }
}
