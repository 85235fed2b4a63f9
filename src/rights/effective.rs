//! Which user's rights apply in a data directory. Pure.
//!
//! The app's user may change everything in a directory that it may write to, so litevisor works there with no
//! more rights than that user has. The answer must not depend on anything that this user can change.

/// The owner, group and mode of a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits and the sticky bit.
    pub mode: u32,
    /// The number of hard links.
    pub links: u64,
}

/// The ids that a thread has in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

const ROOT: u32 = 0;
/// The group of `nobody`: a directory of group 0 must not give the rights of root's group.
const NO_GROUP: u32 = 65_534;
const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;
const WRITE: u32 = 0o2;
const STICKY: u32 = 0o1000;

impl Rights {
    /// The rights of `nobody`.
    pub const fn nobody() -> Rights {
        Rights { uid: NO_GROUP, gid: NO_GROUP, groups: Vec::new() }
    }

    /// The rights of a file's owner; None: root.
    pub fn of(owner: Owner) -> Option<Rights> {
        let gid = if owner.gid == ROOT { NO_GROUP } else { owner.gid };
        (owner.uid != ROOT).then(|| Rights { uid: owner.uid, gid, groups: vec![gid] })
    }
}

impl Owner {
    fn grants(self, rights: &Rights, wanted: u32) -> bool {
        let shift = if self.uid == rights.uid {
            6
        } else if self.gid == rights.gid || rights.groups.contains(&self.gid) {
            3
        } else {
            0
        };
        (self.mode >> shift) & wanted == wanted
    }

    /// Whether root alone can change the names in this directory; in a sticky one, the names of root's files
    /// and links.
    pub fn is_roots(self) -> bool {
        self.uid == ROOT && (self.mode & 0o022 == 0 || self.mode & STICKY != 0)
    }
}

/// Whether that user can write to the file.
pub fn may_change(rights: &Rights, file: Owner) -> bool {
    rights.uid == ROOT || file.grants(rights, READ | WRITE)
}

/// Whether that user can create and rename files in the last directory of `way`; the others lead to it.
pub fn may_write(rights: &Rights, way: &[Owner]) -> bool {
    rights.uid == ROOT
        || way.iter().all(|directory| directory.grants(rights, SEARCH))
            && way.last().is_some_and(|directory| directory.grants(rights, WRITE | SEARCH))
}

/// The rights for a data directory; None: root's. `chosen`: the configured `owner`, else the app's user.
/// `way`: the directories from `/` to the data directory. `db`: the database file, if there is one.
pub fn rights_in(chosen: Option<&Rights>, way: &[Owner], db: Option<Owner>) -> Option<Rights> {
    let directory = *way.last()?;
    let able = |rights: &Rights| may_write(rights, way);
    let of_directory = || Rights::of(directory).filter(able);
    match (chosen, db) {
        (Some(chosen), _) if chosen.uid == ROOT => None,
        (Some(chosen), _) if able(chosen) => Some(chosen.clone()),
        // The user cannot change a name there: the directory's owner decides.
        (Some(_), _) => of_directory(),
        // The app itself runs as root. A file with a second name could be any of root's files.
        (None, Some(db)) if db.uid == ROOT && db.links == 1 => None,
        (None, Some(db)) => Rights::of(db).filter(able).or_else(of_directory),
        (None, None) => of_directory(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32, gid: u32, mode: u32) -> Owner {
        Owner { uid, gid, mode, links: 1 }
    }

    fn rights(uid: u32, gid: u32) -> Rights {
        Rights { uid, gid, groups: vec![gid] }
    }

    #[test]
    fn whose_rights_they_are() {
        let root = owner(0, 0, 0o755);
        let app = rights(10, 11);
        let to = |directory: Owner| vec![root, directory];
        let own = owner(10, 11, 0o700);
        for (what, chosen, way, db, expected) in [
            ("the app's own directory", Some(&app), to(own), None, Some(10)),
            ("the owner of the file there", Some(&app), to(own), Some(owner(0, 0, 0o600)), Some(10)),
            ("shared with a group", Some(&app), to(owner(0, 11, 0o770)), None, Some(10)),
            ("open to all", Some(&app), to(owner(0, 0, 0o1777)), None, Some(10)),
            ("root's", Some(&app), to(root), None, None),
            ("root's, with the app's file", Some(&app), to(root), Some(owner(10, 11, 0o600)), None),
            ("another user's", Some(&app), to(owner(20, 20, 0o755)), None, Some(20)),
            ("out of the app's reach", Some(&app), vec![root, owner(0, 0, 0o700), own], None, None),
            ("the app is root", Some(&rights(0, 0)), to(own), None, None),
            ("no user is named", None, to(own), None, Some(10)),
            ("no user is named, the file is root's", None, to(own), Some(owner(0, 0, 0o644)), None),
            ("a second name", None, to(own), Some(Owner { links: 2, ..owner(0, 0, 0o644) }), Some(10)),
            (
                "no user is named, open to all",
                None,
                to(owner(0, 0, 0o777)),
                Some(owner(10, 11, 0o644)),
                Some(10),
            ),
            ("no user is named, root's", None, to(root), Some(owner(10, 11, 0o644)), None),
            ("no user is named, out of reach", None, vec![root, owner(0, 0, 0o700), own], None, None),
            ("another user's file", None, to(own), Some(owner(20, 20, 0o644)), Some(10)),
        ] {
            assert_eq!(rights_in(chosen, &way, db).map(|rights| rights.uid), expected, "{what}");
        }
        assert_eq!(Rights::of(owner(10, 0, 0o700)), Some(rights(10, NO_GROUP)), "not root's group");
    }

    #[test]
    fn whose_names_they_are() {
        for (mode, uid, expected) in [
            (0o755, 0, true),
            (0o775, 0, false),
            (0o757, 0, false),
            (0o1777, 0, true),
            (0o755, 10, false),
            (0o1777, 10, false),
        ] {
            assert_eq!(owner(uid, 0, mode).is_roots(), expected, "{mode:o} {uid}");
        }
    }
}
