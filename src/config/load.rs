//! Finds the configuration file and reads it. The only part of `config` that looks at the disk on its own.

use super::checked::Checked;
use super::environment::Environment;
use super::parse::{Additions, Purpose, parse, parse_litestream};
use super::problem::{ConfigError, Location};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A configuration and the file that it came from.
#[derive(Debug)]
pub struct Loaded {
    pub checked: Checked,
    /// None: from the command line alone.
    pub file: Option<PathBuf>,
}

/// Where the file may be, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Search {
    /// This file, or an error.
    Only(PathBuf),
    /// The first of these that exists, or an error.
    First(Vec<PathBuf>),
    /// The command line names the databases: no file is read.
    NoFile,
}

fn search(explicit: Option<&Path>, has_pairs: bool, env: &dyn Fn(&str) -> Option<OsString>) -> Search {
    if let Some(file) = explicit {
        return Search::Only(file.to_owned());
    }
    if has_pairs {
        return Search::NoFile;
    }
    match env("LITEVISOR_CONFIG").filter(|value| !value.is_empty()) {
        Some(file) => Search::Only(file.into()),
        None => Search::First(vec!["supervisor.toml".into(), "/etc/litevisor/supervisor.toml".into()]),
    }
}

pub fn load(
    explicit: Option<&Path>,
    additions: &Additions,
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Loaded, ConfigError> {
    let source = match search(explicit, !additions.pairs.is_empty(), environment.variable) {
        Search::NoFile => None,
        Search::Only(file) => Some((read(&file, environment)?.ok_or_else(|| missing(&file))?, file)),
        Search::First(candidates) => first(&candidates, purpose, environment)?,
    };
    let checked = match source.as_ref().map(|(text, file)| (text.as_str(), file.as_path())) {
        Some(source) if is_litestream(source.1) => parse_litestream(source, additions, purpose, environment)?,
        source => parse(source, additions, purpose, environment)?,
    };
    Ok(Loaded { checked, file: source.map(|(_, file)| file) })
}

fn first(
    candidates: &[PathBuf],
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Option<(String, PathBuf)>, ConfigError> {
    for file in candidates {
        if let Some(text) = read(file, environment)? {
            return Ok(Some((text, file.clone())));
        }
    }
    if purpose == Purpose::Ask {
        return Ok(None);
    }
    let names: Vec<String> = candidates.iter().map(|file| file.display().to_string()).collect();
    let mut message = format!(
        "no configuration found: $LITEVISOR_CONFIG is not set, and there is no {}. Name a file with --config",
        names.join(" and no ")
    );
    if purpose == Purpose::Run {
        message.push_str(
            ", or do without one:\n  litevisor run --db /data/app.db --replica s3://bucket/app -- \
             /usr/bin/app",
        );
    }
    Err(ConfigError::single(Location::default(), message))
}

/// Litestream's configurations are YAML, ours are not.
fn is_litestream(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// A file that `litevisor import` names, as text.
pub fn read_text(file: &Path, environment: Environment<'_>) -> Result<String, ConfigError> {
    read(file, environment)?.ok_or_else(|| missing(file))
}

/// None: there is no such file.
fn read(file: &Path, environment: Environment<'_>) -> Result<Option<String>, ConfigError> {
    let fail = |message: &str| Err(ConfigError::single(Location::file(file), message));
    match (environment.read)(&environment.working_dir.join(file)) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => fail("is not valid UTF-8"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => fail(&format!("cannot be read: {error}")),
    }
}

fn missing(file: &Path) -> ConfigError {
    ConfigError::single(Location::file(file), "does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_searched() {
        let named = |name: &str| (name == "LITEVISOR_CONFIG").then(|| OsString::from("/env.toml"));
        let empty = |name: &str| (name == "LITEVISOR_CONFIG").then(OsString::new);
        let none = |_: &str| None;
        let usual = Search::First(vec!["supervisor.toml".into(), "/etc/litevisor/supervisor.toml".into()]);
        let explicit = Some(Path::new("x.toml"));
        for (explicit, pairs, env, expected) in [
            (None, false, &none as &dyn Fn(&str) -> Option<OsString>, usual.clone()),
            (None, false, &empty, usual),
            (None, false, &named, Search::Only("/env.toml".into())),
            (None, true, &named, Search::NoFile),
            (explicit, false, &named, Search::Only("x.toml".into())),
            (explicit, true, &named, Search::Only("x.toml".into())),
        ] {
            assert_eq!(search(explicit, pairs, env), expected, "{explicit:?} {pairs}");
        }
    }
}
