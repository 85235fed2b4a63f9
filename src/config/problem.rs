//! What is wrong with a configuration, and where. Never holds a secret's value.

use std::fmt;
use std::path::PathBuf;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The rest of a sentence that begins with the key: "is no duration …", "unknown key …".
    pub message: String,
}

/// Where a value was written: file and line, or the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// None: the command line or the environment.
    pub file: Option<PathBuf>,
    /// 1 is the first line; 0 where no line can be told.
    pub line: usize,
    /// `database.replica.url`, `--db`; empty for the file as a whole.
    pub key: String,
}

impl Place {
    /// A place on the command line.
    pub fn option(name: impl Into<String>) -> Place {
        Place { file: None, line: 0, key: name.into() }
    }

    /// Another key of the same line.
    pub fn with_key(&self, key: impl Into<String>) -> Place {
        Place { key: key.into(), ..self.clone() }
    }

    /// `line 12` or the option: how one problem speaks of another place.
    pub fn short(&self) -> String {
        if self.line > 0 { format!("line {}", self.line) } else { self.key.clone() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.place.file {
            write!(f, "{}:", file.display())?;
            if self.place.line > 0 {
                write!(f, "{}:", self.place.line)?;
            }
            f.write_str(" ")?;
        }
        if !self.place.key.is_empty() {
            write!(f, "{} ", self.place.key)?;
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
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems.dedup();
        ConfigError { problems }
    }

    pub fn one(place: Place, message: impl Into<String>) -> ConfigError {
        ConfigError { problems: vec![Problem { place, message: message.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
