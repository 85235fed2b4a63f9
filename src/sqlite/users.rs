//! Which other processes have a database open, for commands that would replace it. SQLite's file locks show a
//! process with a connection in WAL mode, also in another container on the same machine; `/proc/PID/fd` shows
//! every process of this PID namespace that has the file open, if it may be read.

use super::files::{locked_by_others, replicated_by_another};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Named in a message.
const NAMED: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// One of them is a litevisor that replicates the database.
    pub replicated: bool,
    /// PID and name. Empty when only a lock shows that there is one.
    pub processes: Vec<(u32, String)>,
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.processes.is_empty() {
            return write!(f, "a process that cannot be seen from here, perhaps in another container");
        }
        let named = self.processes.iter().take(NAMED).map(|(pid, name)| format!("PID {pid} ({name})"));
        write!(f, "{}", named.collect::<Vec<_>>().join(", "))?;
        let more = self.processes.len().saturating_sub(NAMED);
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// The other processes that have the database at `path` open; None: none is seen.
pub fn users(path: &Path) -> Option<Users> {
    let replicated = replicated_by_another(path);
    let locked = replicated || locked_by_others(path);
    let processes = openers(path);
    (locked || !processes.is_empty()).then_some(Users { replicated, processes })
}

/// The other processes that have the file with this device and inode open, whatever its name is by now.
pub fn users_of_file(id: (u64, u64)) -> Option<Users> {
    let processes = openers_of(&Wanted { id: Some(id), deleted: OsString::new() });
    (!processes.is_empty()).then_some(Users { replicated: false, processes })
}

/// Device and inode of the file at `path`.
pub fn file_id(path: &Path) -> Option<(u64, u64)> {
    Wanted::id(path)
}

fn openers(path: &Path) -> Vec<(u32, String)> {
    openers_of(&Wanted::of(path))
}

fn openers_of(wanted: &Wanted) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        if descriptors.flatten().any(|descriptor| wanted.is(&descriptor.path())) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let plain = name.trim_end().chars().map(|char| if char.is_control() { '?' } else { char });
            found.push((pid, plain.collect()));
        }
    }
    found.sort();
    found
}

/// The file that the path names, and one of that name that was deleted.
struct Wanted {
    /// Device and inode.
    id: Option<(u64, u64)>,
    deleted: OsString,
}

impl Wanted {
    fn of(path: &Path) -> Wanted {
        let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
        let path = directory
            .zip(path.file_name())
            .map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name));
        let id = Wanted::id(&path);
        let mut deleted = path.into_os_string();
        deleted.push(" (deleted)");
        Wanted { id, deleted }
    }

    fn is(&self, descriptor: &Path) -> bool {
        // What is no absolute path is a pipe or a socket.
        let target = std::fs::read_link(descriptor).unwrap_or_else(|_| PathBuf::new());
        if !target.as_os_str().as_bytes().starts_with(b"/") {
            return false;
        }
        target.as_os_str() == self.deleted || self.id.is_some() && Wanted::id(descriptor) == self.id
    }

    /// Of the file itself, through links.
    fn id(path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    fn opener(path: &Path, mode: &str) -> Child {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      c.execute('PRAGMA journal_mode=' + sys.argv[2])\nc.execute('CREATE TABLE IF NOT EXISTS \
                      t(x)')\n\
                      print('x', flush=True)\nsys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(path).arg(mode).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn who_has_it_open_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for mode in ["wal", "delete"] {
            let path = dir.path().join(mode);
            assert_eq!(users(&path), None);
            let mut child = opener(&path, mode);
            let found = users(&path).unwrap();
            assert!(!found.replicated);
            assert_eq!(
                found.processes.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(),
                [child.id()],
                "{mode}"
            );
            assert!(found.to_string().contains("python3"), "{found}");
            std::fs::remove_file(&path).unwrap();
            assert!(users(&path).is_some(), "{mode}: its file is deleted, and it goes on writing there");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(users(&path), None);
        }
    }

    #[test]
    fn a_message_stays_short() {
        let processes = (1..=20).map(|pid| (pid, "app".to_owned())).collect();
        let text = Users { replicated: false, processes }.to_string();
        assert!(
            text.starts_with("PID 1 (app), PID 2") && text.ends_with("PID 8 (app) and 12 more"),
            "{text}"
        );
    }
}
