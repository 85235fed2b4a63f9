//! The addresses of the status socket. Pure. The server and its clients use the same rule, so clients need no
//! configuration of their own.
//!
//! The configured address alone; or the first that works of: /run, the user's runtime directory, and an
//! abstract name (without a file) that is made of the first database's path and the root directory's
//! identity, for a read-only root and for users that may not write to /run.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

const NAME: &str = "litevisor.sock";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Path(PathBuf),
    /// In Linux's abstract namespace, which belongs to the network namespace.
    Abstract(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Path(path) => write!(f, "{}", path.display()),
            Address::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// Distinguishes the supervisors of one machine: made of the first configured database or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// FNV-1a, 64 bits: the same in every version.
    pub fn of(first: Option<&Path>) -> Key {
        let bytes = first.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Key(format!("{hash:016x}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Distinguishes containers on one network: device and inode of the root directory. They are the same for a
/// service with a mount namespace of its own and for a shell beside it, and different in every container,
/// also if all other namespaces are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    pub device: u64,
    pub inode: u64,
}

/// In the order in which they are tried. `runtime_dir`: $XDG_RUNTIME_DIR.
pub fn candidates(
    configured: Option<&Path>,
    runtime_dir: Option<&OsStr>,
    key: &Key,
    root: Root,
) -> Vec<Address> {
    if let Some(path) = configured {
        return vec![Address::Path(path.to_owned())];
    }
    let own = runtime_dir.map(Path::new).filter(|dir| dir.is_absolute());
    let paths = [Some(Path::new("/run")), own].into_iter().flatten().map(|dir| Address::Path(dir.join(NAME)));
    let name = format!("litevisor-{}-{:x}-{:x}", key.0, root.device, root.inode);
    paths.chain([Address::Abstract(name)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_look_in_the_same_places() {
        let key = Key::of(Some(Path::new("/data/app.db")));
        assert_eq!(key.as_str(), "6bcec5bb24604852");
        assert_ne!(key, Key::of(Some(Path::new("/data/app2.db"))));
        assert_eq!(Key::of(None).as_str(), "cbf29ce484222325");
        let told = |configured: Option<&str>, dir: Option<&str>| {
            let root = Root { device: 0x2f, inode: 2 };
            let all = candidates(configured.map(Path::new), dir.map(OsStr::new), &key, root);
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let nowhere = "@litevisor-6bcec5bb24604852-2f-2";
        assert_eq!(told(None, None), ["/run/litevisor.sock", nowhere]);
        assert_eq!(told(None, Some("not/absolute")), ["/run/litevisor.sock", nowhere]);
        let user = "/run/user/1000/litevisor.sock";
        assert_eq!(told(None, Some("/run/user/1000")), ["/run/litevisor.sock", user, nowhere]);
        assert_eq!(told(Some("/tmp/x"), Some("/run/user/1000")), ["/tmp/x"]);
    }
}
