//! Which files the app's process tree has open, by `/proc/PID/fd`; opens none of them. Each process is read
//! with the file system rights of its own user: without CAP_SYS_PTRACE (the usual container) root may not
//! read the descriptors of another user's process, and litevisor must not access what the app names with more
//! rights than the app has.

use super::claim;
use super::procfs::{Process, Scope, parse_stat, tree};
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many links are read. Apps with more open files are rare, and the first ones are enough for a hint.
const LINKS: usize = 20_000;

/// The paths of regular files that a process of the tree has open and for which `wanted` says yes. `wanted`
/// runs with the rights of that process's user. Blocks.
pub fn find(wanted: fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let mut users: BTreeMap<(u32, u32), Vec<i32>> = BTreeMap::new();
    for pid in processes().unwrap_or_default() {
        if let Ok(meta) = std::fs::metadata(format!("/proc/{pid}")) {
            users.entry((meta.uid(), meta.gid())).or_default().push(pid);
        }
    }
    let look = |((uid, gid), pids): ((u32, u32), Vec<i32>)| {
        // A thread of its own: its file system rights end with it.
        let thread = std::thread::Builder::new().name("open-files".into()).spawn(move || {
            if geteuid().is_root() && uid != 0 {
                setfsgid(Gid::from_raw(gid));
                setfsuid(Uid::from_raw(uid));
            }
            let paths: BTreeSet<PathBuf> = pids.into_iter().flat_map(regular_files).take(LINKS).collect();
            paths.into_iter().filter(|path| wanted(path)).collect::<Vec<_>>()
        });
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    users.into_iter().flat_map(look).collect()
}

/// The living processes of the app's tree. None without a usable /proc.
fn processes() -> Option<Vec<i32>> {
    let me = std::process::id();
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(me) {
        return None;
    }
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let numbers =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    let all: Vec<Process> =
        numbers.filter_map(|entry| parse_stat(&std::fs::read(entry.path().join("stat")).ok()?)).collect();
    let scope = if claim::is_init() { Scope::Namespace } else { Scope::Descendants };
    let tree = tree(&all, i32::try_from(me).ok()?, scope, None, &HashSet::new());
    Some(tree.into_iter().map(|process| process.pid).collect())
}

fn regular_files(pid: i32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = entries.flatten().map(|entry| entry.path());
    // `stat` follows the link to the open file itself and opens nothing.
    let regular = links.filter(|link| std::fs::metadata(link).is_ok_and(|meta| meta.is_file()));
    regular.filter_map(|link| std::fs::read_link(link).ok()).filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    /// A child of this test has one file open, a pipe and a directory. As root the child is another user: the
    /// descriptors of its processes are not root's to read without CAP_SYS_PTRACE.
    #[test]
    fn files_of_a_child_are_found_whoever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some file");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec 7<\"$0\" 8<\"$1\"; echo open; read -r end", file.to_str().unwrap(), "/"]);
        if geteuid().is_root() {
            command.uid(4242).gid(4242);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        fn named(path: &Path) -> bool {
            path.ends_with("some file")
        }
        let found = find(named);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, BTreeSet::from([file]));
    }
}
