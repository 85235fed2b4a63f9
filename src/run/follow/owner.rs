//! Whose a read-only copy is: the app may read it, and must not be able to change it. Pure.

use crate::restore::{Owner, Owners};

const MODE: u32 = 0o640;
/// Nobody but the file's owner may write.
const OTHERS_WRITE: u32 = 0o022;
const OWNER_WRITES: u32 = 0o600;

/// Who works in the copy's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Root, as the app's user may not write to the directory.
    Root,
    /// Root with the rights of the app's user, who may write to the directory; or litevisor has no other user
    /// than the app.
    App,
}

/// The owner, group and mode of a copy. `owners`: as a database of the app would have them.
pub fn of_copy(owners: Owners, rights: Rights) -> Owners {
    let mode = owners.configured.mode.unwrap_or(MODE) & !OTHERS_WRITE | OWNER_WRITES;
    let configured = match rights {
        // SQLite gives its -wal and -shm the same owner and mode.
        Rights::Root => {
            Owner { uid: Some(0), gid: owners.configured.gid.or(owners.app.gid), mode: Some(mode) }
        }
        Rights::App => Owner { mode: Some(mode), ..owners.configured },
    };
    Owners { configured, ..owners }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_reads_by_its_group_and_writes_nothing() {
        let app = Owner { uid: Some(10), gid: Some(11), mode: None };
        let owner = |uid, gid, mode| Owner { uid, gid, mode: Some(mode) };
        for (configured, rights, expected) in [
            (Owner::default(), Rights::Root, owner(Some(0), Some(11), 0o640)),
            (owner(Some(20), Some(21), 0o664), Rights::Root, owner(Some(0), Some(21), 0o644)),
            (owner(None, None, 0o444), Rights::Root, owner(Some(0), Some(11), 0o644)),
            (Owner::default(), Rights::App, owner(None, None, 0o640)),
            (owner(Some(20), Some(21), 0o666), Rights::App, owner(Some(20), Some(21), 0o644)),
        ] {
            assert_eq!(
                of_copy(Owners { configured, app }, rights).configured,
                expected,
                "{configured:?} {rights:?}"
            );
        }
    }
}
