//! The TOML document that is read: its lines, the environment that its texts refer to, and the problems found
//! in it.

use super::environment::Environment;
use super::expand::{self, Expanded};
use super::problem::{ConfigError, Location, Problem};
use std::cell::RefCell;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Where a line of a document comes from that was made from another file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub line: usize,
    pub key: String,
}

pub struct Document<'a> {
    pub environment: Environment<'a>,
    file: String,
    /// Byte offset of each line's end, to turn offsets into lines.
    line_ends: Vec<usize>,
    /// One for each line, if the document was made from another file: problems then name that file's lines
    /// and keys.
    origins: &'a [Origin],
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    /// The document and its content. A syntax error ends the reading.
    pub fn parse<'t>(
        text: &'t str,
        file: &Path,
        origins: &'a [Origin],
        environment: Environment<'a>,
    ) -> Result<(Document<'a>, DeValue<'t>), ConfigError> {
        let line_ends =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let file = file.display().to_string();
        let document = Document { environment, file, line_ends, origins, problems: RefCell::default() };
        let (table, errors) = DeTable::parse_recoverable(text);
        let problem = |error: &toml::de::Error| Problem {
            location: document.location(error.span().map_or(0, |span| span.start), String::new()),
            message: error.message().lines().collect::<Vec<_>>().join(", "),
        };
        let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
        // A single mistake causes several errors in the parser; the first of a line names it.
        problems.dedup_by_key(|problem| problem.location.line);
        if problems.is_empty() {
            Ok((document, DeValue::Table(table.into_inner())))
        } else {
            Err(ConfigError::new(problems))
        }
    }

    pub fn location(&self, offset: usize, key: String) -> Location {
        let line = self.line_ends.partition_point(|end| *end < offset) + 1;
        let file = Some(self.file.clone());
        match self.origins.get(line - 1) {
            Some(origin) if origin.line > 0 => Location { file, line: origin.line, key: origin.key.clone() },
            Some(_) => Location { file, line: 0, key },
            None => Location { file, line, key },
        }
    }

    pub fn complain(&self, location: &Location, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { location: location.clone(), message: message.into() });
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// A text with its variables replaced. Only an entry of a table with free names may be empty.
    pub fn expand(&self, text: &str, may_be_empty: bool) -> Result<Expanded, String> {
        if text.is_empty() && may_be_empty {
            return Ok(Expanded::default());
        }
        let expanded = expand::expand(text, self.environment.variable).map_err(|error| error.to_string())?;
        if expanded.text.is_empty() {
            return Err("is empty: give a value or remove the key".into());
        }
        if expanded.text.contains('\0') {
            return Err("holds a NUL byte".into());
        }
        Ok(expanded)
    }

    /// Whether the value is `"${VAR:-}"` and VAR is unset or empty: the key then counts as not given.
    pub fn is_absent(&self, value: &DeValue<'_>) -> bool {
        let variable = value.as_str().and_then(expand::may_be_unset);
        variable.is_some_and(|name| (self.environment.variable)(name).is_none_or(|value| value.is_empty()))
    }
}
