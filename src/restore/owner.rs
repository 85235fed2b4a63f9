//! Owner and mode of the restored file: as configured, else as the previous file had them, else the app's
//! user, else the directory's. Missing parent directories are created with the same owner.

use super::error::RestoreError;
use super::settings::Owners;
use super::verify::VerifiedDb;
use crate::model::DbPath;
use crate::rights::{self, Dir, Kind, Owner};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

const PERMISSION_BITS: u32 = 0o7777;
const BEFORE_BITS: u32 = 0o777;
/// Of a directory that is made, where the one above says nothing better.
const DIRECTORY_MODE: u32 = 0o755;
const OPEN_TO_ALL: u32 = 0o002;
/// What a directory that is made has from the one above: the group's rights, and that new files have its
/// group.
const INHERITED_BITS: u32 = 0o2775;
/// Of a restored file, when neither the configuration nor a file before says another: the replica does not
/// keep the mode, and what was private must not come back readable for others.
const FILE_MODE: u32 = 0o600;

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
        create_directory(directory, owners).map_err(RestoreError::io("create", directory))?;
    }
    Ok(())
}

fn create_directory(path: &Path, owners: &Owners) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    rights::within_directory(above, None, || {
        let above = Dir::open(above)?;
        match above.make(name, DIRECTORY_MODE) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        let made = above.below(name)?.as_file()?;
        let mode = directory_mode(above.owner()?.mode);
        // With the rights of another user it is that user's, who may have put another directory in its place
        // already.
        if rights::acting() {
            return made.set_permissions(Permissions::from_mode(mode));
        }
        let wanted = Wanted { mode: Some(mode), ..wanted(owners, None, Some(above.owner()?)) };
        apply(&made, path, wanted, owners)
    })
}

/// The mode of a directory that is made in one of mode `above`: the replica does not keep it, and what was
/// private must not come back open.
fn directory_mode(above: u32) -> u32 {
    if above & OPEN_TO_ALL != 0 { DIRECTORY_MODE } else { above & INHERITED_BITS | 0o700 }
}

/// Gives the staged file what the database shall have, while the file that was there can still be asked. It
/// is the file that litevisor made, whatever stands under its name by now.
pub fn prepare_staged(verified: &VerifiedDb, owners: &Owners) -> Result<(), RestoreError> {
    prepare(verified.db(), verified.file(), owners)
}

fn prepare(db: &DbPath, staged: &File, owners: &Owners) -> Result<(), RestoreError> {
    let looked = rights::within(db, || {
        let dir = Dir::open(db.directory())?;
        let before = dir.stat(&db.file_name())?.filter(|seen| seen.kind == Kind::File);
        Ok((before.map(|seen| seen.owner), dir.owner()?))
    });
    let (before, directory) = looked.map_err(RestoreError::io("look at", db.directory()))?;
    let mut wanted = wanted(owners, before, Some(directory));
    wanted.mode = wanted.mode.or(Some(FILE_MODE));
    let path = db.staged();
    // Root's own rights, on an open file of ours: only root may give files away.
    rights::own(|| apply(staged, &path, wanted, owners))
        .map_err(RestoreError::io("change the owner or mode of", &path))
}

fn wanted(owners: &Owners, before: Option<Owner>, directory: Option<Owner>) -> Wanted {
    let configured = owners.configured;
    let app = owners.app;
    let of = |which: fn(Owner) -> u32| (before.map(which), directory.map(which));
    let ((uid_before, uid_above), (gid_before, gid_above)) = (of(|owner| owner.uid), of(|owner| owner.gid));
    Wanted {
        uid: configured.uid.or(uid_before).or(app.uid).or(uid_above),
        gid: configured.gid.or(gid_before).or(app.gid).or(gid_above),
        // Not its set-uid bit: the app's user chose what was there.
        mode: configured.mode.or(before.map(|file| file.mode & BEFORE_BITS)),
    }
}

fn apply(file: &File, path: &Path, wanted: Wanted, owners: &Owners) -> io::Result<()> {
    let now = file.metadata()?;
    let differs = |wanted: Option<u32>, now: u32| wanted.filter(|wanted| *wanted != now);
    let uid = differs(wanted.uid, now.uid());
    let gid = differs(wanted.gid, now.gid());
    if uid.is_some() || gid.is_some() {
        match fchown(file, uid, gid) {
            // Only root may give files away. An owner that was not configured is not worth a failed start.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !owners.configured.is_named() => {
                // A group that is not one of ours does no harm: the owner is right.
                if uid.is_some() {
                    tracing::warn!(file = %path.display(), "keeps the user of litevisor as its owner: \
                        {error}");
                }
            }
            changed => changed?,
        }
    }
    match differs(wanted.mode, now.mode() & PERMISSION_BITS) {
        Some(mode) => file.set_permissions(Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::settings;
    use std::fs;
    use std::os::unix::fs::chown;

    fn prepared(db: &DbPath, owners: &Owners) -> Result<(), RestoreError> {
        let staged = File::options().read(true).write(true).open(db.staged());
        prepare(db, &staged.map_err(RestoreError::io("open", &db.staged()))?, owners)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSION_BITS
    }

    #[test]
    fn mode_follows_configuration_then_the_file_before() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        fs::write(db.staged(), "new").unwrap();
        prepared(&db, &Owners::default()).unwrap();
        assert_eq!(mode(&db.staged()), 0o600, "nothing is known");
        fs::write(db.as_path(), "old").unwrap();
        fs::set_permissions(db.as_path(), Permissions::from_mode(0o604)).unwrap();
        prepared(&db, &Owners::default()).unwrap();
        assert_eq!(mode(&db.staged()), 0o604);
        let configured = settings::Owner { mode: Some(0o640), ..Default::default() };
        prepared(&db, &Owners { configured, ..Owners::default() }).unwrap();
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
        prepared(&db, &Owners::default()).unwrap();
        assert_eq!(owner_of(&db.staged()), (11, 12));
        let app = settings::Owner { uid: Some(21), gid: Some(22), mode: None };
        prepared(&db, &Owners { app, ..Owners::default() }).unwrap();
        assert_eq!(owner_of(&db.staged()), (21, 22));
        fs::write(db.as_path(), "old").unwrap();
        chown(db.as_path(), Some(31), Some(32)).unwrap();
        prepared(&db, &Owners { app, ..Owners::default() }).unwrap();
        assert_eq!(owner_of(&db.staged()), (31, 32));
        let configured = settings::Owner { uid: Some(41), gid: None, mode: None };
        prepared(&db, &Owners { app, configured }).unwrap();
        assert_eq!(owner_of(&db.staged()), (41, 32));
    }

    /// Its name was exchanged while the file was being restored.
    #[test]
    fn only_the_file_that_was_made_is_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (db, victim) = (DbPath::new(dir.path().join("app.db")), dir.path().join("victim"));
        fs::write(db.staged(), "new").unwrap();
        let staged = File::options().read(true).write(true).open(db.staged()).unwrap();
        fs::write(&victim, "root's").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o604)).unwrap();
        let before = fs::metadata(&victim).unwrap();
        fs::remove_file(db.staged()).unwrap();
        std::os::unix::fs::symlink(&victim, db.staged()).unwrap();
        let root = nix::unistd::geteuid().is_root();
        let app = settings::Owner { uid: root.then_some(4242), gid: None, mode: Some(0o640) };
        prepare(&db, &staged, &Owners { configured: app, ..Owners::default() }).unwrap();
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.uid(), after.mode()), (before.uid(), before.mode()));
        assert!(!root || staged.metadata().unwrap().uid() == 4242);
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
        assert!(matches!(prepared(&below_a_file, &Owners::default()), Err(RestoreError::Io { .. })));
    }

    #[test]
    fn a_directory_is_as_open_as_the_one_above() {
        for (above, mode) in [
            (0o755, 0o755),
            (0o700, 0o700),
            (0o750, 0o750),
            (0o2770, 0o2770),
            (0o1777, 0o755),
            (0o555, 0o755),
        ] {
            assert_eq!(directory_mode(above), mode, "{above:o}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
        create_directories(&DbPath::new(dir.path().join("a/b/app.db")), &Owners::default()).unwrap();
        assert_eq!([mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))], [0o770; 2]);
    }

    #[test]
    fn order_of_the_four_sources() {
        let dir = tempfile::tempdir().unwrap();
        let here = Dir::open(dir.path()).unwrap().owner().unwrap();
        let some = |id| settings::Owner { uid: Some(id), gid: Some(id), mode: None };
        let owners = |configured, app| Owners { configured, app };
        let none = settings::Owner::default();
        let uid = |owners: Owners, before| wanted(&owners, before, Some(here)).uid;
        assert_eq!(uid(owners(some(1), some(2)), Some(here)), Some(1));
        assert_eq!(uid(owners(none, some(2)), Some(here)), Some(here.uid));
        assert_eq!(uid(owners(none, some(2)), None), Some(2));
        assert_eq!(uid(owners(none, none), None), Some(here.uid));
    }
}
