//! The install rule: pure. From the files that are there to the next single step. Each step is one rename or
//! unlink, made durable before the next observation, so a kill between any two steps leaves a state that this
//! table knows.
//!
//! The database file moves last when it is set aside and last when it returns. So "a set-aside database
//! exists" marks an open installation, and no journal is needed. A stale side file never stands beside the
//! new database: SQLite would replay it silently.

/// `-wal`, `-shm`, `-journal`, in the order of `SIDE_SUFFIXES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side(pub usize);

/// Which of the files exist. A database file of 0 bytes counts as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub live: bool,
    pub sides: [bool; 3],
    pub aside: bool,
    pub aside_sides: [bool; 3],
    pub staged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Done,
    SetSideAside(Side),
    SetDatabaseAside,
    /// Staged becomes live: the one moment in which the new database appears.
    Promote,
    ReturnSide(Side),
    ReturnDatabase,
    DropStaged,
    DropSide(Side),
    DropAsideSide(Side),
    DropAside,
    /// The files contradict each other: another program moved them.
    Refuse(Contradiction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// A live, a set-aside and a staged database at once.
    ThreeDatabases,
    /// A side file to be moved stands there already.
    SideTwice(Side),
    /// A set-aside side file without its database, beside a live one that it may or may not belong to.
    StraySide(Side),
    /// A verified database was to be installed, and its file is gone.
    StagedGone,
}

impl Step {
    /// It touches only what a restore of ours has left, and nothing that an app uses.
    pub fn spares_the_database(self) -> bool {
        match self {
            Step::Done | Step::DropStaged | Step::DropAsideSide(_) | Step::DropAside | Step::Refuse(_) => {
                true
            }
            Step::SetSideAside(_)
            | Step::SetDatabaseAside
            | Step::Promote
            | Step::ReturnSide(_)
            | Step::ReturnDatabase
            | Step::DropSide(_) => false,
        }
    }
}

impl Observed {
    fn side(&self) -> Option<Side> {
        first(&self.sides)
    }

    fn aside_side(&self) -> Option<Side> {
        first(&self.aside_sides)
    }

    /// A side file that exists live and set aside: moving either way would overwrite one.
    fn side_twice(&self) -> Option<Side> {
        let both = |(live, aside): (&bool, &bool)| *live && *aside;
        self.sides.iter().zip(&self.aside_sides).position(both).map(Side)
    }
}

fn first(files: &[bool; 3]) -> Option<Side> {
    files.iter().position(|exists| *exists).map(Side)
}

/// With a verified database in hand the way is forward, else back (or forward, where the new one is live
/// already).
pub fn next(observed: Observed, have_verified: bool) -> Step {
    match (observed.live, observed.aside, observed.staged) {
        (true, true, true) => Step::Refuse(Contradiction::ThreeDatabases),
        (true, true, false) => drop_aside(observed),
        (false, true, true) if have_verified && observed.side().is_none() => Step::Promote,
        (false, true, _) => return_database(observed),
        (true, false, true) if have_verified => set_aside(observed),
        (true, false, true) => return_sides_or(observed, Step::DropStaged),
        (false, false, true) if have_verified => drop_orphans_or(observed, Step::Promote),
        (false, false, true) => Step::DropStaged,
        (true, false, false) => match observed.aside_side() {
            Some(side) => Step::Refuse(Contradiction::StraySide(side)),
            None => Step::Done,
        },
        (false, false, false) if have_verified => Step::Refuse(Contradiction::StagedGone),
        (false, false, false) => drop_orphans_or(observed, Step::Done),
    }
}

/// The new database is live: what was before may go. Side files first, so that the mark goes last.
fn drop_aside(observed: Observed) -> Step {
    observed.aside_side().map_or(Step::DropAside, Step::DropAsideSide)
}

/// Forward, with the old database in place: side files first, so that a return finds their database still
/// there.
fn set_aside(observed: Observed) -> Step {
    match (observed.side_twice(), observed.side()) {
        (Some(side), _) => Step::Refuse(Contradiction::SideTwice(side)),
        (None, Some(side)) => Step::SetSideAside(side),
        (None, None) => Step::SetDatabaseAside,
    }
}

/// Back, with the old database in place: only its side files have left.
fn return_sides_or(observed: Observed, then: Step) -> Step {
    match (observed.side_twice(), observed.aside_side()) {
        (Some(side), _) => Step::Refuse(Contradiction::SideTwice(side)),
        (None, Some(side)) => Step::ReturnSide(side),
        (None, None) => then,
    }
}

/// Back, with the old database set aside: it comes last.
fn return_database(observed: Observed) -> Step {
    return_sides_or(observed, Step::ReturnDatabase)
}

/// Side files without any database belong to nothing.
fn drop_orphans_or(observed: Observed, then: Step) -> Step {
    match (observed.side(), observed.aside_side()) {
        (Some(side), _) => Step::DropSide(side),
        (None, Some(side)) => Step::DropAsideSide(side),
        (None, None) => then,
    }
}

#[cfg(test)]
mod tests;
