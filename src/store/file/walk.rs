//! Lists a directory tree. In: the root and a key prefix. Out: every file whose key begins so, and what a broken upload left
//! behind long ago. Never: reports temporary files, or fails because something vanished meanwhile.

use super::errors::is_absent;
use crate::store::{Object, key};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// No upload takes that long without a write.
const STALE: Duration = Duration::from_secs(86_400);
/// What NFS calls a file that was removed while somebody had it open.
const SILLY: &str = ".nfs";

#[derive(Default)]
pub(super) struct Found {
    pub objects: Vec<Object>,
    /// Temporary files of ours that nobody works on any more.
    pub stale: Vec<PathBuf>,
}

/// A missing directory is an empty one: a new replica has none yet.
pub(super) fn walk(root: &Path, prefix: &str) -> io::Result<Found> {
    let start = prefix.rsplit_once('/').map_or("", |(parents, _)| parents);
    let mut found = Found::default();
    let mut todo = vec![start.to_owned()];
    while let Some(directory) = todo.pop() {
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
                if key::is_own_temporary(name) && look(&entry)?.is_some_and(|metadata| is_stale(&metadata)) {
                    found.stale.push(entry.path());
                }
                continue;
            }
            match look(&entry)? {
                Some(metadata) if metadata.is_dir() => todo.push(key),
                Some(metadata) if metadata.is_file() => {
                    found.objects.push(Object { key, size: metadata.len(), modified_ms: modified_ms(&metadata)? });
                }
                _ => {}
            }
        }
    }
    Ok(found)
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
            names.push(name);
        }
    }
    Ok(names)
}

/// None when it has vanished since the directory was read. A link to a file counts as the file; a link to a directory is
/// not followed, so that the walk ends.
fn look(entry: &DirEntry) -> io::Result<Option<Metadata>> {
    let metadata = match entry.metadata() {
        Ok(metadata) if metadata.is_symlink() => {
            fs::metadata(entry.path()).map(|target| target.is_file().then_some(target))
        }
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
    Ok(match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    })
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
        let found = walk(root.path(), "").unwrap();
        assert_eq!(found.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["c.ltx"]);
        assert!(found.stale.is_empty(), "{:?}", found.stale);
    }

    #[test]
    fn a_day_makes_a_temporary_file_stale() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (changed, old) in
            [(1_000_000, false), (913_601, false), (913_599, true), (0, true), (-1, false), (2_000_000, false)]
        {
            assert_eq!(is_old(changed, now), old, "{changed}");
        }
    }
}
