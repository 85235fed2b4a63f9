//! What is wrong with a configuration, and where. Never holds a secret's value.

use std::fmt;
use std::path::Path;

/// One error in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub location: Location,
    /// The rest of a sentence that begins with the key: "is no duration …", "is an unknown key …".
    pub message: String,
}

/// Where a value is written: file, line and key, or an option of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// None: the command line or the environment.
    pub file: Option<String>,
    /// 1 is the first line; 0 if the line is not known.
    pub line: usize,
    /// `database.replica.url`, `--db`; empty for the file as a whole.
    pub key: String,
}

impl Location {
    pub fn option(name: impl Into<String>) -> Location {
        Location { key: name.into(), ..Location::default() }
    }

    pub fn file(file: &Path) -> Location {
        Location { file: Some(file.display().to_string()), ..Location::default() }
    }

    /// Another key of the same line.
    pub fn with_key(&self, key: impl Into<String>) -> Location {
        Location { key: key.into(), ..self.clone() }
    }

    /// `line 12`, or the option: how the message about one location names another.
    pub fn short(&self) -> String {
        if self.line > 0 { format!("line {}", self.line) } else { self.key.clone() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.location.file {
            write!(f, "{file}:")?;
            if self.location.line > 0 {
                write!(f, "{}:", self.location.line)?;
            }
            f.write_str(" ")?;
        }
        if !self.location.key.is_empty() {
            write!(f, "{} ", self.location.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The configuration cannot be used: exit 78. One problem per line, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub fn new(mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        problems.dedup();
        ConfigError { problems }
    }

    /// An error if there are problems.
    pub fn unless_empty(problems: Vec<Problem>) -> Result<(), ConfigError> {
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
    }

    pub fn single(location: Location, message: impl Into<String>) -> ConfigError {
        ConfigError { problems: vec![Problem { location, message: message.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
