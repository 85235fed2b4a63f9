//! Performs the install rule: look, one step, make it durable, look again. Owns every rename and unlink of a restore.
//! Never decides: `steps` does.

use super::error::RestoreError;
use super::settings::Others;
use super::steps::{Contradiction, Observed, Side, Step, next};
use super::verify::VerifiedDb;
use crate::model::DbPath;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// More steps than any way through the table has.
const MOST_STEPS: usize = 32;

/// Puts the verified database in place of what is there.
pub fn install(verified: VerifiedDb, others: Others) -> Result<(), RestoreError> {
    run(verified.db(), true, others).map(|_| ())
}

/// Finishes or rolls back an installation that was cut off, by a kill or by dropping the future: afterwards the file at
/// the database's path is the complete new one or the one that was there before. Drops side files without a database.
/// To be called before anything else is done with a database, and after a restore was given up.
pub fn recover(db: &DbPath, others: Others) -> Result<(), RestoreError> {
    let steps = run(db, false, others)?;
    if steps > 0 {
        tracing::info!(%db, steps, "put leftovers of an interrupted restore right");
    }
    Ok(())
}

/// Nothing may be done to files that others may have open.
pub fn refuse_any_file(db: &DbPath) -> Result<(), RestoreError> {
    if exists(db.as_path())? { Err(in_use(db)) } else { Ok(()) }
}

fn run(db: &DbPath, have_verified: bool, others: Others) -> Result<usize, RestoreError> {
    for steps in 0..MOST_STEPS {
        match next(observe(db)?, have_verified) {
            Step::Done => return Ok(steps),
            Step::Refuse(why) => return Err(contradiction(db, why)),
            step => {
                if others != Others::None && !step.spares_the_database() && exists(db.as_path())? {
                    // An empty file whose first transaction is under way: it has a journal that is not ours to drop.
                    let begun = !have_verified && matches!(step, Step::DropSide(_));
                    return if begun { Ok(steps) } else { Err(in_use(db)) };
                }
                act(db, step, others)?;
                sync_directory(db.directory())?;
            }
        }
    }
    Err(RestoreError::InTheWay {
        path: db.as_path().to_owned(),
        problem: "files beside it change while it is installed",
    })
}

/// What is there now.
pub fn observe(db: &DbPath) -> Result<Observed, RestoreError> {
    let sides = |db: &DbPath| -> Result<[bool; 3], RestoreError> {
        let [wal, shm, journal] = db.sides();
        Ok([exists(&wal)?, exists(&shm)?, exists(&journal)?])
    };
    let aside = db.aside();
    Ok(Observed {
        live: has_content(db)?,
        sides: sides(db)?,
        aside: exists(aside.as_path())?,
        aside_sides: sides(&aside)?,
        staged: exists(&db.staged())?,
    })
}

fn act(db: &DbPath, step: Step, others: Others) -> Result<(), RestoreError> {
    let (live, aside, staged) = (db.as_path().to_owned(), db.aside().as_path().to_owned(), db.staged());
    match step {
        Step::Done | Step::Refuse(_) => Ok(()),
        Step::SetSideAside(side) => rename(&nth(db, side), &nth(&db.aside(), side)),
        Step::ReturnSide(side) => rename(&nth(&db.aside(), side), &nth(db, side)),
        Step::SetDatabaseAside => rename(&live, &aside),
        Step::ReturnDatabase => rename(&aside, &live),
        Step::Promote if others != Others::None => drop_sides_of(&staged).and_then(|()| appear(db, &staged)),
        Step::Promote => drop_sides_of(&staged).and_then(|()| rename(&staged, &live)),
        Step::DropStaged => drop_sides_of(&staged).and_then(|()| unlink(&staged)),
        Step::DropSide(side) => unlink(&nth(db, side)),
        Step::DropAsideSide(side) => unlink(&nth(&db.aside(), side)),
        Step::DropAside => unlink(&aside),
    }
}

/// What a check of the staged file by SQLite may have left, if it was killed.
fn drop_sides_of(staged: &Path) -> Result<(), RestoreError> {
    DbPath::new(staged).sides().iter().try_for_each(|side| unlink(side))
}

fn nth(db: &DbPath, side: Side) -> PathBuf {
    db.sides().into_iter().nth(side.0).unwrap_or_default()
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    fs::rename(from, to).map_err(RestoreError::io("rename", from))
}

/// A rename that replaces nothing, should an app make its database in this moment. Cut off in the middle, the staged name
/// is left, which the next look drops.
fn appear(db: &DbPath, staged: &Path) -> Result<(), RestoreError> {
    match fs::hard_link(staged, db.as_path()) {
        Ok(()) => unlink(staged),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(in_use(db)),
        // No links on this file system.
        Err(_) => refuse_any_file(db).and_then(|()| rename(staged, db.as_path())),
    }
}

fn in_use(db: &DbPath) -> RestoreError {
    let problem = "is there already, and an app may have it open, so that it cannot be restored: start litevisor before \
                   the app, or stop the app and remove the file";
    RestoreError::InTheWay { path: db.as_path().to_owned(), problem }
}

fn unlink(path: &Path) -> Result<(), RestoreError> {
    absent_ok(fs::remove_file(path)).map(|_| ()).map_err(RestoreError::io("remove", path))
}

#[expect(clippy::disallowed_methods, reason = "a directory, no database")]
fn sync_directory(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(RestoreError::io("sync", path))
}

/// Whether there is anything of that name, be it a link that leads nowhere.
fn exists(path: &Path) -> Result<bool, RestoreError> {
    Ok(absent_ok(fs::symlink_metadata(path)).map_err(RestoreError::io("look at", path))?.is_some())
}

/// Whether there is a database: a file of at least one byte.
fn has_content(db: &DbPath) -> Result<bool, RestoreError> {
    let path = db.as_path();
    let in_the_way = |problem| Err(RestoreError::InTheWay { path: path.to_owned(), problem });
    match absent_ok(fs::symlink_metadata(path)).map_err(RestoreError::io("look at", path))? {
        None => Ok(false),
        Some(link) if link.is_symlink() => in_the_way("is a symbolic link; configure the path that it leads to"),
        Some(other) if !other.is_file() => in_the_way("is no regular file"),
        Some(file) => Ok(file.len() > 0),
    }
}

fn absent_ok<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn contradiction(db: &DbPath, why: Contradiction) -> RestoreError {
    let (path, problem) = match why {
        Contradiction::ThreeDatabases => (
            db.aside().as_path().to_owned(),
            "is the database from before a restore that was cut off, and a new one has appeared since; keep the right \
             one under the database's name and remove the other, and the staged file",
        ),
        Contradiction::SideTwice(side) => (
            nth(&db.aside(), side),
            "was set aside by a restore that was cut off, and a new one has appeared beside the database since; remove \
             the wrong one",
        ),
        Contradiction::StraySide(side) => (
            nth(&db.aside(), side),
            "was set aside by a restore that was cut off, and the rest is gone; remove it, or rename it back if it \
             belongs to the database",
        ),
        Contradiction::StagedGone => (db.staged(), "was removed while it was being installed"),
    };
    RestoreError::InTheWay { path, problem }
}

#[cfg(test)]
mod tests;
