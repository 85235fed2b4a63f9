//! `[[database]]` with `dir`: all databases of a directory, each with a replica of its own under one prefix. Which names are
//! databases, what the settings of each are, and which entries are in each other's way. Pure.

use super::settings::DatabaseSettings;
use crate::model::db_path::SIDE_SUFFIXES;
use crate::model::{DbPath, NameProblem, name_problem};
use crate::store::Scheme;
use std::ffi::OsStr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    pub dir: PathBuf,
    pub pattern: Pattern,
    /// Databases that appear while the app runs are replicated, too.
    pub watch: bool,
    /// What each of them has in common; its path is the directory and its replica the prefix.
    each: DatabaseSettings,
}

impl DirectorySettings {
    pub(super) fn new(directory: Directory, each: DatabaseSettings) -> DirectorySettings {
        DirectorySettings {
            dir: each.path.as_path().to_owned(),
            pattern: directory.pattern,
            watch: directory.watch,
            each,
        }
    }

    /// The settings that all of them share.
    pub fn each(&self) -> &DatabaseSettings {
        &self.each
    }

    /// Whether a file, or a replica, of this name is one of its databases.
    pub fn takes(&self, name: &str) -> bool {
        is_database_name(name) && self.pattern.matches(name)
    }

    /// Why one of its databases cannot be replicated under this name.
    pub fn problem(&self, name: &OsStr) -> Option<NameProblem> {
        name_problem(name, matches!(self.each.replica.scheme, Scheme::S3 | Scheme::Gs | Scheme::Abs))
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

/// What beside databases lies in such a directory: SQLite's side files, files of ours and of a copy on its way, and everything
/// hidden.
fn is_database_name(name: &str) -> bool {
    let ours = [DbPath::STAGED, DbPath::ASIDE].iter().any(|mark| name.contains(mark));
    let side = SIDE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    !(name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.ends_with(".tmp") || side || ours)
}

/// A glob on a file's name: `*` is any text, `?` one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The error is the rest of a sentence.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.contains('/') {
            return Err("has a \"/\": it is compared with the file's name alone, in dir and not below it".into());
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
            for (index, wanted) in pattern.iter().enumerate().filter(|(index, _)| positions.get(*index) == Some(&true))
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
}

#[cfg(test)]
mod tests;
