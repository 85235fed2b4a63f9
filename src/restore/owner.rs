//! Owner and mode of the restored file: as configured, else like the file that was there, else the app's user, else like
//! the directory. Missing directories above it are made with the same owner.

use super::error::RestoreError;
use super::settings::Owners;
use crate::model::DbPath;
use std::fs::{self, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const PERMISSION_BITS: u32 = 0o7777;

/// What the file at some path shall have. None: leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

/// Makes the directories above the database that are missing.
pub fn create_directories(db: &DbPath, owners: &Owners) -> Result<(), RestoreError> {
    let missing: Vec<PathBuf> = db
        .directory()
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .map(PathBuf::from)
        .collect();
    for directory in missing.iter().rev() {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(RestoreError::io("create", directory)(error));
            }
            _ => {}
        }
        let above = directory.parent().and_then(|parent| fs::metadata(parent).ok());
        let wanted = Wanted { mode: None, ..wanted(owners, None, above.as_ref()) };
        apply(directory, wanted, owners)?;
    }
    Ok(())
}

/// Gives the staged file what the database shall have, while the file that was there can still be asked.
pub fn prepare_staged(db: &DbPath, owners: &Owners) -> Result<(), RestoreError> {
    let before = fs::metadata(db.as_path()).ok();
    let directory = fs::metadata(db.directory()).ok();
    apply(&db.staged(), wanted(owners, before.as_ref(), directory.as_ref()), owners)
}

fn wanted(owners: &Owners, before: Option<&Metadata>, directory: Option<&Metadata>) -> Wanted {
    let (configured, app) = (owners.configured, owners.app);
    Wanted {
        uid: configured.uid.or(before.map(Metadata::uid)).or(app.uid).or(directory.map(Metadata::uid)),
        gid: configured.gid.or(before.map(Metadata::gid)).or(app.gid).or(directory.map(Metadata::gid)),
        mode: configured.mode.or(before.map(|file| file.mode() & PERMISSION_BITS)),
    }
}

fn apply(path: &Path, wanted: Wanted, owners: &Owners) -> Result<(), RestoreError> {
    let now = fs::metadata(path).map_err(RestoreError::io("look at", path))?;
    let differs = |wanted: Option<u32>, now: u32| wanted.filter(|wanted| *wanted != now);
    let (uid, gid) = (differs(wanted.uid, now.uid()), differs(wanted.gid, now.gid()));
    if uid.is_some() || gid.is_some() {
        match chown(path, uid, gid) {
            // Only root may give files away. What nobody asked for by name is not worth a failed start.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !owners.configured.names_somebody() => {
                // A group that is not one of ours hinders nobody: the owner is right.
                if uid.is_some() {
                    tracing::warn!(file = %path.display(), "keeps our own user as its owner: {error}");
                }
            }
            changed => changed.map_err(RestoreError::io("change the owner of", path))?,
        }
    }
    if let Some(mode) = differs(wanted.mode, now.mode() & PERMISSION_BITS) {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(RestoreError::io("change the mode of", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::settings::Owner;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSION_BITS
    }

    #[test]
    fn mode_follows_configuration_then_the_file_before() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.staged(), "new").unwrap();
        fs::write(db.as_path(), "old").unwrap();
        fs::set_permissions(db.as_path(), Permissions::from_mode(0o604)).unwrap();
        prepare_staged(&db, &Owners::default()).unwrap();
        assert_eq!(mode(&db.staged()), 0o604);
        let configured = Owner { mode: Some(0o640), ..Owner::default() };
        prepare_staged(&db, &Owners { configured, ..Owners::default() }).unwrap();
        assert_eq!(mode(&db.staged()), 0o640);
    }

    #[test]
    fn owner_is_configured_or_that_of_the_file_before_or_the_apps_or_the_directorys() {
        if !nix::unistd::geteuid().is_root() {
            return; // only root may give files away; the order itself is shown below for everybody
        }
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.staged(), "new").unwrap();
        let owner_of = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
        chown(dir.path(), Some(11), Some(12)).unwrap();
        prepare_staged(&db, &Owners::default()).unwrap();
        assert_eq!(owner_of(&db.staged()), (11, 12));
        let app = Owner { uid: Some(21), gid: Some(22), mode: None };
        prepare_staged(&db, &Owners { app, ..Owners::default() }).unwrap();
        assert_eq!(owner_of(&db.staged()), (21, 22));
        fs::write(db.as_path(), "old").unwrap();
        chown(db.as_path(), Some(31), Some(32)).unwrap();
        prepare_staged(&db, &Owners { app, ..Owners::default() }).unwrap();
        assert_eq!(owner_of(&db.staged()), (31, 32));
        let configured = Owner { uid: Some(41), gid: None, mode: None };
        prepare_staged(&db, &Owners { app, configured }).unwrap();
        assert_eq!(owner_of(&db.staged()), (41, 32));
    }

    #[test]
    fn missing_directories_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("a/b/app.db"));
        create_directories(&db, &Owners::default()).unwrap();
        create_directories(&db, &Owners::default()).unwrap();
        assert!(db.directory().is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        let below_a_file = DbPath::new(dir.path().join("file/app.db"));
        assert!(matches!(prepare_staged(&below_a_file, &Owners::default()), Err(RestoreError::Io { .. })));
    }

    #[test]
    fn order_of_the_four_sources() {
        let dir = tempfile::tempdir().unwrap();
        let here = fs::metadata(dir.path()).unwrap();
        let some = |id| Owner { uid: Some(id), gid: Some(id), mode: None };
        let owners = |configured, app| Owners { configured, app };
        let none = Owner::default();
        let uid = |owners: Owners, before| wanted(&owners, before, Some(&here)).uid;
        assert_eq!(uid(owners(some(1), some(2)), Some(&here)), Some(1));
        assert_eq!(uid(owners(none, some(2)), Some(&here)), Some(here.uid()));
        assert_eq!(uid(owners(none, some(2)), None), Some(2));
        assert_eq!(uid(owners(none, none), None), Some(here.uid()));
    }
}
