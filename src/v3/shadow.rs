//! Does the local file continue a Litestream 0.3 replica? Litestream kept the generation's name and copies of
//! the WAL beside the database. If those reach the end of the replica, and the WAL continues them, the local
//! file is newer. Changes nothing.

use super::name::{Generation, Part};
use super::plan::{self, V3File};
use crate::model::{DbPath, Txid};
use crate::rights::{self, Dir};
use crate::sqlite::{WalPlace, WalStanding, files, wal_standing};
use crate::wal::{HEADER, WalHeader};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file that names the generation has 17.
const MOST_BYTES: u64 = 1 << 10;

/// The newest copy of the WAL beside the database.
struct Shadow {
    path: PathBuf,
    index: u64,
    bytes: u64,
}

pub fn continues(db: &DbPath, files: &[V3File]) -> io::Result<bool> {
    let directory = db.litestream_dir();
    let Some(named) = named_generation(db) else { return Ok(false) };
    let Some(generation) = Txid::from_name(named.trim()).map(|hex| Generation(hex.0)) else {
        return Ok(false);
    };
    let newest = plan::generations(files).into_iter().next();
    let Some(newest) = newest.filter(|newest| newest.generation == generation) else { return Ok(false) };
    let ends = newest.files.iter().map(|file| match file.name.part {
        Part::Snapshot => (file.name.index, 0),
        Part::Segment(offset) => (file.name.index, offset),
    });
    let (Some(end), Some(shadow)) =
        (ends.max(), shadow(&directory.join(format!("generations/{generation}/wal")))?)
    else {
        return Ok(false);
    };
    // A segment is a part of the copy: one that begins inside it ends there, too.
    if (shadow.index, shadow.bytes) <= end {
        return Ok(false);
    }
    goes_on(db, &shadow)
}

fn named_generation(db: &DbPath) -> Option<String> {
    let name = db.litestream_dir().file_name().map(OsString::from)?;
    let read = rights::within(db, || {
        Dir::open(db.directory())?.below(&name)?.read_small(OsStr::new("generation"), MOST_BYTES)
    });
    String::from_utf8(read.ok()?).ok()
}

/// When a file was created and last written.
#[derive(Clone, Copy, Debug)]
struct Times {
    created: SystemTime,
    written: SystemTime,
}

impl Times {
    /// None: the file system keeps no creation times.
    fn of(path: &Path) -> io::Result<Option<Times>> {
        let meta = fs::metadata(path)?;
        let written = meta.modified()?;
        Ok(meta.created().ok().map(|created| Times { created, written }))
    }
}

/// Whether the database was put in the place of the file that Litestream read: it was created after
/// Litestream's last copy of the WAL was written. If that copy was itself created after its last write, the
/// whole directory is a copy, and the times say nothing. Pure.
fn is_another_file(db: Option<Times>, copy: Option<Times>) -> bool {
    matches!((db, copy), (Some(db), Some(copy)) if copy.created <= copy.written && db.created > copy.written)
}

fn goes_on(db: &DbPath, shadow: &Shadow) -> io::Result<bool> {
    if is_another_file(Times::of(db.as_path())?, Times::of(&shadow.path)?) {
        return Ok(false);
    }
    let mut bytes = [0; HEADER as usize];
    let (_, copy) = rights::within(db, || files::open_wal(&shadow.path))?;
    let whole = files::read_full(&copy, 0, &mut bytes)? == bytes.len();
    let Some(header) = WalHeader::parse(&bytes).filter(|_| whole) else { return Ok(false) };
    let place = WalPlace { salts: header.salts, end: shadow.bytes, page_size: header.page_size };
    Ok(match wal_standing(&db.wal(), place)? {
        WalStanding::Reached | WalStanding::Restarted => true,
        WalStanding::Short | WalStanding::Another => false,
        // Closed: all of the WAL went into the file. If it was lost instead, the file is older than the copy.
        WalStanding::Gone => {
            fs::metadata(db.as_path())?.modified()? >= fs::metadata(&shadow.path)?.modified()?
        }
    })
}

fn shadow(directory: &std::path::Path) -> io::Result<Option<Shadow>> {
    let mut newest: Option<Shadow> = None;
    let Ok(entries) = fs::read_dir(directory) else { return Ok(None) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let index = name.to_str().and_then(|name| name.strip_suffix(".wal")).and_then(Txid::from_hex);
        let Some(Txid(index)) = index else { continue };
        if newest.as_ref().is_none_or(|newest| newest.index < index) {
            newest = Some(Shadow { path: entry.path(), index, bytes: entry.metadata()?.len() });
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::super::name::parse;
    use super::*;
    use rusqlite::Connection;

    const GENERATION: &str = "00000000000000aa";

    struct Case {
        _dir: tempfile::TempDir,
        db: DbPath,
        copy: PathBuf,
    }

    impl Case {
        /// A database with a WAL that Litestream 0.3 has copied as index 2.
        fn new() -> (Case, Connection) {
            let dir = tempfile::tempdir().unwrap();
            let db = DbPath::new(dir.path().join("app.db"));
            let app = Connection::open(db.as_path()).unwrap();
            app.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
                .unwrap();
            let wal = db.litestream_dir().join(format!("generations/{GENERATION}/wal"));
            fs::create_dir_all(&wal).unwrap();
            fs::write(db.litestream_dir().join("generation"), format!("{GENERATION}\n")).unwrap();
            fs::write(wal.join("00000001.wal"), "older").unwrap();
            let copy = wal.join("00000002.wal");
            fs::write(&copy, fs::read(db.wal()).unwrap()).unwrap();
            (Case { _dir: dir, db, copy }, app)
        }

        fn ask(&self, generation: &str, last: &str) -> bool {
            let file = |part: &str, modified_ms| {
                let key = format!("generations/{generation}/{part}.lz4");
                V3File { name: parse(&key).unwrap(), key, size: 9, modified_ms }
            };
            let files = [file("snapshots/00000000.snapshot", 1), file(&format!("wal/{last}.wal"), 2)];
            continues(&self.db, &files).unwrap()
        }
    }

    #[test]
    fn what_continues_the_old_replica() {
        let (case, app) = Case::new();
        assert!(case.ask(GENERATION, "00000002_00000020"));
        assert!(case.ask(GENERATION, "00000001_00100000"));
        assert!(!case.ask(GENERATION, "00000002_00100000"), "the replica has more");
        assert!(!case.ask(GENERATION, "00000003_00000000"), "the replica has more");
        assert!(!case.ask("00000000000000bb", "00000002_00000020"), "another generation");
        app.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert!(case.ask(GENERATION, "00000002_00000020"), "it went on");
        app.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (3)").unwrap();
        assert!(case.ask(GENERATION, "00000002_00000020"), "and started the WAL over");
        drop(app);
        assert!(case.ask(GENERATION, "00000002_00000020"), "and closed");
    }

    #[test]
    fn a_file_that_was_put_in_its_place_does_not() {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let times = |created, written| Some(Times { created: at(created), written: at(written) });
        for (db, copy, another) in [
            (times(1, 9), times(2, 5), false),
            (times(6, 9), times(2, 5), true),
            // A backup that keeps its time of writing.
            (times(6, 1), times(2, 5), true),
            // The whole directory was copied to another disk.
            (times(6, 9), times(7, 5), false),
            (times(8, 9), times(7, 5), false),
            (None, times(2, 5), false),
            (times(6, 9), None, false),
        ] {
            assert_eq!(is_another_file(db, copy), another, "{db:?} {copy:?}");
        }
        // By rename, with the WAL gone as after a clean end: the file is newer than the copy.
        let (case, app) = Case::new();
        drop(app);
        assert!(case.ask(GENERATION, "00000002_00000020"));
        let backup = case.db.directory().join("backup");
        let content = fs::read(case.db.as_path()).unwrap();
        let written = fs::metadata(&case.copy).unwrap().modified().unwrap();
        // The clock of a file system has ticks.
        let keeps_times = loop {
            fs::write(&backup, &content).unwrap();
            match fs::metadata(&backup).unwrap().created() {
                Ok(created) if created <= written => fs::remove_file(&backup).unwrap(),
                created => break created.is_ok(),
            }
        };
        fs::rename(&backup, case.db.as_path()).unwrap();
        assert_eq!(case.ask(GENERATION, "00000002_00000020"), !keeps_times);
    }

    #[test]
    fn what_does_not() {
        let (case, app) = Case::new();
        fs::remove_file(&case.copy).unwrap();
        assert!(!case.ask(GENERATION, "00000002_00000020"));
        drop(app);
        // The WAL is lost: the copy is newer than what is in the file.
        let (case, app) = Case::new();
        let before = fs::read(case.db.as_path()).unwrap();
        drop(app);
        fs::write(case.db.as_path(), before).unwrap();
        let file = fs::File::options().write(true).open(case.db.as_path()).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(!case.ask(GENERATION, "00000002_00000020"));
        // Another database.
        let (case, app) = Case::new();
        drop(app);
        fs::remove_file(case.db.as_path()).unwrap();
        let other = Connection::open(case.db.as_path()).unwrap();
        other.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE other(x)").unwrap();
        assert!(!case.ask(GENERATION, "00000002_00000020"));
        fs::remove_dir_all(case.db.litestream_dir()).unwrap();
        assert!(!case.ask(GENERATION, "00000002_00000020"));
    }
}
