//! `[[database]]` with `dir`: all databases of a directory, each with a replica of its own under one prefix.
//! Which names are databases, which subdirectories are searched, and what the settings of each database are.
//! Pure.
//!
//! The name of a database is its path below the directory. Its prefix in the replica has the same name, so a
//! prefix whose last part matches the pattern is a database's, and never a subdirectory's: such a
//! subdirectory is not searched.

use super::settings::DatabaseSettings;
use crate::model::db_path::SIDE_SUFFIXES;
use crate::model::{DbPath, NameProblem, name_problem};
use crate::store::Scheme;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many directories below `dir` a database can have above it.
pub const MOST_DEPTH: usize = 16;
/// Bytes of a database's prefix in the replica. With the name of an LTX file behind it, it is still the key
/// of an object, which has 1024.
const LONGEST_PREFIX: usize = 940;
/// The hand-over's records and the setup's are kept right below the entry's URL.
const RESERVED: [&str; 2] = ["owner", "setup"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    pub dir: PathBuf,
    pub pattern: Pattern,
    /// Databases that appear while the app runs are replicated, too.
    pub watch: bool,
    /// The databases of its subdirectories, too.
    pub recursive: bool,
    /// What each of them has in common; its path is the directory and its replica the prefix.
    each: DatabaseSettings,
}

impl DirectorySettings {
    pub(super) fn new(directory: Directory, each: DatabaseSettings) -> DirectorySettings {
        DirectorySettings {
            dir: each.path.as_path().to_owned(),
            pattern: directory.pattern,
            watch: directory.watch,
            recursive: directory.recursive,
            each,
        }
    }

    /// `DIR/*.db`, with `recursive` `DIR/**/*.db`: its name in messages, where a database has its path.
    pub fn databases(&self) -> PathBuf {
        let directory = if self.recursive { self.dir.join("**") } else { self.dir.clone() };
        directory.join(self.pattern.text())
    }

    /// The settings that all of them share.
    pub fn each(&self) -> &DatabaseSettings {
        &self.each
    }

    /// Whether a file, or a replica, of this name is one of its databases.
    pub fn takes(&self, name: &str) -> bool {
        takes(&self.pattern, self.recursive, name)
    }

    /// The name of the database at `path`; None if it is none of its databases.
    pub fn name_of<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.strip_prefix(&self.dir).ok()?.to_str().filter(|name| self.takes(name))
    }

    /// Whether its databases may stand in the directory `directory`.
    pub fn covers(&self, directory: &Path) -> bool {
        directory == self.dir || self.recursive && directory.starts_with(&self.dir)
    }

    /// Whether a file of this name may be a database, whatever the directory below `dir`.
    pub fn matches(&self, file_name: &str) -> bool {
        is_database_name(file_name) && self.pattern.matches(file_name)
    }

    /// Whether a subdirectory of this name is looked into. Its databases may still be barred.
    pub fn enters(&self, name: &OsStr) -> bool {
        self.recursive && !name.as_bytes().starts_with(b".")
    }

    /// Why databases right in this directory cannot be replicated, as the rest of a sentence. `directory`:
    /// its path below `dir`.
    fn barred(&self, directory: &Path) -> Option<String> {
        let name = directory.file_name()?;
        let text = name.to_str().unwrap_or_default();
        let why = if let Some(problem) = name_problem(name, self.in_bucket()) {
            problem.to_string()
        } else if self.matches(text) {
            let pattern = self.pattern.text();
            format!(
                "its name matches the pattern {pattern:?}: a prefix of that name in the replica is a \
                 database's"
            )
        } else if DirectorySettings::is_reserved(directory) {
            "in the replica, the prefix of that name is for litevisor's own records".to_owned()
        } else {
            return None;
        };
        Some(format!("it is in the directory {directory:?}, and {why}"))
    }

    /// Whether in the replica the prefix of this directory holds litevisor's own records.
    pub fn is_reserved(directory: &Path) -> bool {
        RESERVED.iter().any(|reserved| directory == Path::new(reserved))
    }

    /// Why one of its databases cannot be replicated under this name.
    pub fn problem(&self, name: &Path) -> Option<String> {
        let above = name.ancestors().skip(1).find_map(|directory| self.barred(directory));
        let own = || name_problem(name.file_name().unwrap_or_default(), self.in_bucket());
        above.or_else(|| Some(own().or_else(|| self.too_long(name))?.to_string()))
    }

    fn too_long(&self, name: &Path) -> Option<NameProblem> {
        let above = if self.in_bucket() { self.each.replica.path.len() + 1 } else { 0 };
        let bytes = above + name.as_os_str().len();
        (bytes > LONGEST_PREFIX).then_some(NameProblem::LongPath { bytes, most: LONGEST_PREFIX })
    }

    fn in_bucket(&self) -> bool {
        matches!(self.each.replica.scheme, Scheme::S3 | Scheme::Gs | Scheme::Abs)
    }

    pub fn database(&self, name: &str) -> DatabaseSettings {
        let mut one = self.each.clone();
        one.path = DbPath::new(self.dir.join(name));
        one.replica.url = format!("{}/{name}", one.replica.url.trim_end_matches('/'));
        one.replica.path = match one.replica.path.trim_end_matches('/') {
            "" if one.replica.scheme == Scheme::S3 => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        one
    }
}

/// Also for the checks across all entries. A database of a barred directory is taken, and reported later.
pub(super) fn takes(pattern: &Pattern, recursive: bool, name: &str) -> bool {
    let (above, file) = name.rsplit_once('/').map_or((None, name), |(above, file)| (Some(above), file));
    let searched = |directory: &str| !directory.is_empty() && !directory.starts_with('.');
    let above = above.is_none_or(|above| recursive && above.split('/').all(searched));
    above && is_database_name(file) && pattern.matches(file)
}

/// What beside databases lies in such a directory: SQLite's side files, files of ours and of a copy on its
/// way, and everything hidden.
fn is_database_name(name: &str) -> bool {
    let ours = [DbPath::STAGED, DbPath::ASIDE].iter().any(|mark| name.contains(mark));
    let side = SIDE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    !(name.is_empty()
        || name.starts_with('.')
        || name.contains(['/', '\0'])
        || name.ends_with(".tmp")
        || side
        || ours)
}

/// A glob on a file's name: `*` is any text, `?` one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The error is the rest of a sentence.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.contains('/') {
            return Err(
                "has a \"/\": it is compared with the file's name alone; recursive = true also searches \
                 subdirectories"
                    .into(),
            );
        }
        if text.contains("**") || text.contains(['[', ']', '{', '}', '\\']) {
            return Err("knows * and ? only".into());
        }
        Ok(Pattern(text.to_owned()))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        // Positions in the pattern that the name so far may have reached.
        let mut positions = vec![false; pattern.len() + 1];
        let step_over_stars = |positions: &mut Vec<bool>| {
            for (index, wanted) in pattern.iter().enumerate() {
                if *wanted == '*' && positions.get(index) == Some(&true) {
                    positions.get_mut(index + 1).into_iter().for_each(|next| *next = true);
                }
            }
        };
        positions.first_mut().into_iter().for_each(|first| *first = true);
        step_over_stars(&mut positions);
        for letter in &name {
            let mut next = vec![false; pattern.len() + 1];
            for (index, wanted) in
                pattern.iter().enumerate().filter(|(index, _)| positions.get(*index) == Some(&true))
            {
                let to = if *wanted == '*' { index } else { index + 1 };
                if *wanted == '*' || *wanted == '?' || wanted == letter {
                    next.get_mut(to).into_iter().for_each(|position| *position = true);
                }
            }
            step_over_stars(&mut next);
            positions = next;
        }
        positions.last() == Some(&true)
    }
}

/// What `[[database]]` with `dir` has and one with `path` has not.
pub struct Directory {
    pub pattern: Pattern,
    pub watch: bool,
    pub recursive: bool,
}

#[cfg(test)]
mod tests;
