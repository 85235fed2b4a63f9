//! Writes pages of a database through SQLite (`sqlite_dbpage`), so that readers in other processes see whole
//! transactions. The only writes of litevisor through SQLite: to a copy that follows a replica, never to a
//! database that an app writes to.
//!
//! What SQLite does by itself at such a commit: it writes its own change counter and version into page 1
//! (bytes 24 to 27 and 92 to 99), whether page 1 was written here or not. It must not vacuum: a callback says
//! so. Page 1 is written last: SQLite reads the schema again before the first statement that finds another
//! schema version, and the rest of it must be there by then.

use super::connection::Link;
use super::error::SqliteError;
use super::files;
use crate::model::{DbPath, PageNo, PageSize};
use rusqlite::{Statement, ffi, params};
use std::ffi::{c_char, c_uint, c_void};

const READ: &str = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1";
const WRITE: &str = "INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)";
const END: &str = "INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, NULL)";

/// Of the first page.
const SCHEMA_VERSION: std::ops::Range<usize> = 40..44;

/// A connection that writes pages.
pub struct Pages {
    link: Link,
    path: DbPath,
    page_size: PageSize,
}

/// A transaction; dropped without `commit`, it leaves nothing.
pub struct Transaction<'a> {
    pages: &'a Pages,
    read: Statement<'a>,
    write: Statement<'a>,
    open: bool,
}

extern "C" fn vacuum_nothing(_: *mut c_void, _: *const c_char, _: c_uint, _: c_uint, _: c_uint) -> c_uint {
    0
}

impl Pages {
    /// The database must be in WAL mode.
    pub fn open(path: &DbPath) -> Result<Pages, SqliteError> {
        // No descriptor of this process may be closed as long as the connection lives.
        files::keep(path.as_path()).map_err(|error| SqliteError::io("open", path, &error))?;
        let link = Link::open(path)?;
        let failed = |error| SqliteError::sql("open", path, &error);
        let (mode, size) = {
            let _acting = link.acting();
            // SAFETY: the handle is that of this open connection, which no other thread uses meanwhile; the
            // callback uses none of its arguments.
            unsafe {
                ffi::sqlite3_autovacuum_pages(
                    link.connection().handle(),
                    Some(vacuum_nothing),
                    std::ptr::null_mut(),
                    None,
                );
            }
            let text = |pragma: &str| link.connection().query_row(pragma, [], |row| row.get::<_, String>(0));
            let number = |pragma: &str| link.connection().query_row(pragma, [], |row| row.get::<_, u32>(0));
            let known = number("SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'");
            if known.map_err(failed)? == 0 {
                return Err(SqliteError::NoPages { subject: path.to_string() });
            }
            (text("PRAGMA journal_mode").map_err(failed)?, number("PRAGMA page_size").map_err(failed)?)
        };
        let refused =
            |detail: String| SqliteError::Failed { operation: "open", subject: path.to_string(), detail };
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(refused(format!(
                "its journal mode is {mode}, and only WAL lets others read while it is written"
            )));
        }
        let page_size = PageSize::new(size).ok_or_else(|| refused(format!("its page size is {size}")))?;
        Ok(Pages { link, path: path.clone(), page_size })
    }

    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Changes when another connection has committed.
    pub fn data_version(&self) -> Result<u32, SqliteError> {
        self.number("PRAGMA data_version")
    }

    /// Pages of the database; within a transaction as that one has them.
    pub fn count(&self) -> Result<u32, SqliteError> {
        self.number("PRAGMA page_count")
    }

    fn number(&self, sql: &str) -> Result<u32, SqliteError> {
        let _acting = self.link.acting();
        let found = self.link.connection().query_row(sql, [], |row| row.get(0));
        found.map_err(|error| SqliteError::sql("read", &self.path, &error))
    }

    /// Begins a transaction that writes. Waits for a moment for another one.
    pub fn begin(&self) -> Result<Transaction<'_>, SqliteError> {
        self.link.begin_write()?;
        let _acting = self.link.acting();
        let prepare = |sql| self.link.connection().prepare(sql);
        let prepared = prepare(READ).and_then(|read| Ok((read, prepare(WRITE)?)));
        match prepared {
            Ok((read, write)) => Ok(Transaction { pages: self, read, write, open: true }),
            Err(error) => {
                let _ = self.link.end();
                Err(SqliteError::sql("prepare to write pages of", &self.path, &error))
            }
        }
    }

    /// Hands every page to `each`, as one reader sees them.
    pub fn each(&self, mut each: impl FnMut(PageNo, &[u8])) -> Result<(), SqliteError> {
        let _acting = self.link.acting();
        let failed = |error| SqliteError::sql("read the pages of", &self.path, &error);
        let mut statement =
            self.link.connection().prepare("SELECT pgno, data FROM sqlite_dbpage('main')").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let page: u32 = row.get(0).map_err(failed)?;
            let data = row.get_ref(1).map_err(failed)?;
            each(PageNo(page), data.as_blob().unwrap_or_default());
        }
        Ok(())
    }

    /// Copies into the database what readers allow, without waiting for them: (frames in the WAL, frames
    /// copied).
    pub fn checkpoint(&self) -> Result<(i64, i64), SqliteError> {
        self.link.checkpoint("PASSIVE")
    }

    /// What is wrong with the structure of the database; None: nothing. Reads every page.
    pub fn structure_problem(&self) -> Result<Option<String>, SqliteError> {
        // This connection may know an earlier schema.
        Link::open(&self.path)?.structure_problem()
    }
}

impl Transaction<'_> {
    /// The page as the transaction has it; None: it has no such page.
    pub fn read(&mut self, page: PageNo, buffer: &mut Vec<u8>) -> Result<bool, SqliteError> {
        let _acting = self.pages.link.acting();
        let failed = |error| SqliteError::sql("read a page of", &self.pages.path, &error);
        let mut rows = self.read.query([page.0]).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(false) };
        let data = row.get_ref(0).map_err(failed)?;
        buffer.clear();
        buffer.extend_from_slice(data.as_blob().unwrap_or_default());
        Ok(true)
    }

    /// Page 1 is for `commit`.
    pub fn write(&mut self, page: PageNo, data: &[u8]) -> Result<(), SqliteError> {
        let _acting = self.pages.link.acting();
        let written = self.write.execute(params![page.0, data]);
        written.map(|_| ()).map_err(|error| SqliteError::sql("write a page of", &self.pages.path, &error))
    }

    /// Writes the first page and the new end of the database. To be called last.
    pub fn finish(&mut self, first: Option<&[u8]>, end: Option<u32>) -> Result<(), SqliteError> {
        let Some(pages) = end else { return first.map_or(Ok(()), |first| self.write(PageNo(1), first)) };
        let mut version = None;
        if let Some(first) = first {
            // A statement that follows another schema version would read the schema in the middle of the
            // transaction. So the page gets the one that it had, until the end is set. (In one statement,
            // SQLite would forget the end.)
            let mut page = Vec::new();
            self.read(PageNo(1), &mut page)?;
            let had = page.get(SCHEMA_VERSION).map(<[u8]>::to_vec).unwrap_or_default();
            first.clone_into(&mut page);
            version = first.get(SCHEMA_VERSION).filter(|new| *new != had).and_then(<[u8]>::first_chunk);
            if let Some(field) = page.get_mut(SCHEMA_VERSION).filter(|field| field.len() == had.len()) {
                field.copy_from_slice(&had);
            }
            self.write(PageNo(1), &page)?;
        }
        let _acting = self.pages.link.acting();
        let conn = self.pages.link.connection();
        let done = conn.execute(END, params![pages.saturating_add(1)]).and_then(|_| match version {
            Some(version) => conn.pragma_update(None, "schema_version", i32::from_be_bytes(*version)),
            None => Ok(()),
        });
        done.map_err(|error| SqliteError::sql("write pages of", &self.pages.path, &error))
    }

    pub fn commit(mut self) -> Result<(), SqliteError> {
        self.pages.link.run("commit to", "COMMIT")?;
        self.open = false;
        // SQLite keeps with a cached page what it has found in it, which is no longer so.
        let _ = self.pages.link.pragma("forget the pages of", "shrink_memory");
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            let _ = self.pages.link.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::time::Duration;

    const SIZE: usize = 1024;

    /// The database that an app writes to, and the copy that follows it.
    struct Site {
        _dir: tempfile::TempDir,
        app: Connection,
        copy: DbPath,
    }

    impl Site {
        fn new(vacuum: &str) -> Site {
            let dir = tempfile::tempdir().unwrap();
            let app = Connection::open(dir.path().join("app.db")).unwrap();
            app.execute_batch(&format!(
                "PRAGMA page_size={SIZE}; PRAGMA auto_vacuum={vacuum}; PRAGMA journal_mode=wal;
                 CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO t(x) VALUES (zeroblob(9000))"
            ))
            .unwrap();
            let copy = DbPath::new(dir.path().join("copy.db"));
            app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            std::fs::write(copy.as_path(), std::fs::read(dir.path().join("app.db")).unwrap()).unwrap();
            Site { _dir: dir, app, copy }
        }

        fn reader(&self) -> Connection {
            let reader =
                Connection::open_with_flags(self.copy.as_path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
                    .unwrap();
            reader.busy_timeout(Duration::from_secs(5)).unwrap();
            reader
        }
    }

    fn image(of: &mut Connection) -> Vec<u8> {
        of.serialize("main").unwrap().to_vec()
    }

    /// Without what SQLite writes by itself.
    fn plain(mut image: Vec<u8>) -> Vec<u8> {
        image[24..28].fill(0);
        image[92..100].fill(0);
        image
    }

    fn apply(pages: &Pages, from: &[u8], to: &[u8]) -> bool {
        let (old, new) = (from.len() / SIZE, to.len() / SIZE);
        let mut transaction = pages.begin().unwrap();
        let mut buffer = Vec::new();
        for at in 1..new {
            let range = at * SIZE..(at + 1) * SIZE;
            if from.get(range.clone()) != Some(&to[range.clone()]) {
                let page = PageNo(at as u32 + 1);
                assert_eq!(transaction.read(page, &mut buffer).unwrap(), at < old);
                transaction.write(page, &to[range]).unwrap();
            }
        }
        let first = (from[..SIZE] != to[..SIZE]).then_some(&to[..SIZE]);
        transaction.finish(first, (new < old).then_some(new as u32)).unwrap();
        transaction.commit().unwrap();
        new != old
    }

    #[test]
    fn a_copy_gets_every_change_of_the_app() {
        for vacuum in ["NONE", "FULL", "INCREMENTAL"] {
            let mut site = Site::new(vacuum);
            let pages = Pages::open(&site.copy).unwrap();
            assert_eq!(pages.page_size().bytes(), SIZE);
            let mut reader = site.reader();
            let mut before = image(&mut reader);
            assert_eq!(plain(before.clone()), plain(image(&mut site.app)));
            let (mut resized, mut differs) = (0, 0);
            for sql in [
                "INSERT INTO t(x) VALUES (randomblob(50000))",
                "CREATE TABLE u(k INTEGER PRIMARY KEY, n); INSERT INTO u VALUES (1, 2)",
                "CREATE INDEX i ON t(x); INSERT INTO t(x) SELECT randomblob(300) FROM t, t, t",
                "DELETE FROM t WHERE id > 1",
                "DROP TABLE u",
                "PRAGMA incremental_vacuum(7)",
                "VACUUM",
                "INSERT INTO t(x) VALUES (randomblob(90000))",
                "DROP TABLE t; VACUUM",
                "CREATE VIEW v AS SELECT 1",
            ] {
                site.app.execute_batch(sql).unwrap();
                let after = image(&mut site.app);
                resized += usize::from(apply(&pages, &before, &after));
                assert_eq!(plain(image(&mut reader)), plain(after.clone()), "{vacuum}: {sql}");
                differs += usize::from(image(&mut reader) != after);
                assert_eq!(pages.structure_problem().unwrap(), None, "{vacuum}: {sql}");
                let (frames, copied) = pages.checkpoint().unwrap();
                assert_eq!(frames, copied);
                // The end is in the WAL, too, and not in the first page alone.
                let length = std::fs::metadata(site.copy.as_path()).unwrap().len();
                assert_eq!(length, after.len() as u64, "{vacuum}: {sql}");
                before = after;
            }
            assert!(resized >= 4, "{resized}");
            assert!(differs > 0, "SQLite writes fields of its own");
            let mut seen = 0;
            pages.each(|_, data| seen += data.len()).unwrap();
            assert_eq!(seen, before.len());
        }
    }

    #[test]
    fn what_is_not_committed_is_not_there() {
        let site = Site::new("NONE");
        let pages = Pages::open(&site.copy).unwrap();
        let (mut reader, version) = (site.reader(), pages.data_version().unwrap());
        let before = image(&mut reader);
        let mut transaction = pages.begin().unwrap();
        (2..40).for_each(|page| transaction.write(PageNo(page), &[7; SIZE]).unwrap());
        assert_eq!(image(&mut reader), before);
        drop(transaction);
        assert_eq!(image(&mut reader), before);
        assert_eq!(pages.data_version().unwrap(), version);
        Connection::open(site.copy.as_path()).unwrap().execute_batch("DELETE FROM t").unwrap();
        assert_ne!(pages.data_version().unwrap(), version, "another process has written");
    }

    #[test]
    fn only_a_wal_lets_others_read() {
        let site = Site::new("NONE");
        Connection::open(site.copy.as_path()).unwrap().execute_batch("PRAGMA journal_mode=delete").unwrap();
        let refused = Pages::open(&site.copy).err().unwrap().to_string();
        assert!(refused.contains("journal mode is delete"), "{refused}");
    }
}
