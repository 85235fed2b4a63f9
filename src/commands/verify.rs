//! `litevisor verify`: proves a replica by restoring it into a scratch file. Never touches the live database or anything
//! beside it, except that the scratch directory may stand there.

use super::places::{Place, places};
use super::restore::{Failure, FailureKind, code, told};
use super::runtime;
use crate::exit;
use crate::model::DbPath;
use crate::observe::say;
use crate::replica::Target;
use crate::restore::{Audit, Owners, Progress, RestoreSettings, audit, restore_to};
use crate::sqlite::integrity;
use crate::store;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

pub fn verify(file: Option<PathBuf>, subject: Option<OsString>, quick: bool) -> u8 {
    places(file, subject.as_deref(), |places, settings| {
        let Some(runtime) = runtime() else { return exit::INTERNAL };
        runtime.block_on(async {
            let mut failures = Vec::new();
            for place in &places {
                match one(place, settings, quick).await {
                    Ok(proven) => say(&format!("{} is sound\n{proven}", place.name())),
                    Err(Failure { kind, told }) => {
                        tracing::error!("{} is not proven: {told}", place.name());
                        failures.push(kind);
                    }
                }
            }
            code(failures.into_iter(), false)
        })
    })
}

async fn one(place: &Place, settings: &RestoreSettings, quick: bool) -> Result<String, Failure> {
    let damaged = |told| Failure { kind: FailureKind::Damaged, told };
    let store = store::open(&place.replica)?;
    let scratch = Scratch::new(place).map_err(|told| Failure { kind: FailureKind::Local, told })?;
    let db = scratch.db();
    let (owners, progress) = (Owners::default(), Progress::default());
    let restored = restore_to(db.as_path(), &*store, Target::Latest, settings, &owners, true, &progress).await;
    let restored = restored?;
    let problems = integrity::problems(&db, quick).map_err(|error| damaged(error.to_string()))?;
    if let Some(first) = problems.first() {
        let told = format!("what it restores to is damaged, says SQLite: {first} ({} lines)", problems.len());
        return Err(damaged(told));
    }
    let audit = audit(&*store, settings, &progress).await?;
    if let Some((key, damage)) = audit.damaged.first() {
        let more = match audit.damaged.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more files)"),
        };
        let told = format!("the latest state is sound, but {key} is damaged: {damage}{more}");
        return Err(damaged(told));
    }
    let Audit { files, bytes, with_db_checksum, .. } = audit;
    let check = if quick { "quick_check" } else { "integrity_check" };
    Ok(format!(
        "  restored    {}\n  SQLite      {check} ok\n  files       {files} read whole, {bytes} bytes: every checksum is right\n  \
         database    {with_db_checksum} files carry the whole database's checksum, and it agrees\n",
        told(&restored)
    ))
}

/// A directory of our own that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    /// In `$TMPDIR` where that is set, else beside the database, whose disk is large enough, else where the system has it.
    fn new(place: &Place) -> Result<Scratch, String> {
        let beside = place.db.as_deref().and_then(Path::parent).filter(|directory| directory.is_dir());
        let under = match (std::env::var_os("TMPDIR"), beside) {
            (Some(_), _) | (None, None) => std::env::temp_dir(),
            (None, Some(beside)) => beside.to_owned(),
        };
        for number in 0..1000 {
            let path = under.join(format!(".litevisor-verify-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("cannot create {}: {error}; set TMPDIR", path.display())),
            }
        }
        Err(format!("{} is full of scratch directories of litevisor: remove them", under.display()))
    }

    fn db(&self) -> DbPath {
        DbPath::new(self.0.join("scratch.db"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}
