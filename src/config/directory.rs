//! `[[database]]` with `dir`: all databases of a directory, each with a replica of its own under one prefix. Which names are
//! databases, what the settings of each are, and which entries are in each other's way. Pure.

use super::database::Parsed;
use super::problem::Place;
use super::section::{At, Section};
use super::{DatabaseSettings, url};
use crate::model::DbPath;
use crate::model::db_path::SIDE_SUFFIXES;
use crate::store::Scheme;
use std::path::{Path, PathBuf};

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
    pub(super) fn new(many: Many, each: DatabaseSettings) -> DirectorySettings {
        DirectorySettings { dir: each.path.as_path().to_owned(), pattern: many.pattern, watch: many.watch, each }
    }

    /// The settings that all of them share.
    pub fn each(&self) -> &DatabaseSettings {
        &self.each
    }

    /// Whether a file, or a replica, of this name is one of its databases.
    pub fn takes(&self, name: &str) -> bool {
        is_database_name(name) && self.pattern.matches(name)
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
        // Places in the pattern that the name so far may have led to.
        let mut places = vec![false; pattern.len() + 1];
        let step_over_stars = |places: &mut Vec<bool>| {
            for (index, wanted) in pattern.iter().enumerate() {
                if *wanted == '*' && places.get(index) == Some(&true) {
                    places.get_mut(index + 1).into_iter().for_each(|next| *next = true);
                }
            }
        };
        places.first_mut().into_iter().for_each(|first| *first = true);
        step_over_stars(&mut places);
        for letter in &name {
            let mut next = vec![false; pattern.len() + 1];
            for (index, wanted) in pattern.iter().enumerate().filter(|(index, _)| places.get(*index) == Some(&true)) {
                let to = if *wanted == '*' { index } else { index + 1 };
                if *wanted == '*' || *wanted == '?' || wanted == letter {
                    next.get_mut(to).into_iter().for_each(|place| *place = true);
                }
            }
            step_over_stars(&mut next);
            places = next;
        }
        places.last() == Some(&true)
    }
}

/// What makes an entry one for many databases.
pub struct Many {
    pub pattern: Pattern,
    pub watch: bool,
}

/// `path`, or `dir` with `pattern` and `watch`: where the entry's databases are.
pub fn place(section: &mut Section<'_, '_>, working_dir: &Path) -> Option<(At<DbPath>, Option<Many>)> {
    let (path, dir) = (section.text("path"), section.text("dir"));
    let pattern = section.parsed("pattern", Pattern::parse).map(|at| at.value);
    let watch = section.flag("watch");
    let written = |section: &Section<'_, '_>, key: &str| section.written(key);
    if let (Some(_), Some(place)) = (written(section, "path"), written(section, "dir")) {
        section.complain(&place, "cannot be given together with path: dir is for all databases of a directory");
        return None;
    }
    if written(section, "dir").is_none() {
        for place in ["pattern", "watch"].iter().filter_map(|key| section.written(key)) {
            section.complain(&place, "belongs to dir, which names a directory of databases");
        }
        if written(section, "path").is_none() {
            section.complain(
                &section.place,
                "has no path: give the database's file, or dir for all databases of a directory",
            );
        }
        let path = path?;
        return match super::database::database_path(&path.value.text, working_dir) {
            Ok(value) => Some((At { value, place: path.place }, None)),
            Err(message) => {
                section.complain(&path.place, message);
                None
            }
        };
    }
    let dir = dir?;
    if dir.value.text.contains("://") {
        section.complain(&dir.place, "is no directory of this machine");
        return None;
    }
    let value = DbPath::new(url::absolute(Path::new(&dir.value.text), working_dir));
    let pattern = pattern.or_else(|| Pattern::parse("*.db").ok().filter(|_| written(section, "pattern").is_none()))?;
    Some((At { value, place: dir.place }, Some(Many { pattern, watch: watch.unwrap_or(false) })))
}

/// A database that two entries would replicate, or replicas inside of each other.
pub fn overlaps(databases: &[Parsed]) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    for (index, later) in databases.iter().enumerate() {
        for earlier in databases.iter().take(index).filter(|earlier| earlier.many.is_some() || later.many.is_some()) {
            let (a, b) = (earlier.settings.path.as_path(), later.settings.path.as_path());
            let both = match (&earlier.many, &later.many) {
                (Some(_), Some(_)) => a == b,
                (Some(many), None) => holds(a, many, b),
                (None, Some(many)) => holds(b, many, a),
                (None, None) => false,
            };
            if both {
                let told = format!(
                    "overlaps with {} ({}): a database would be there twice",
                    a.display(),
                    earlier.path_place.short()
                );
                found.push((later.path_place.clone(), told));
            }
            let (a, b) = (&earlier.settings.replica, &later.settings.replica);
            let same_service = a.same_service(b);
            let (from, to) = (Path::new(&a.path), Path::new(&b.path));
            if same_service && (from.starts_with(to) || to.starts_with(from)) {
                let told =
                    format!("overlaps with {} ({}): give each a prefix of its own", a.url, earlier.url_place.short());
                found.push((later.url_place.clone(), told));
            }
        }
    }
    found
}

fn holds(dir: &Path, many: &Many, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.parent() == Some(dir) && many.pattern.matches(name)
}

#[cfg(test)]
mod tests;
