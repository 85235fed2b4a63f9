//! What `litevisor restore` has to do, and what its endings mean for the exit code. Pure but for one `stat`.

use crate::commands::places;
use crate::config::{Checked, DatabaseSettings};
use crate::exit;
use crate::replica::Target;
use crate::restore::{RestoreError, RestoreErrorKind};
use crate::store::{StoreError, StoreErrorKind, StoreSettings};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A configured database's path or a replica's URL; None: every configured database.
    pub subject: Option<OsString>,
    pub out: Option<PathBuf>,
    pub target: Target,
    pub if_replica_exists: bool,
    pub force: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// One database to bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Where it is configured to be, with the owner and the mode that it is to have. `user` is the app's.
    /// `found`: by a name in the bucket alone, which may belong to something else.
    InPlace { database: Box<DatabaseSettings>, user: Option<String>, target: Target, force: bool, found: bool },
    /// To a file of its own.
    To { out: PathBuf, replica: Box<StoreSettings>, target: Target, force: bool },
}

impl Job {
    pub fn out(&self) -> &Path {
        match self {
            Job::InPlace { database, .. } => database.path.as_path(),
            Job::To { out, .. } => out,
        }
    }

    pub fn replica(&self) -> &StoreSettings {
        match self {
            Job::InPlace { database, .. } => &database.replica,
            Job::To { replica, .. } => replica,
        }
    }

    pub fn target(&self) -> Target {
        match self {
            Job::InPlace { target, .. } | Job::To { target, .. } => *target,
        }
    }

    pub fn found(&self) -> bool {
        matches!(self, Job::InPlace { found: true, .. })
    }

    pub fn force(&self) -> bool {
        match self {
            Job::InPlace { force, .. } | Job::To { force, .. } => *force,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The replica holds nothing.
    Empty,
    /// The replica does not hold the wanted state.
    NoSuchState,
    /// The replica is damaged.
    Damaged,
    Unavailable,
    /// Something on this machine is in the way.
    Local,
    /// Our own fault.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub told: String,
}

/// The replica's URL when one was given in the database's place. With an output a directory is one too: no database is.
pub fn replica_url(args: &Wanted) -> Option<&str> {
    args.subject.as_deref().and_then(|subject| places::replica_url(subject, args.out.is_some()))
}

/// None: no output, which the command line refuses.
pub fn from_replica(args: &Wanted, replica: StoreSettings) -> Option<Job> {
    let out = args.out.clone()?;
    Some(Job::To { out, replica: Box::new(replica), target: args.target, force: args.force })
}

/// The configured databases that are meant; `found` are those of the directories, asked for when no database is named. The
/// error is bad usage.
pub fn from_config(
    args: &Wanted,
    checked: &Checked,
    found: Vec<DatabaseSettings>,
    working_dir: &Path,
) -> Result<Vec<Job>, String> {
    let Checked { config, app_user, .. } = checked;
    let wanted: Vec<(DatabaseSettings, bool)> = match &args.subject {
        None => {
            let configured = config.databases.iter().cloned().map(|database| (database, false));
            configured.chain(found.into_iter().map(|database| (database, true))).collect()
        }
        Some(subject) => vec![(places::named(subject, config, working_dir)?, false)],
    };
    if let (Some(_), [_, _, ..]) = (&args.out, wanted.as_slice()) {
        return Err(format!("-o needs one database: {} are configured; name one", wanted.len()));
    }
    let job = |(database, found): (DatabaseSettings, bool)| match &args.out {
        // The database's own place by another way of saying it is that place.
        Some(out) if working_dir.join(out) != database.path.as_path() => {
            Job::To { out: out.clone(), replica: Box::new(database.replica), target: args.target, force: args.force }
        }
        _ => {
            let (database, user) = (Box::new(database), app_user.clone());
            Job::InPlace { database, user, target: args.target, force: args.force, found }
        }
    };
    Ok(wanted.into_iter().map(job).collect())
}

/// A database that is there is somebody's data, perhaps in use: only `--force` replaces it.
pub fn refuse_existing(job: &Job) -> Result<(), Failure> {
    let local = |told| Failure { kind: FailureKind::Local, told };
    let out = job.out();
    match std::fs::metadata(out) {
        Ok(found) if found.is_dir() => Err(local(format!("cannot restore to {}: it is a directory", out.display()))),
        Ok(found) if found.len() > 0 && !job.force() => {
            Err(local(format!("{} is there already: --force replaces it", out.display())))
        }
        // 0 bytes count as absent. What cannot be looked at is told by the restore itself.
        _ => Ok(()),
    }
}

impl From<&RestoreError> for FailureKind {
    fn from(error: &RestoreError) -> Self {
        match error.kind() {
            RestoreErrorKind::Damaged => FailureKind::Damaged,
            RestoreErrorKind::Unavailable => FailureKind::Unavailable,
            RestoreErrorKind::Local => FailureKind::Local,
            RestoreErrorKind::NothingThere if matches!(error, RestoreError::NothingThere { .. }) => FailureKind::Empty,
            RestoreErrorKind::NothingThere => FailureKind::NoSuchState,
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        Failure { kind: FailureKind::from(&error), told: error.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let local = error.kind == StoreErrorKind::Invalid;
        let kind = if local { FailureKind::Local } else { FailureKind::Unavailable };
        Failure { kind, told: error.to_string() }
    }
}

/// The exit code of all together: the gravest.
pub fn code(failures: impl Iterator<Item = FailureKind>, empty_is_fine: bool) -> u8 {
    let gravity = |kind: &FailureKind| match kind {
        FailureKind::Internal => 0,
        FailureKind::Damaged => 1,
        FailureKind::Local => 2,
        FailureKind::Unavailable => 3,
        FailureKind::NoSuchState => 4,
        FailureKind::Empty => 5,
    };
    let counted = failures.filter(|kind| !(empty_is_fine && *kind == FailureKind::Empty));
    match counted.min_by_key(gravity) {
        None => 0,
        Some(FailureKind::Internal) => exit::INTERNAL,
        Some(FailureKind::Damaged) => exit::DAMAGED,
        Some(FailureKind::Empty | FailureKind::NoSuchState) => exit::NOTHING,
        Some(FailureKind::Local) => exit::CONFIG,
        Some(FailureKind::Unavailable) => exit::UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Additions, Outside, Purpose, parse};

    fn config(paths: &[&str]) -> Checked {
        let mut text = String::from("[app]\nuser = \"app\"\n");
        for (index, path) in paths.iter().enumerate() {
            text += &format!("[[database]]\npath = \"{path}\"\n[database.replica]\nurl = \"/r/{index}\"\n");
        }
        let read = |_: &Path| Ok(Vec::new());
        let outside = Outside { env: &|_| None, read: &read, working_dir: Path::new("/srv") };
        parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, outside).unwrap()
    }

    fn args(subject: Option<&str>, out: Option<&str>) -> Wanted {
        Wanted { subject: subject.map(Into::into), out: out.map(Into::into), ..Wanted::default() }
    }

    #[test]
    fn which_databases_and_where() {
        let two = config(&["/d/a.db", "b.db"]);
        for (subject, out, expected) in [
            (None, None, Ok(vec!["/d/a.db", "/srv/b.db"])),
            (Some("/d/a.db"), None, Ok(vec!["/d/a.db"])),
            (Some("b.db"), None, Ok(vec!["/srv/b.db"])),
            (Some("./b.db"), Some("x"), Ok(vec!["x"])),
            (Some("b.db"), Some("b.db"), Ok(vec!["/srv/b.db"])),
            (None, Some("x"), Err("-o needs one database: 2 are configured")),
            (Some("/d/aa.db"), None, Err("no configured database, did you mean \"/d/a.db\"?")),
        ] {
            let found = from_config(&args(subject, out), &two, Vec::new(), Path::new("/srv"));
            match (found, expected) {
                (Ok(jobs), Ok(paths)) => {
                    let outs: Vec<_> = jobs.iter().map(|job| job.out().to_str().unwrap()).collect();
                    assert_eq!(outs, paths);
                }
                (Err(told), Err(part)) => assert!(told.contains(part), "{told}"),
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
        let one = from_config(&args(None, Some("x")), &config(&["/d/a.db"]), Vec::new(), Path::new("/srv")).unwrap();
        assert!(matches!(one.as_slice(), [Job::To { .. }]));
        let in_place = from_config(&args(None, None), &config(&["/d/a.db"]), Vec::new(), Path::new("/srv")).unwrap();
        assert!(matches!(in_place.as_slice(), [Job::InPlace { user: Some(user), .. }] if user == "app"));
    }

    #[test]
    fn what_is_there_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let job = |name: &str, force| Job::To {
            out: dir.path().join(name),
            replica: Box::new(config(&["/a"]).config.databases.remove(0).replica),
            target: Target::Latest,
            force,
        };
        std::fs::write(dir.path().join("full"), "data").unwrap();
        std::fs::write(dir.path().join("empty"), "").unwrap();
        for (name, force, fine) in [
            ("full", false, false),
            ("full", true, true),
            ("empty", false, true),
            ("absent", false, true),
            (".", true, false),
        ] {
            assert_eq!(refuse_existing(&job(name, force)).is_ok(), fine, "{name} {force}");
        }
    }

    #[test]
    fn exit_codes() {
        use FailureKind::{Damaged, Empty, Internal, Local, NoSuchState, Unavailable};
        for (kinds, empty_is_fine, expected) in [
            (vec![], false, 0),
            (vec![Empty], false, 66),
            (vec![NoSuchState], true, 66),
            (vec![Empty, Damaged], false, 65),
            (vec![Empty], true, 0),
            (vec![Empty, Unavailable], true, 69),
            (vec![Damaged], true, 65),
            (vec![Unavailable], false, 69),
            (vec![Local], false, 78),
            (vec![Unavailable, Damaged, Local], false, 65),
            (vec![Unavailable, Local], false, 78),
            (vec![Internal, Damaged], false, 70),
        ] {
            assert_eq!(code(kinds.iter().copied(), empty_is_fine), expected, "{kinds:?} {empty_is_fine}");
        }
    }
}
