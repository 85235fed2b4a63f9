//! One mapping of the YAML tree: its values by name and type, with their lines. A key is valid if the code
//! asks for it; `finish` reports all others.

use super::variables;
use super::yaml::{Entry, Node, Value};
use crate::config::nearest;
use crate::config::problem::{Location, Problem};
use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;

/// What all tables of one file share.
pub struct Reading<'a> {
    pub file: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reading<'a> {
    pub fn new(file: &'a Path, env: &'a dyn Fn(&str) -> Option<OsString>) -> Reading<'a> {
        Reading { file, env, problems: RefCell::default() }
    }

    pub fn complain(&self, line: usize, key: &str, message: impl Into<String>) {
        let location = Location { line, key: key.to_owned(), ..Location::file(self.file) };
        self.problems.borrow_mut().push(Problem { location, message: message.into() });
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub line: usize,
    /// Dotted: `dbs[0].replica.url`.
    pub key: String,
}

pub struct Table<'r> {
    pub reading: &'r Reading<'r>,
    pub name: String,
    pub line: usize,
    entries: Vec<(Entry, bool)>,
    known: Vec<String>,
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Scalar(text) => Some(text.clone()),
        _ => None,
    }
}

impl<'r> Table<'r> {
    /// Nothing at all is an empty table.
    pub fn new(reading: &'r Reading<'r>, name: String, node: Node) -> Table<'r> {
        let line = node.line;
        let entries = match node.value {
            Value::Map(entries) => entries.into_iter().map(|entry| (entry, false)).collect(),
            Value::Null => Vec::new(),
            _ => {
                reading.complain(line, &name, "must be a table of keys and values");
                Vec::new()
            }
        };
        Table { reading, name, line, entries, known: Vec::new() }
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The value of `key`, unless it is empty: nothing and an empty text are the same to Litestream.
    pub fn take(&mut self, key: &str) -> Option<Located<Value>> {
        self.known.push(key.to_owned());
        let dotted = self.dotted(key);
        let (entry, taken) = self.entries.iter_mut().find(|(entry, _)| entry.key == key)?;
        *taken = true;
        let empty = match &entry.node.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            _ => false,
        };
        (!empty).then(|| Located { value: entry.node.value.clone(), line: entry.line, key: dotted })
    }

    pub fn complain<T>(&self, at: &Located<T>, message: impl Into<String>) {
        self.reading.complain(at.line, &at.key, message);
    }

    /// A text, with its variables marked and checked.
    pub fn text(&mut self, key: &str) -> Option<Located<String>> {
        let found = self.take(key)?;
        let Value::Scalar(text) = &found.value else {
            self.complain(&found, "must be a single value");
            return None;
        };
        if let Some(problem) = variables::problem(text) {
            self.complain(&found, problem);
            return None;
        }
        Some(Located { value: text.clone(), line: found.line, key: found.key })
    }

    /// A list of texts as one text.
    pub fn words(&mut self, key: &str) -> Option<Located<String>> {
        let found = self.take(key)?;
        let words: Option<Vec<String>> = match &found.value {
            Value::Scalar(text) => Some(vec![text.clone()]),
            Value::List(items) => items.iter().map(|item| scalar(&item.value)).collect(),
            Value::Map(_) | Value::Null => None,
        };
        match words {
            Some(words) => Some(Located { line: found.line, key: found.key, value: words.join(" ") }),
            None => {
                self.complain(&found, "must be a list of texts");
                None
            }
        }
    }

    pub fn flag(&mut self, key: &str) -> Option<Located<bool>> {
        let found = self.text(key)?;
        let text = variables::value(&found.value, self.reading.env);
        // As YAML 1.1 has them, which Litestream reads.
        let value = match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "y") => true,
            Some("false" | "no" | "off" | "n") => false,
            _ => {
                self.complain(&found, "must be true or false");
                return None;
            }
        };
        Some(Located { value, line: found.line, key: found.key })
    }

    pub fn number(&mut self, key: &str) -> Option<Located<u64>> {
        let found = self.text(key)?;
        let number = variables::value(&found.value, self.reading.env).and_then(|text| text.parse().ok());
        if number.is_none() {
            self.complain(&found, "must be a whole number");
        }
        Some(Located { value: number?, line: found.line, key: found.key })
    }

    pub fn table(&mut self, key: &str) -> Option<Table<'r>> {
        let found = self.take(key)?;
        Some(Table::new(self.reading, found.key, Node { line: found.line, value: found.value }))
    }

    /// A list of tables.
    pub fn tables(&mut self, key: &str) -> Option<Vec<Table<'r>>> {
        let found = self.take(key)?;
        let Value::List(items) = found.value else {
            self.reading.complain(found.line, &found.key, "must be a list: begin each entry with \"- \"");
            return None;
        };
        let table = |(index, node)| Table::new(self.reading, format!("{}[{index}]", found.key), node);
        Some(items.into_iter().enumerate().map(table).collect())
    }

    /// Everything left over is unknown.
    pub fn finish(self) {
        let known = || self.known.iter().map(String::as_str);
        for (entry, _) in self.entries.iter().filter(|(_, taken)| !taken) {
            let hint = match nearest::nearest(&entry.key, known()) {
                Some(name) => format!(", did you mean \"{name}\"?"),
                None => " in a Litestream configuration".into(),
            };
            self.reading.complain(entry.line, &self.dotted(&entry.key), format!("is an unknown key{hint}"));
        }
    }
}
