//! Entries that exclude each other: a database that two entries would replicate, and replicas that share a
//! place. Pure.

use super::database::Parsed;
use super::directory::{self, Directory};
use super::problem::Location;
use std::path::Path;

/// Each problem with the location of the later entry. Two writers on one replica would fence each other off.
pub fn overlaps(databases: &[Parsed]) -> Vec<(Location, String)> {
    let mut found = Vec::new();
    for (index, later) in databases.iter().enumerate() {
        meta_dir(later, databases, &mut found);
        for earlier in databases.iter().take(index) {
            if earlier.directory.is_none() && later.directory.is_none() {
                same_database(earlier, later, &mut found);
            } else {
                within_directory(earlier, later, &mut found);
            }
        }
        if Path::new(&later.settings.replica.path) == later.settings.path.as_path() {
            found.push((
                later.url_location.clone(),
                "is the database's own path: name another directory".into(),
            ));
        }
    }
    found
}

/// In a directory that is searched, the files of a `meta_dir` could pass for the app's.
fn meta_dir(parsed: &Parsed, databases: &[Parsed], found: &mut Vec<(Location, String)>) {
    let (Some(meta_dir), Some(location)) = (&parsed.settings.meta_dir, &parsed.meta_location) else { return };
    for other in databases {
        let path = other.settings.path.as_path();
        let inside = match &other.directory {
            Some(directory) => meta_dir == path || directory.recursive && meta_dir.starts_with(path),
            None => Some(meta_dir.as_path()) == path.parent(),
        };
        if inside {
            let message = format!("is in the directory of {}: name one outside of it", path.display());
            return found.push((location.clone(), message));
        }
    }
}

fn same_database(earlier: &Parsed, later: &Parsed, found: &mut Vec<(Location, String)>) {
    let a = &earlier.settings;
    let b = &later.settings;
    if a.path == b.path {
        let message = format!("is configured twice: {} ({})", b.path, earlier.path_location.short());
        found.push((later.path_location.clone(), message));
    }
    if a.replica.same_service(&b.replica) && a.replica.path == b.replica.path {
        let line = earlier.url_location.short();
        let message =
            format!("is the replica of {} already ({line}): every database needs a path of its own", a.path);
        found.push((later.url_location.clone(), message));
    }
}

fn within_directory(earlier: &Parsed, later: &Parsed, found: &mut Vec<(Location, String)>) {
    let a = earlier.settings.path.as_path();
    let b = later.settings.path.as_path();
    let both = match (&earlier.directory, &later.directory) {
        (Some(first), Some(second)) => {
            a == b || first.recursive && b.starts_with(a) || second.recursive && a.starts_with(b)
        }
        (Some(directory), None) => holds(a, directory, b),
        (None, Some(directory)) => holds(b, directory, a),
        (None, None) => false,
    };
    if both {
        let line = earlier.path_location.short();
        let message = format!("overlaps with {} ({line}): a database would be there twice", a.display());
        found.push((later.path_location.clone(), message));
    }
    let a = &earlier.settings.replica;
    let b = &later.settings.replica;
    let from = Path::new(&a.path);
    let to = Path::new(&b.path);
    if a.same_service(b) && (from.starts_with(to) || to.starts_with(from)) {
        let line = earlier.url_location.short();
        let message = format!("overlaps with {} ({line}): give each a prefix of its own", a.url);
        found.push((later.url_location.clone(), message));
    }
}

fn holds(dir: &Path, directory: &Directory, path: &Path) -> bool {
    let name = path.strip_prefix(dir).ok().and_then(Path::to_str);
    name.is_some_and(|name| directory::takes(&directory.pattern, directory.recursive, name))
}
