//! Performs the install rule (`steps`): observe, do one step, make it durable, observe again. Every rename
//! and unlink of a restore is in this file.

use super::error::RestoreError;
use super::keeper::{Keeper, Previous, name, nth};
use super::steps::{Contradiction, Observed, Step, next};
use super::verify::VerifiedDb;
use crate::lineage::FileAccess;
use crate::model::DbPath;
use crate::rights::{self, Dir, FileInfo, Kind};
use crate::sqlite::files;
use crate::sqlite::users::users;
use std::io::{self, ErrorKind};
use std::path::Path;

/// More steps than the longest path through the table.
const MOST_STEPS: usize = 32;
/// Names for what is in the way.
const MOST_MOVED: u32 = 1000;

/// Puts the verified database in place of what is there.
pub fn install(verified: VerifiedDb, access: FileAccess, previous: Previous) -> Result<(), RestoreError> {
    run(verified.db(), true, access, previous).map(|_| ())
}

/// Finishes or rolls back an installation that was cut off, by a kill or by dropping the future: afterwards
/// the file at the database's path is the complete new one or the one that was there before. Drops side files
/// without a database. To be called before anything else is done with a database, and after a restore was
/// given up.
pub fn recover(db: &DbPath, access: FileAccess) -> Result<(), RestoreError> {
    let steps = run(db, false, access, Previous::Keep)?;
    if steps > 0 {
        tracing::info!(%db, steps, "finished or rolled back an interrupted restore");
    }
    Ok(())
}

/// Takes away a database that must not be used, where there was none before it: its side files first, so that
/// SQLite never finds them without it. It is kept like one that a restore replaces.
pub fn discard(db: &DbPath) -> Result<(), RestoreError> {
    refuse_open_file(db)?;
    rights::within(db, || {
        let Some(dir) = open(db)? else { return Ok(()) };
        let mut keeper = Keeper::new(Previous::Keep);
        let sides = db.sides();
        for path in sides.iter().map(|side| &**side).chain([db.as_path()]) {
            if exists(Some(&dir), path)? && !keeper.keep_file(db, &dir, path)? {
                unlink(&dir, path)?;
            }
        }
        dir.sync().map_err(RestoreError::io("sync", db.directory()))
    })
}

/// Files that another process may have open are not touched.
pub fn refuse_any_file(db: &DbPath) -> Result<(), RestoreError> {
    let there = rights::within(db, || exists(open(db)?.as_ref(), db.as_path()))?;
    if there { Err(in_use(db)) } else { Ok(()) }
}

/// A process with an open connection would continue in the file that is moved away, and its commits would be
/// lost.
pub fn refuse_open_file(db: &DbPath) -> Result<(), RestoreError> {
    if !files::locked_by_others(db.as_path()) {
        return Ok(());
    }
    let users = users(db.as_path()).map(|users| users.to_string()).unwrap_or_default();
    Err(RestoreError::InUse { path: db.as_path().to_owned(), users })
}

fn run(
    db: &DbPath,
    have_verified: bool,
    access: FileAccess,
    previous: Previous,
) -> Result<usize, RestoreError> {
    rights::within(db, || {
        let mut keeper = Keeper::new(previous);
        let Some(dir) = open(db)? else { return steps(db, None, have_verified, access, &mut keeper) };
        clear(db, &dir)?;
        steps(db, Some(&dir), have_verified, access, &mut keeper)
    })
}

/// The directory; None: it is not there.
fn open(db: &DbPath) -> Result<Option<Dir>, RestoreError> {
    absent_ok(Dir::open(db.directory())).map_err(RestoreError::io("open", db.directory()))
}

fn steps(
    db: &DbPath,
    dir: Option<&Dir>,
    have_verified: bool,
    access: FileAccess,
    keeper: &mut Keeper,
) -> Result<usize, RestoreError> {
    for steps in 0..MOST_STEPS {
        let observed = observe_in(db, dir)?;
        match next(observed, have_verified) {
            Step::Done => return Ok(steps),
            Step::Refuse(why) => return Err(contradiction(db, why)),
            step => {
                let Some(dir) = dir else { return Ok(steps) };
                if access != FileAccess::Exclusive
                    && !step.spares_the_database()
                    && exists(Some(dir), db.as_path())?
                {
                    // An empty file whose first transaction is under way: it has a journal that is not ours
                    // to drop.
                    let begun = !have_verified && matches!(step, Step::DropSide(_));
                    return if begun { Ok(steps) } else { Err(in_use(db)) };
                }
                perform(db, dir, observed, step, access, keeper)?;
                dir.sync().map_err(RestoreError::io("sync", db.directory()))?;
            }
        }
    }
    Err(RestoreError::InTheWay {
        path: db.as_path().to_owned(),
        problem: "files beside it change while it is installed",
    })
}

fn perform(
    db: &DbPath,
    dir: &Dir,
    observed: Observed,
    step: Step,
    access: FileAccess,
    keeper: &mut Keeper,
) -> Result<(), RestoreError> {
    // Side files without a set-aside database are worth nothing.
    if observed.aside && keeper.keep_in_step(db, dir, step)? { Ok(()) } else { act(db, dir, step, access) }
}

/// The files that are there now.
pub fn observe(db: &DbPath) -> Result<Observed, RestoreError> {
    rights::within(db, || observe_in(db, open(db)?.as_ref()))
}

fn observe_in(db: &DbPath, dir: Option<&Dir>) -> Result<Observed, RestoreError> {
    let sides = |db: &DbPath| -> Result<[bool; 3], RestoreError> {
        let [wal, shm, journal] = db.sides();
        Ok([exists(dir, &wal)?, exists(dir, &shm)?, exists(dir, &journal)?])
    };
    let aside = db.aside();
    Ok(Observed {
        live: has_content(db, dir)?,
        sides: sides(db)?,
        aside: exists(dir, aside.as_path())?,
        aside_sides: sides(&aside)?,
        staged: exists(dir, &db.staged())?,
    })
}

/// Names that only litevisor's restore uses must be regular files. Anything else under these names is moved
/// away: it would block every later start.
fn clear(db: &DbPath, dir: &Dir) -> Result<(), RestoreError> {
    let aside = db.aside();
    let ours = [db.staged(), aside.as_path().to_owned()].into_iter().chain(aside.sides());
    for path in ours.chain(DbPath::new(db.staged()).sides()) {
        let seen = dir.stat(name(&path)).map_err(RestoreError::io("look at", &path))?;
        if seen.is_some_and(|seen| seen.kind != Kind::File) {
            move_away(dir, &path).map_err(RestoreError::io("move away", &path))?;
        }
    }
    Ok(())
}

fn move_away(dir: &Dir, path: &Path) -> io::Result<()> {
    for number in 1..=MOST_MOVED {
        let mut to = name(path).to_owned();
        to.push(format!(".in-the-way-{number}"));
        if dir.stat(&to)?.is_none() {
            dir.rename(name(path), &to)?;
            let shown = path.with_file_name(&to);
            tracing::warn!("{} is not a regular file: moved to {}", path.display(), shown.display());
            return Ok(());
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn act(db: &DbPath, dir: &Dir, step: Step, access: FileAccess) -> Result<(), RestoreError> {
    let live = db.as_path().to_owned();
    let aside = db.aside().as_path().to_owned();
    let staged = db.staged();
    let rename = |from: &Path, to: &Path| rename(dir, from, to);
    let unlink = |path: &Path| unlink(dir, path);
    match step {
        Step::Done | Step::Refuse(_) => Ok(()),
        Step::SetSideAside(side) => rename(&nth(db, side), &nth(&db.aside(), side)),
        Step::ReturnSide(side) => rename(&nth(&db.aside(), side), &nth(db, side)),
        Step::SetDatabaseAside => rename(&live, &aside),
        Step::ReturnDatabase => rename(&aside, &live),
        Step::Promote if access != FileAccess::Exclusive => {
            drop_sides_of(dir, &staged).and_then(|()| appear(db, dir, &staged))
        }
        Step::Promote => drop_sides_of(dir, &staged).and_then(|()| rename(&staged, &live)),
        Step::DropStaged => drop_sides_of(dir, &staged).and_then(|()| unlink(&staged)),
        Step::DropSide(side) => unlink(&nth(db, side)),
        Step::DropAsideSide(side) => unlink(&nth(&db.aside(), side)),
        Step::DropAside => unlink(&aside),
    }
}

/// What a check of the staged file by SQLite may have left, if it was killed.
fn drop_sides_of(dir: &Dir, staged: &Path) -> Result<(), RestoreError> {
    DbPath::new(staged).sides().iter().try_for_each(|side| unlink(dir, side))
}

fn rename(dir: &Dir, from: &Path, to: &Path) -> Result<(), RestoreError> {
    dir.rename(name(from), name(to)).map_err(RestoreError::io("rename", from))
}

/// A rename that replaces nothing, should an app make its database in this moment. Cut off in the middle, the
/// staged name is left, which the next look drops.
fn appear(db: &DbPath, dir: &Dir, staged: &Path) -> Result<(), RestoreError> {
    match dir.link(name(staged), name(db.as_path())) {
        Ok(()) => unlink(dir, staged),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(in_use(db)),
        // No links on this file system.
        Err(_) if exists(Some(dir), db.as_path())? => Err(in_use(db)),
        Err(_) => rename(dir, staged, db.as_path()),
    }
}

fn in_use(db: &DbPath) -> RestoreError {
    let problem = "is there already, and an app may have it open, so that it cannot be restored: start \
        litevisor before the app, or stop the app and remove the file";
    RestoreError::InTheWay { path: db.as_path().to_owned(), problem }
}

/// A directory of that name is not a database: it is kept, elsewhere.
fn unlink(dir: &Dir, path: &Path) -> Result<(), RestoreError> {
    let removed = match dir.remove(name(path)) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => move_away(dir, path),
        removed => removed,
    };
    absent_ok(removed).map(|_| ()).map_err(RestoreError::io("remove", path))
}

/// Whether there is anything of that name, be it a link that leads nowhere.
fn exists(dir: Option<&Dir>, path: &Path) -> Result<bool, RestoreError> {
    let seen = dir.map_or(Ok(None), |dir| dir.stat(name(path)));
    Ok(seen.map_err(RestoreError::io("look at", path))?.is_some())
}

/// Whether there is a database: a file of at least one byte.
fn has_content(db: &DbPath, dir: Option<&Dir>) -> Result<bool, RestoreError> {
    let path = db.as_path();
    let in_the_way = |problem| Err(RestoreError::InTheWay { path: path.to_owned(), problem });
    let seen = dir.map_or(Ok(None), |dir| dir.stat(name(path)));
    match seen.map_err(RestoreError::io("look at", path))? {
        None => Ok(false),
        Some(FileInfo { kind: Kind::Link, .. }) => {
            in_the_way("is a symbolic link; configure the path that it leads to")
        }
        Some(FileInfo { kind: Kind::File, bytes, .. }) => Ok(bytes > 0),
        Some(_) => in_the_way("is no regular file"),
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
            "is the database from before a restore that was cut off, and a new one has appeared since; keep \
             the right one under the database's name and remove the other, and the staged file",
        ),
        Contradiction::SideTwice(side) => (
            nth(&db.aside(), side),
            "was set aside by a restore that was cut off, and a new one has appeared beside the database \
             since; remove the wrong one",
        ),
        Contradiction::StraySide(side) => (
            nth(&db.aside(), side),
            "was set aside by a restore that was cut off, and the rest is gone; remove it, or rename it back \
             if it belongs to the database",
        ),
        Contradiction::StagedGone => (db.staged(), "was removed while it was being installed"),
    };
    RestoreError::InTheWay { path, problem }
}

#[cfg(test)]
mod tests;
