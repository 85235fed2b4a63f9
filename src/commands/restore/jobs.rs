//! What `litevisor restore` has to do. Pure except for one `stat`.

use crate::commands::document::Place;
use crate::commands::error::{CommandError, ErrorKind};
use crate::commands::replicas;
use crate::config::{Checked, DatabaseSettings};
use crate::replica::Target;
use crate::store::StoreSettings;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// A configured database's path or a replica's URL; None: every configured database.
    pub subject: Option<OsString>,
    pub out: Option<PathBuf>,
    pub target: Target,
    pub if_replica_exists: bool,
    pub force: bool,
    /// Print what would be done, and change nothing.
    pub dry_run: bool,
    /// Print one JSON document on stdout, and log JSON.
    pub json: bool,
}

/// One database to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// To its configured path, with the configured owner and mode. `user` is the app's.
    /// `found`: known only by a name in the bucket, which may not be a database's.
    InPlace {
        database: Box<DatabaseSettings>,
        user: Option<String>,
        target: Target,
        force: bool,
        found: bool,
    },
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

    pub fn place(&self) -> Place<'_> {
        Place { database: Some(self.out()), replica: Some(&self.replica().url) }
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

/// The replica's URL when the argument for the database is one. With an output a directory is one too: no
/// database is.
pub fn replica_url(args: &RestoreOptions) -> Option<&str> {
    args.subject.as_deref().and_then(|subject| replicas::replica_url(subject, args.out.is_some()))
}

/// None: no output, which the command line refuses.
pub fn from_replica(args: &RestoreOptions, replica: StoreSettings) -> Option<Job> {
    let out = args.out.clone()?;
    Some(Job::To { out, replica: Box::new(replica), target: args.target, force: args.force })
}

/// The configured databases that are meant; `found` are those of the directories, listed when no database is
/// named.
pub fn from_config(
    args: &RestoreOptions,
    checked: &Checked,
    found: Vec<DatabaseSettings>,
    working_dir: &Path,
) -> Result<Vec<Job>, CommandError> {
    let Checked { config, app_user, .. } = checked;
    let wanted: Vec<(DatabaseSettings, bool)> = match &args.subject {
        None => {
            let configured = config.databases.iter().cloned().map(|database| (database, false));
            configured.chain(found.into_iter().map(|database| (database, true))).collect()
        }
        Some(subject) => vec![(replicas::named(subject, config, working_dir)?, false)],
    };
    if let (Some(_), [_, _, ..]) = (&args.out, wanted.as_slice()) {
        let message = format!("-o needs one database: {} are configured; name one", wanted.len());
        return Err(CommandError::new(ErrorKind::Usage, message));
    }
    let job = |(database, found): (DatabaseSettings, bool)| match &args.out {
        // Another way to write the database's own path.
        Some(out) if working_dir.join(out) != database.path.as_path() => Job::To {
            out: out.clone(),
            replica: Box::new(database.replica),
            target: args.target,
            force: args.force,
        },
        _ => {
            let database = Box::new(database);
            let user = app_user.clone();
            Job::InPlace { database, user, target: args.target, force: args.force, found }
        }
    };
    Ok(wanted.into_iter().map(job).collect())
}

/// An existing database may be in use: only `--force` replaces it.
pub fn refuse_existing(job: &Job) -> Result<(), CommandError> {
    let local = |message: String| CommandError::new(ErrorKind::Local, message);
    let out = job.out();
    match std::fs::metadata(out) {
        Ok(found) if found.is_dir() => {
            Err(local(format!("cannot restore to {}: it is a directory", out.display())))
        }
        Ok(found) if found.len() > 0 && !job.force() => {
            Err(local(format!("{} is there already: --force replaces it", out.display())))
        }
        // 0 bytes count as absent. The restore itself reports what cannot be read.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Additions, Environment, Purpose, parse};

    fn config(paths: &[&str]) -> Checked {
        let mut text = String::from("[app]\nuser = \"app\"\n");
        for (index, path) in paths.iter().enumerate() {
            text += &format!("[[database]]\npath = \"{path}\"\n[database.replica]\nurl = \"/r/{index}\"\n");
        }
        let read = |_: &Path| Ok(Vec::new());
        let environment = Environment { variable: &|_| None, read: &read, working_dir: Path::new("/srv") };
        parse(Some((&text, Path::new("s.toml"))), &Additions::default(), Purpose::Databases, environment)
            .unwrap()
    }

    fn args(subject: Option<&str>, out: Option<&str>) -> RestoreOptions {
        RestoreOptions {
            subject: subject.map(Into::into),
            out: out.map(Into::into),
            ..RestoreOptions::default()
        }
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
                (Err(error), Err(part)) => {
                    assert!(error.kind == ErrorKind::Usage && error.message().contains(part), "{error:?}");
                }
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
        let one = from_config(&args(None, Some("x")), &config(&["/d/a.db"]), Vec::new(), Path::new("/srv"))
            .unwrap();
        assert!(matches!(one.as_slice(), [Job::To { .. }]));
        let in_place =
            from_config(&args(None, None), &config(&["/d/a.db"]), Vec::new(), Path::new("/srv")).unwrap();
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
}
