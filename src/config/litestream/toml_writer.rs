//! The text of a supervisor.toml while it is made: lines with what they come from, comments on what has no
//! counterpart, and what is worth a warning when the text is run at once. Pure.

use super::table::Located;
use crate::config::document::Origin;

#[derive(Debug, Default)]
pub struct TomlWriter {
    pub text: String,
    /// One for each line of the text.
    pub origins: Vec<Origin>,
    pub warnings: Vec<String>,
}

impl TomlWriter {
    fn push(&mut self, line: &str, origin: Origin) {
        for part in line.split('\n') {
            self.text.push_str(part);
            self.text.push('\n');
            self.origins.push(origin.clone());
        }
    }

    pub fn section(&mut self, header: &str, line: usize, key: &str) {
        if !self.text.is_empty() {
            self.push("", Origin::default());
        }
        self.push(header, Origin { line, key: key.to_owned() });
    }

    /// `key = value`, the value being TOML.
    pub fn set<T>(&mut self, key: &str, value: &str, from: &Located<T>) {
        self.push(&format!("{key} = {value}"), Origin { line: from.line, key: from.key.clone() });
    }

    pub fn comment(&mut self, text: &str) {
        self.push(&format!("# {text}"), Origin::default());
    }

    /// A key that needs no counterpart: a comment.
    pub fn skip<T>(&mut self, from: &Located<T>, why: &str) {
        let name = from.key.rsplit('.').next().unwrap_or(&from.key);
        self.comment(&format!("{name} (line {}): {why}", from.line));
    }

    /// A key without a counterpart that a user may rely on: a comment and a warning.
    pub fn lose<T>(&mut self, from: &Located<T>, why: &str) {
        self.skip(from, why);
        self.warnings.push(format!("{} (line {}): {why}", from.key, from.line));
    }
}
