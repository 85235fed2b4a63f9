//! What `litevisor restore` has to do, and what its endings mean for the exit code. Pure but for one `stat`.

use crate::config::{Checked, Config, DatabaseSettings, DirectorySettings, nearest};
use crate::exit;
use crate::model::Txid;
use crate::store::StoreSettings;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A configured database's path or a replica's URL; None: every configured database.
    pub subject: Option<OsString>,
    pub out: Option<PathBuf>,
    pub txid: Option<Txid>,
    pub if_replica_exists: bool,
    pub force: bool,
}

/// One database to bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Where it is configured to be, with the owner and the mode that it is to have. `user` is the app's.
    /// `found`: by a name in the bucket alone, which may belong to something else.
    InPlace { database: Box<DatabaseSettings>, user: Option<String>, txid: Option<Txid>, force: bool, found: bool },
    /// To a file of its own.
    To { out: PathBuf, replica: Box<StoreSettings>, txid: Option<Txid>, force: bool },
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

    pub fn found(&self) -> bool {
        matches!(self, Job::InPlace { found: true, .. })
    }

    fn force(&self) -> bool {
        match self {
            Job::InPlace { force, .. } | Job::To { force, .. } => *force,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The replica holds nothing.
    Empty,
    /// The replica is damaged, or does not reach the wanted state.
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
    let is_directory = |subject: &str| args.out.is_some() && Path::new(subject).is_dir();
    let subject = args.subject.as_deref().and_then(OsStr::to_str);
    subject.filter(|subject| subject.contains("://") || is_directory(subject))
}

/// None: no output, which the command line refuses.
pub fn from_replica(args: &Wanted, replica: StoreSettings) -> Option<Job> {
    let out = args.out.clone()?;
    Some(Job::To { out, replica: Box::new(replica), txid: args.txid, force: args.force })
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
        Some(subject) => vec![(named(subject, config, working_dir)?, false)],
    };
    if let (Some(_), [_, _, ..]) = (&args.out, wanted.as_slice()) {
        return Err(format!("-o needs one database: {} are configured; name one", wanted.len()));
    }
    let job = |(database, found): (DatabaseSettings, bool)| match &args.out {
        Some(out) => {
            Job::To { out: out.clone(), replica: Box::new(database.replica), txid: args.txid, force: args.force }
        }
        None => {
            let (database, user) = (Box::new(database), app_user.clone());
            Job::InPlace { database, user, txid: args.txid, force: args.force, found }
        }
    };
    Ok(wanted.into_iter().map(job).collect())
}

fn named(subject: &OsStr, config: &Config, working_dir: &Path) -> Result<DatabaseSettings, String> {
    let path: PathBuf = working_dir.join(subject).components().collect();
    if let Some(database) = config.databases.iter().find(|database| database.path.as_path() == path) {
        return Ok(database.clone());
    }
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let inside = |entry: &&DirectorySettings| path.parent() == Some(&*entry.dir) && entry.takes(name);
    if let Some(entry) = config.directories.iter().find(inside) {
        return Ok(entry.database(name));
    }
    let mut known: Vec<String> = config.databases.iter().map(|database| database.path.to_string()).collect();
    known.extend(config.directories.iter().map(|entry| format!("{}/{}", entry.dir.display(), entry.pattern.text())));
    let hint = nearest::hint(&path.to_string_lossy(), known.iter().map(String::as_str));
    Err(format!("{} is no configured database{hint} (configured: {})", path.display(), known.join(", ")))
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

/// The exit code of all together: the gravest.
pub fn code(failures: impl Iterator<Item = FailureKind>, empty_is_fine: bool) -> u8 {
    let gravity = |kind: &FailureKind| match kind {
        FailureKind::Internal => 0,
        FailureKind::Damaged => 1,
        FailureKind::Empty => 2,
        FailureKind::Local => 3,
        FailureKind::Unavailable => 4,
    };
    let counted = failures.filter(|kind| !(empty_is_fine && *kind == FailureKind::Empty));
    match counted.min_by_key(gravity) {
        None => 0,
        Some(FailureKind::Internal) => exit::INTERNAL,
        Some(FailureKind::Damaged | FailureKind::Empty) => exit::DAMAGED,
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
            txid: None,
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
        use FailureKind::{Damaged, Empty, Internal, Local, Unavailable};
        for (kinds, empty_is_fine, expected) in [
            (vec![], false, 0),
            (vec![Empty], false, 65),
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
