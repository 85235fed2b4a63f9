//! Lists a directory tree: all files whose key begins with the prefix, and old temporary files of killed
//! runs. Something that vanishes meanwhile is no error.

use super::errors::is_absent;
use crate::store::key;
use crate::store::layout::{self, EntryKind};
use crate::store::paging::Entry;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// No upload takes that long without a write.
const STALE: Duration = Duration::from_secs(86_400);
/// The prefix that NFS gives to a file that was removed while it was open.
const SILLY: &str = ".nfs";

#[derive(Default)]
pub(super) struct Tree {
    pub entries: Vec<Entry>,
    /// Old temporary files of litevisor's.
    pub stale: Vec<PathBuf>,
}

/// A missing directory is an empty one: a new replica has none yet.
pub(super) fn walk(root: &Path, prefix: &str) -> io::Result<Tree> {
    let start = prefix.rsplit_once('/').map_or("", |(parents, _)| parents);
    let mut tree = Tree::default();
    let mut todo = vec![start.to_owned()];
    no_link(root, start)?;
    while let Some(directory) = todo.pop() {
        let newest = newest_name(&root.join(&directory))?;
        let entries = match fs::read_dir(root.join(&directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = match entry {
                // The directory itself has vanished.
                Err(error) if is_absent(&error) => break,
                entry => entry?,
            };
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let key = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
            if !key.starts_with(prefix) || name.starts_with(SILLY) {
                continue;
            }
            if name.ends_with(key::TEMP_SUFFIX) {
                if key::is_own_temporary(name)
                    && metadata_of(&entry)?.is_some_and(|metadata| is_stale(&metadata))
                {
                    tree.stale.push(entry.path());
                }
                continue;
            }
            if newest.as_deref().is_none_or(|newest| name > newest) {
                continue;
            }
            let metadata = metadata_of(&entry)?;
            let is = metadata.as_ref().map(FileKind::of);
            if let (Some(is), Some(expected)) = (is, layout::expected_kind(&key)) {
                fits(&entry.path(), is, expected)?;
            }
            match (metadata, is) {
                (_, Some(FileKind::Directory)) => todo.push(key),
                (Some(metadata), Some(FileKind::File)) => {
                    let modified_ms = Some(modified_ms(&metadata)?);
                    tree.entries.push(Entry { name: key, size: Some(metadata.len()), modified_ms });
                }
                _ => {}
            }
        }
    }
    Ok(tree)
}

/// The last name of a directory that is no temporary file's. While it is read, a writer adds files in the
/// order of their names, and a later one may be seen where an earlier one was not: what comes behind this
/// name is left to the next listing, so that a listing has no gaps. None: it is empty.
fn newest_name(directory: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut newest = None;
    for entry in entries {
        match entry {
            Err(error) if is_absent(&error) => break,
            entry => {
                newest = newest.max(
                    entry?.file_name().into_string().ok().filter(|name| !name.ends_with(key::TEMP_SUFFIX)),
                )
            }
        }
    }
    Ok(newest)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Directory,
    File,
    /// To a directory, or to nothing.
    Link,
    Other,
}

impl FileKind {
    fn of(metadata: &Metadata) -> FileKind {
        match metadata {
            metadata if metadata.is_dir() => FileKind::Directory,
            metadata if metadata.is_file() => FileKind::File,
            metadata if metadata.is_symlink() => FileKind::Link,
            _ => FileKind::Other,
        }
    }
}

/// What cannot be read where a part of the replica belongs is no absence.
fn fits(path: &Path, is: FileKind, expected: EntryKind) -> io::Result<()> {
    let stands = match (is, expected) {
        (FileKind::Directory, EntryKind::Directory) | (FileKind::File, EntryKind::File) => return Ok(()),
        (FileKind::Directory, EntryKind::File) => "is a directory where a file of the replica belongs",
        (FileKind::File, EntryKind::Directory) => "is a file where a directory of the replica belongs",
        (FileKind::Link, _) => {
            "is a symbolic link: litevisor does not follow links inside a replica; put back what it stands \
             for"
        }
        (FileKind::Other, _) => "is neither a file nor a directory, where a part of the replica belongs",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} {stands}", path.display())))
}

/// The directory to begin in may be missing, but not stand behind a link; nor may the root be a link that
/// leads nowhere.
fn no_link(root: &Path, start: &str) -> io::Result<()> {
    let mut path = root.to_owned();
    if is_link(&path) && !path.exists() {
        return fits(&path, FileKind::Link, EntryKind::Directory);
    }
    for part in start.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        if is_link(&path) {
            return fits(&path, FileKind::Link, EntryKind::Directory);
        }
    }
    Ok(())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Names of the directories right under `root`. A link to a directory is one here: nothing is walked.
pub(super) fn directories(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_dir()
        {
            names.push(name + "/");
        }
    }
    Ok(names)
}

/// None when it has vanished since the directory was read. A link to a file counts as the file; another one
/// as the link: a directory behind it is not walked, so that the walk ends.
fn metadata_of(entry: &DirEntry) -> io::Result<Option<Metadata>> {
    let metadata = match entry.metadata() {
        Ok(link) if link.is_symlink() => match fs::metadata(entry.path()) {
            Ok(target) if target.is_file() => Ok(Some(target)),
            _ => Ok(Some(link)),
        },
        other => other.map(Some),
    };
    match metadata {
        Err(error) if is_absent(&error) => Ok(None),
        metadata => metadata,
    }
}

/// By the time of the last change of any kind: the modification time is set before the file gets its name.
fn is_stale(metadata: &Metadata) -> bool {
    metadata.is_file() && is_old(metadata.ctime(), SystemTime::now())
}

fn is_old(changed: i64, now: SystemTime) -> bool {
    let changed = u64::try_from(changed).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age > STALE)
}

fn modified_ms(metadata: &Metadata) -> io::Result<i64> {
    let modified = metadata.modified()?;
    let modified = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    // The modification time is set to the file's stamp, which a wrong clock may have put into the future; the
    // kernel's own time of the file's last change cannot be set.
    let changed = metadata.ctime().saturating_mul(1000).saturating_add(metadata.ctime_nsec() / 1_000_000);
    Ok(modified.min(changed.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nfs_and_others_are_working_on_is_no_object() {
        let root = tempfile::tempdir().unwrap();
        for name in [".nfs00000000012345670000beef", "a.ltx.0123456789abcdef.tmp", "b.ltx.tmp", "c.ltx"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        let tree = walk(root.path(), "").unwrap();
        assert_eq!(tree.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["c.ltx"]);
        assert!(tree.stale.is_empty(), "{:?}", tree.stale);
    }

    #[test]
    fn a_listing_beside_a_writer_has_no_gap() {
        let root = tempfile::tempdir().unwrap();
        let name = |number: usize| format!("{number:016x}.ltx");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for number in 1..=4_000 {
                    fs::write(root.path().join(name(number)), "x").unwrap();
                }
                over.store(true, std::sync::atomic::Ordering::Release);
            });
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                let mut names: Vec<_> =
                    walk(root.path(), "").unwrap().entries.into_iter().map(|entry| entry.name).collect();
                names.sort();
                let expected: Vec<_> = (1..=names.len()).map(name).collect();
                assert!(names == expected, "{} names, the last is {:?}", names.len(), names.last());
            }
        });
    }

    /// Each of these was an empty replica once: the app would have started empty.
    #[test]
    fn what_cannot_be_read_is_not_empty() {
        use std::os::unix::fs::symlink;
        const FILE: &str = "ltx/0/0000000000000001-0000000000000001.ltx";
        let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        type Make<'a> = &'a dyn Fn(&Path);
        let cases: [(&str, Make<'_>); 9] = [
            ("ltx", &|path| symlink("/usr", path).unwrap()),
            ("ltx", &|path| symlink("ltx", path).unwrap()),
            ("ltx", &|path| symlink("nowhere", path).unwrap()),
            ("ltx", &|path| fs::write(path, "x").unwrap()),
            ("ltx/0", &|path| symlink("/usr", path).unwrap()),
            ("ltx/9", &|path| fifo(path)),
            ("generations", &|path| symlink("/usr", path).unwrap()),
            (FILE, &|path| fs::create_dir(path).unwrap()),
            (FILE, &|path| symlink("nowhere", path).unwrap()),
        ];
        for (number, (name, make)) in cases.iter().enumerate() {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
            let error =
                walk(root.path(), "").err().unwrap_or_else(|| panic!("{number}: {name} is read as empty"));
            assert!(error.to_string().contains(name), "{error}");
        }
        let root = tempfile::tempdir().unwrap();
        symlink("nowhere", root.path().join("ltx")).unwrap();
        assert!(walk(root.path(), "ltx/0/").is_err());
        symlink("nowhere", root.path().join("mount")).unwrap();
        assert!(walk(&root.path().join("mount"), "").is_err());
        // Files that are no part of the replica do not matter.
        fifo(&root.path().join("notes"));
        symlink("nowhere", root.path().join("x.ltx")).unwrap();
        fs::remove_file(root.path().join("ltx")).unwrap();
        assert!(walk(root.path(), "").unwrap().entries.is_empty());
    }

    #[test]
    fn a_day_makes_a_temporary_file_stale() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (changed, old) in [
            (1_000_000, false),
            (913_601, false),
            (913_599, true),
            (0, true),
            (-1, false),
            (2_000_000, false),
        ] {
            assert_eq!(is_old(changed, now), old, "{changed}");
        }
    }
}
