//! Lists a directory tree of the server: all files whose key begins with the prefix, and old temporary files
//! of killed runs. Something that vanishes meanwhile is no error.

use super::cause::Fault;
use super::session::Session;
use super::transfer::{Kind, Open, kind};
use super::wire::{self, Attributes, DirectoryEntry, Request};
use crate::store::key;
use crate::store::layout::{self, EntryKind};
use crate::store::paging::Entry;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

const MISFIT: &str = "is a link, or neither a file nor a directory, or the one where the other belongs: the \
    replica cannot be read; put back what belongs there";
/// Directories read at once.
const DIRECTORIES: usize = 8;
/// Requests for names under way in one directory; each brings about a hundred.
const AHEAD: usize = 8;
/// No upload takes that long without a write.
const STALE: Duration = Duration::from_secs(86_400);

#[derive(Default)]
pub(super) struct Tree {
    pub entries: Vec<Entry>,
    /// Full paths of old temporary files of litevisor's.
    pub stale: Vec<String>,
}

/// A missing directory is an empty one: a new replica has none yet.
pub(super) async fn walk(session: &Arc<Session>, root: &str, prefix: &str) -> Result<Tree, Fault> {
    let start = prefix.rsplit_once('/').map_or("", |(parents, _)| parents);
    no_link(session, root, start).await?;
    let mut todo = vec![start.to_owned()];
    let mut readers = JoinSet::new();
    let mut tree = Tree::default();
    loop {
        while readers.len() < DIRECTORIES
            && let Some(directory) = todo.pop()
        {
            let session = Arc::clone(session);
            let path = below(root, &directory);
            readers.spawn(async move { read(&session, &path).await.map(|entries| (directory, entries)) });
        }
        let Some(read) = readers.join_next().await else { return Ok(tree) };
        let (directory, entries) = read.map_err(|_| Fault::lost("the listing was broken off"))??;
        for entry in entries {
            let key = below(&directory, &entry.name);
            match entry.kind {
                _ if !key.starts_with(prefix) => {}
                kind if layout::expected_kind(&key).is_some_and(|expected| !fits(kind, expected)) => {
                    return Err(Fault::Foreign(format!("{} {MISFIT}", below(root, &key))));
                }
                Kind::File if is_stale(&entry) => tree.stale.push(below(root, &key)),
                _ if entry.name.ends_with(key::TEMP_SUFFIX) => {}
                Kind::Directory => todo.push(key),
                Kind::File => tree.entries.push(Entry {
                    name: key,
                    size: Some(entry.attributes.size.unwrap_or_default()),
                    modified_ms: Some(i64::from(entry.attributes.modified.unwrap_or_default()) * 1000),
                }),
                Kind::Link | Kind::Other => {}
            }
        }
    }
}

/// What cannot be read where a part of the replica belongs is no absence.
fn fits(kind: Kind, expected: EntryKind) -> bool {
    matches!((kind, expected), (Kind::Directory, EntryKind::Directory) | (Kind::File, EntryKind::File))
}

/// Names of the directories right under `root`.
pub(super) async fn directories(session: &Arc<Session>, root: &str) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for entry in read_directory(session, root).await? {
        let Some(name) = name(&entry) else { continue };
        let path = below(root, &name);
        // A link to a directory is one here: nothing is walked.
        let is_one = match kind_of(&entry) {
            Kind::Directory => true,
            Kind::Link => stat(session, &path).await?.is_some_and(|(kind, _)| kind == Kind::Directory),
            _ => false,
        };
        if is_one {
            names.push(name + "/");
        }
    }
    Ok(names)
}

/// The directory to begin in may be missing, but not stand behind a link.
async fn no_link(session: &Session, root: &str, start: &str) -> Result<(), Fault> {
    let mut path = root.to_owned();
    for part in start.split('/').filter(|part| !part.is_empty()) {
        path = below(&path, part);
        match session.request(&Request::LinkStat(&path)).attributes().await {
            Ok(attributes) if kind(attributes.mode) == Some(Kind::Link) => {
                return Err(Fault::Foreign(format!("{path} {MISFIT}")));
            }
            Err(fault) if fault.is(wire::ABSENT) => return Ok(()),
            Ok(_) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

struct DirectoryItem {
    name: String,
    kind: Kind,
    attributes: Attributes,
}

/// One directory's entries. A link to a file counts as the file; one to a directory is not followed, so that
/// the walk ends.
async fn read(session: &Arc<Session>, path: &str) -> Result<Vec<DirectoryItem>, Fault> {
    let mut read = Vec::new();
    for entry in read_without_gaps(session, path).await? {
        let Some(name) = name(&entry) else { continue };
        let kind = kind_of(&entry);
        if kind == Kind::Link {
            // One that leads in a circle, or nowhere, is a link all the same.
            let behind = stat(session, &below(path, &name)).await.ok().flatten();
            let (kind, attributes) = match behind {
                Some((Kind::File, attributes)) => (Kind::File, attributes),
                _ => (Kind::Link, entry.attributes),
            };
            read.push(DirectoryItem { name, kind, attributes });
            continue;
        }
        read.push(DirectoryItem { name, kind, attributes: entry.attributes });
    }
    Ok(read)
}

/// A directory is read while a writer adds files to it in the order of their names, and a later file may be
/// seen where an earlier one was not. So one that holds files is read twice: a file that comes behind the
/// last one of the first time is left to the next listing.
async fn read_without_gaps(session: &Arc<Session>, path: &str) -> Result<Vec<DirectoryEntry>, Fault> {
    let first = read_directory(session, path).await?;
    let Some(last) = first.iter().filter_map(object_name).max() else { return Ok(first) };
    let mut entries = read_directory(session, path).await?;
    entries.retain(|entry| object_name(entry).is_none_or(|name| name <= last));
    Ok(entries)
}

/// None for what is no file, and for one that has not got its name yet.
fn object_name(entry: &DirectoryEntry) -> Option<String> {
    name(entry).filter(|name| kind_of(entry) != Kind::Directory && !name.ends_with(key::TEMP_SUFFIX))
}

async fn read_directory(session: &Arc<Session>, path: &str) -> Result<Vec<DirectoryEntry>, Fault> {
    let path = if path.is_empty() { "/" } else { path };
    let directory = match session.request(&Request::OpenDirectory(path)).handle().await {
        Err(fault) if fault.is(wire::ABSENT) => return Ok(Vec::new()),
        opened => Open::new(session, opened?),
    };
    let mut entries = Vec::new();
    let mut due = VecDeque::new();
    loop {
        while due.len() < AHEAD {
            due.push_back(session.request(&Request::ReadDirectory(directory.handle())));
        }
        let Some(oldest) = due.pop_front() else { return Ok(entries) };
        match oldest.names().await {
            Ok(names) => entries.extend(names),
            Err(fault) if fault.is(wire::END) => return Ok(entries),
            Err(fault) => return Err(fault),
        }
    }
}

/// None when it has vanished since.
async fn stat(session: &Session, path: &str) -> Result<Option<(Kind, Attributes)>, Fault> {
    match session.request(&Request::Stat(path)).attributes().await {
        Ok(attributes) => Ok(Some((kind(attributes.mode).unwrap_or(Kind::Other), attributes))),
        Err(fault) if fault.is(wire::ABSENT) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// None for `.` and `..`, and for a name that is not UTF-8.
fn name(entry: &DirectoryEntry) -> Option<String> {
    let name = std::str::from_utf8(&entry.name).ok()?;
    (!matches!(name, "." | "..") && !name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

fn kind_of(entry: &DirectoryEntry) -> Kind {
    kind(entry.attributes.mode).unwrap_or(match entry.line.first() {
        Some(b'd') => Kind::Directory,
        Some(b'l') => Kind::Link,
        Some(b'-') => Kind::File,
        _ => Kind::Other,
    })
}

fn is_stale(entry: &DirectoryItem) -> bool {
    let written = entry.attributes.modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.into()));
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
    key::is_own_temporary(&entry.name) && age.is_some_and(|age| age > STALE)
}

fn below(directory: &str, name: &str) -> String {
    match (directory, name) {
        ("", name) => name.to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, name) => format!("{}/{name}", directory.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_is() {
        let entry = |name: &'static [u8], mode, line: &'static [u8]| DirectoryEntry {
            name: name.into(),
            line: line.into(),
            attributes: Attributes { mode, ..Attributes::default() },
        };
        for (mode, line, expected) in [
            (Some(0o100_600), &b"drw"[..], Kind::File),
            (Some(0o040_700), b"", Kind::Directory),
            (Some(0o120_777), b"", Kind::Link),
            (Some(0o010_600), b"", Kind::Other),
            (None, b"drwx", Kind::Directory),
            (Some(0o600), b"-rw-", Kind::File),
            (None, b"lrwx", Kind::Link),
            (None, b"", Kind::Other),
        ] {
            assert_eq!(kind_of(&entry(b"a", mode, line)), expected, "{mode:?}");
        }
        for (bytes, known) in
            [(&b"a.ltx"[..], true), (b".", false), (b"..", false), (b"../x", false), (b"\xff", false)]
        {
            assert_eq!(name(&entry(bytes, None, b"")).is_some(), known);
        }
    }

    #[test]
    fn only_old_temporaries_of_ours_are_stale() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let at = |name: &str, age: u64| {
            let modified = u32::try_from(now - age).ok();
            let attributes = Attributes { modified, ..Attributes::default() };
            is_stale(&DirectoryItem { name: name.to_owned(), kind: Kind::File, attributes })
        };
        assert!(at("a.ltx.0123456789abcdef.tmp", 90_000));
        assert!(!at("a.ltx.0123456789abcdef.tmp", 80_000));
        assert!(!at("a.ltx.17.1795327279453000000.tmp", 900_000) && !at("a.ltx", 900_000));
    }

    #[test]
    fn paths_are_put_together() {
        for (directory, name, path) in
            [("", "a", "a"), ("/r", "", "/r"), ("/r", "a/b", "/r/a/b"), ("/", "a", "/a")]
        {
            assert_eq!(below(directory, name), path);
        }
    }
}
