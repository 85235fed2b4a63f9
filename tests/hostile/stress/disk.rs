//! What may happen to a disk between two runs.

use super::random::Random;
use crate::support::bank;
use crate::support::site::Site;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Wiped,
    SidesRemoved,
    ShmRemoved,
    StateRemoved,
    /// state.json from an earlier time beside today's database.
    OldState,
    /// The whole directory as it was earlier.
    RolledBack,
    /// Only the database file as it was earlier; state.json is today's.
    OldDatabase,
    /// Somebody else's database, no side files; state.json stays.
    Foreign,
}

const FATES: [Fate; 14] = [
    Fate::Kept,
    Fate::Kept,
    Fate::Kept,
    Fate::Kept,
    Fate::Kept,
    Fate::Wiped,
    Fate::Wiped,
    Fate::SidesRemoved,
    Fate::ShmRemoved,
    Fate::StateRemoved,
    Fate::OldState,
    Fate::RolledBack,
    Fate::OldDatabase,
    Fate::Foreign,
];

pub fn choose(random: &mut Random) -> Fate {
    random.pick(&FATES)
}

impl Fate {
    /// Nothing is lost to a next run that may use it.
    pub fn harmless(self) -> bool {
        matches!(self, Fate::Kept | Fate::ShmRemoved)
    }
}

/// Keeps a copy of the disk for later.
pub fn remember(site: &Site) {
    let copy = copy_of(site);
    let _ = std::fs::remove_dir_all(&copy);
    copy_tree(&site.disk(), &copy);
}

pub fn suffer(site: &Site, fate: Fate) {
    let (db, copy) = (site.db(), copy_of(site));
    let state = Path::new(".bank.db-litevisor/state.json");
    let remove = |suffix: &str| drop(std::fs::remove_file(format!("{}{suffix}", db.display())));
    match fate {
        Fate::Kept => {}
        Fate::Wiped => site.wipe(),
        Fate::SidesRemoved => ["-wal", "-shm"].into_iter().for_each(remove),
        Fate::ShmRemoved => remove("-shm"),
        Fate::StateRemoved => drop(std::fs::remove_file(site.disk().join(state))),
        Fate::OldState => drop(copy_file(&copy.join(state), &site.disk().join(state))),
        Fate::RolledBack if copy.exists() => {
            std::fs::remove_dir_all(site.disk()).unwrap();
            copy_tree(&copy, &site.disk());
        }
        Fate::RolledBack => {}
        Fate::OldDatabase => {
            if copy.join("bank.db").exists() {
                ["", "-wal", "-shm"].into_iter().for_each(remove);
                copy_file(&copy.join("bank.db"), &db).unwrap();
            }
        }
        Fate::Foreign => {
            ["", "-wal", "-shm"].into_iter().for_each(remove);
            bank::seed(&db);
        }
    }
}

fn copy_of(site: &Site) -> PathBuf {
    site.path("disk-before")
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::write(to, std::fs::read(from)?)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            copy_file(&entry.path(), &target).unwrap();
        }
    }
}
