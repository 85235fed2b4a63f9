//! Changes the owner of the `-wal` and `-shm` with the database's owner. As root, litevisor creates them
//! before the app starts; if an image's entrypoint then gives only the database to the app's user, that user
//! could not write to them.

use super::files::FileId;
use crate::model::DbPath;
use crate::rights::{self, Dir, Kind};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What is held, as it was when it was taken.
#[derive(Clone)]
struct Held {
    db: Weak<File>,
    wal: Weak<File>,
    shm: Option<FileId>,
}

static HELD: Mutex<BTreeMap<DbPath, Held>> = Mutex::new(BTreeMap::new());

/// The files of a hold that was just taken.
pub(super) fn remember(path: &DbPath, db: &Arc<File>, wal: &Arc<File>, shm: Option<FileId>) {
    if rights::are_roots() {
        let held = Held { db: Arc::downgrade(db), wal: Arc::downgrade(wal), shm };
        HELD.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), held);
        follow_owner(path);
    }
}

/// Gives root's side files of a held database to the database's owner. Only those that are held: whatever
/// else has their names is not touched. A few `stat`s when nothing is to be done.
pub fn follow_owner(path: &DbPath) {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
    let Some(held) = held else { return };
    let (Some(db), Some(wal)) = (held.db.upgrade(), held.wal.upgrade()) else { return };
    match follow(path, &db, &wal, held.shm) {
        Ok(false) => {}
        Ok(true) => tracing::info!(db = %path, "the -wal and -shm were given to the database's owner"),
        Err(error) => tracing::warn!(
            db = %path, %error,
            "the database was given to another user, and its -wal and -shm cannot be: that user cannot write \
             to it"
        ),
    }
}

fn follow(path: &DbPath, db: &File, wal: &File, shm: Option<FileId>) -> io::Result<bool> {
    let owner = db.metadata()?;
    if owner.uid() == 0 {
        return Ok(false);
    }
    let uid = owner.uid();
    let gid = owner.gid();
    let mut done = false;
    if wal.metadata()?.uid() == 0 {
        rights::own(|| fchown(wal, Some(uid), Some(gid)))?;
        done = true;
    }
    let shm_path = path.shm();
    let name = shm_path.file_name().unwrap_or_default();
    // Never opened: closing it would drop SQLite's locks.
    let reference = rights::own(|| Dir::open(path.directory())?.refer(name))?;
    let seen = reference.stat()?;
    if seen.kind == Kind::File && seen.owner.uid == 0 && shm == Some(FileId::of(seen.device, seen.inode)) {
        rights::own(|| reference.give(uid, gid))?;
        done = true;
    }
    Ok(done)
}
