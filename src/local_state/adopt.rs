//! Moves the state directory that a run without `meta_dir` has left beside the database to its place in
//! `meta_dir`. Its spilled segments may be nowhere else, so everything is copied and synced first. The
//! renaming of the old directory is the commit point: until then it is complete and counts, and what an
//! interrupted move has copied is written again.

use super::lock::{self, Taken};
use super::place::Place;
use super::spill::{self, SpilledFile};
use super::{
    LocalStateError, RECORD, failed, open_at, open_or_make_at, read_at, remove_note, write_note_durably,
};
use crate::model::DbPath;
use crate::rights::{Dir, Kind, absent_ok};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};

/// What the name of the old directory ends with, once everything in it is in `meta_dir`.
const MOVED: &str = "-moved";
const CHUNK: usize = 64 << 10;

/// To be called with the lock of the database. Without `meta_dir` there is nothing to do.
pub fn adopt(db: &DbPath) -> Result<(), LocalStateError> {
    let place = Place::of(db);
    if place.meta_dir.is_none() {
        return Ok(());
    }
    let usable = place.within(db, || open_or_make_at(db, &place).map(drop));
    usable.map_err(failed("create", &place.path()))?;
    let old = Place::beside(db);
    clear_moved(db, &old);
    let notes = notes(db, &old)?;
    let spilled = spill::list_at(db, &old)?;
    if notes.is_empty() && spilled.is_empty() {
        report_missing(db, &place);
        return Ok(());
    }
    let busy = |taken: Taken| {
        failed("move", &old.path())(io::Error::new(ErrorKind::ResourceBusy, taken.to_string()))
    };
    let _lock = lock::beside(db, &old).map_err(busy)?;
    make_room(db, &place, &spilled)?;
    for file in &spilled {
        copy_segment(db, &old, file)?;
    }
    // The record says how far the segments lead: it comes last.
    for name in notes.iter().filter(|name| *name != RECORD).chain(notes.iter().filter(|name| *name == RECORD))
    {
        let text = read_at(db, &old, name)?.unwrap_or_default();
        write_note_durably(db, name, &String::from_utf8_lossy(&text))?;
    }
    let renamed = old.within(db, || {
        let above = Dir::open(&old.above)?;
        above.rename(&old.name, &moved(&old).name)?;
        above.sync()
    });
    renamed.map_err(failed("rename", &old.path()))?;
    tracing::info!(
        %db, from = %old.path().display(), to = %place.path().display(), segments = spilled.len(),
        "the state directory was moved to `meta_dir`"
    );
    clear_moved(db, &old);
    Ok(())
}

fn moved(old: &Place) -> Place {
    let mut name = old.name.clone();
    name.push(MOVED);
    Place { name, ..old.clone() }
}

/// The small files of a state directory.
fn notes(db: &DbPath, place: &Place) -> Result<Vec<String>, LocalStateError> {
    let listed = place.within(db, || match open_at(place).and_then(|(dir, _acting)| dir.names()) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        listed => listed,
    });
    let names = listed.map_err(failed("list", &place.path()))?;
    let note = |name: OsString| name.into_string().ok().filter(|name| name.ends_with(".json"));
    Ok(names.into_iter().filter_map(note).collect())
}

/// What `meta_dir` has of this database is older, or the copy of an interrupted move.
fn make_room(db: &DbPath, place: &Place, spilled: &[SpilledFile]) -> Result<(), LocalStateError> {
    let there = spill::list(db)?;
    let same =
        |file: &SpilledFile| spilled.iter().any(|new| (new.txid, new.bytes) == (file.txid, file.bytes));
    if there.iter().all(same) {
        there.iter().try_for_each(|file| spill::remove(&file.path))?;
    } else if let Some(kept) = spill::set_aside(db)? {
        tracing::error!(
            %db, "segments of an earlier run with `meta_dir` had not reached the replica; they are kept in \
                {}",
            kept.display()
        );
    }
    notes(db, place)?.iter().try_for_each(|name| remove_note(db, name))
}

fn copy_segment(db: &DbPath, old: &Place, file: &SpilledFile) -> Result<(), LocalStateError> {
    let mut from = spill::open_at(db, old, &file.path)?;
    let mut to = spill::create(db, file.txid)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).map_err(failed("read", &file.path))?;
        if read == 0 {
            return to.finish().map(drop);
        }
        to.write(chunk.get(..read).unwrap_or_default())?;
    }
}

/// Removes what was moved. Databases that a restore has replaced, and segments that were set aside, stay
/// beside the database.
fn clear_moved(db: &DbPath, old: &Place) {
    let moved = moved(old);
    let cleared = moved.within(db, || {
        let (dir, _acting) = match open_at(&moved) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(());
            }
            opened => opened?,
        };
        for name in dir.names()? {
            match dir.stat(&name)?.map(|seen| seen.kind) {
                Some(Kind::Directory) if name == OsStr::new("spill") => remove_directory(&dir, &name)?,
                Some(Kind::Directory) => keep(db, old, &dir, &name)?,
                _ => absent_ok(dir.remove(&name))?,
            }
        }
        Dir::open(&moved.above)?.remove_directory(&moved.name)
    });
    if let Err(error) = cleared {
        tracing::warn!(%db, "cannot remove {}, which was moved to `meta_dir`: \
            {error}", moved.path().display());
    }
}

fn remove_directory(above: &Dir, name: &OsStr) -> io::Result<()> {
    let dir = above.below(name)?;
    dir.names()?.iter().try_for_each(|name| absent_ok(dir.remove(name)))?;
    above.remove_directory(name)
}

fn keep(db: &DbPath, old: &Place, from: &Dir, name: &OsStr) -> io::Result<()> {
    let (dir, _acting) = open_or_make_at(db, old)?;
    tracing::info!(%db, "{} stays beside the database", old.path().join(name).display());
    from.rename_into(name, &dir, name)
}

/// The state directory of a file that is there may be in another `meta_dir`.
fn report_missing(db: &DbPath, place: &Place) {
    let has_record = !matches!(read_at(db, place, RECORD), Ok(None));
    let has_file = std::fs::symlink_metadata(db.as_path()).is_ok_and(|meta| meta.len() > 0);
    if has_file && !has_record {
        tracing::info!(
            %db, "`meta_dir` has no record of this database, {}: if another `meta_dir` has it, stop \
                litevisor and move it here",
            place.path().join(RECORD).display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::{Scope, choose};
    use super::super::{read_note, write_note};
    use super::*;
    use crate::model::Txid;
    use std::fs;

    fn spill(db: &DbPath, txid: u64, bytes: &[u8]) {
        let mut writer = spill::create(db, Txid(txid)).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap();
    }

    fn note(db: &DbPath, name: &str) -> Option<String> {
        read_note(db, name).unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    fn state_of_an_earlier_run(dir: &tempfile::TempDir) -> DbPath {
        let db = DbPath::new(dir.path().join("data/app.db"));
        fs::create_dir(db.directory()).unwrap();
        write_note(&db, RECORD, "new").unwrap();
        write_note(&db, "setup.json", "mark").unwrap();
        spill(&db, 5, b"five");
        spill(&db, 6, b"six");
        fs::create_dir(db.state_dir().join("replaced-1")).unwrap();
        fs::write(db.state_dir().join("replaced-1/app.db"), "kept").unwrap();
        fs::write(db.state_dir().join("lock"), "{}").unwrap();
        choose(db.as_path(), Scope::Database, &dir.path().join("meta"));
        db
    }

    fn assert_moved(db: &DbPath) {
        assert_eq!(
            (note(db, RECORD).as_deref(), note(db, "setup.json").as_deref()),
            (Some("new"), Some("mark"))
        );
        let spilled = spill::list(db).unwrap();
        assert_eq!(
            spilled.iter().map(|file| fs::read(&file.path).unwrap()).collect::<Vec<_>>(),
            [&b"five"[..], b"six"]
        );
        let left: Vec<_> =
            fs::read_dir(db.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".app.db-litevisor"], "for the file that was replaced");
        let left: Vec<_> =
            fs::read_dir(db.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["replaced-1"]);
        assert_eq!(fs::read_to_string(db.state_dir().join("replaced-1/app.db")).unwrap(), "kept");
    }

    #[test]
    fn everything_is_moved_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = state_of_an_earlier_run(&dir);
        adopt(&db).unwrap();
        assert_moved(&db);
        write_note(&db, RECORD, "later").unwrap();
        adopt(&db).unwrap();
        assert_eq!(note(&db, RECORD).as_deref(), Some("later"));
    }

    /// A kill after each step.
    #[test]
    fn an_interrupted_move_goes_on() {
        for killed_after in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let db = state_of_an_earlier_run(&dir);
            let old = Place::beside(&db);
            let spilled = spill::list_at(&db, &old).unwrap();
            if killed_after > 0 {
                copy_segment(&db, &old, &spilled[0]).unwrap();
            }
            if killed_after > 1 {
                copy_segment(&db, &old, &spilled[1]).unwrap();
                write_note(&db, RECORD, "new").unwrap();
            }
            if killed_after > 2 {
                write_note(&db, "setup.json", "mark").unwrap();
                fs::rename(old.path(), moved(&old).path()).unwrap();
                fs::remove_file(moved(&old).path().join(RECORD)).unwrap();
            }
            adopt(&db).unwrap();
            assert_moved(&db);
        }
    }

    /// Of a time before a run without `meta_dir`: the replica may lack them.
    #[test]
    fn other_segments_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let db = state_of_an_earlier_run(&dir);
        spill(&db, 4, b"four");
        write_note(&db, "handover.json", "old").unwrap();
        adopt(&db).unwrap();
        assert_moved(&db);
        let aside =
            super::super::place::of(&db).join("spill-set-aside-1/0000000000000004-0000000000000004.ltx");
        assert_eq!(fs::read(aside).unwrap(), b"four");
        assert_eq!(note(&db, "handover.json"), None);
    }
}
