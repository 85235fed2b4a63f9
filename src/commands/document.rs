//! What `--json` prints (docs/json.md): one document on stdout, whatever the exit status is. Every object
//! about a database has `database`, `replica`, `exit_status` and `problem`.

use super::error::{CommandError, ErrorKind, status};
use crate::observe::say;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Which database and which replica an object is about; None: not known, or none.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    pub database: Option<&'a Path>,
    pub replica: Option<&'a str>,
}

/// The array of a command that works on several databases, and the exit status of all of them.
pub struct Document {
    as_json: bool,
    errors: Vec<ErrorKind>,
    values: Vec<Value>,
}

impl Document {
    pub fn new(as_json: bool) -> Document {
        Document { as_json, errors: Vec::new(), values: Vec::new() }
    }

    pub fn succeeded(&mut self, place: Place<'_>, own: impl FnOnce() -> Value) {
        if self.as_json {
            self.values.push(object(place, 0, None, own()));
        }
    }

    /// `own`: what is known all the same.
    pub fn failed(&mut self, place: Place<'_>, error: &CommandError, own: Value) {
        self.errors.push(error.kind);
        self.add(object(place, error.kind.status(), Some(&error.message()), own), None);
    }

    /// A finished object; `error` counts for the exit status.
    pub fn add(&mut self, value: Value, error: Option<ErrorKind>) {
        self.errors.extend(error);
        if self.as_json {
            self.values.push(value);
        }
    }

    /// Prints the array, and returns the exit status.
    pub fn finish(self) -> u8 {
        if self.as_json {
            print(&Value::Array(self.values));
        }
        status(self.errors)
    }
}

/// An object about one database.
pub fn object(place: Place<'_>, exit_status: u8, problem: Option<&str>, own: Value) -> Value {
    let common = json!({
        "database": place.database.map(Path::to_string_lossy),
        "replica": place.replica,
        "exit_status": exit_status,
        "problem": problem,
    });
    merged(common, own)
}

/// The document of a command that failed before it came to a database. `list`: it is of a command that prints
/// an array.
pub fn print_failure(list: bool, exit_status: u8, problem: &str) {
    print(&match list {
        true => json!([object(Place::default(), exit_status, Some(problem), Value::Null)]),
        false => outcome(exit_status, Some(problem)),
    });
}

/// What the object of a command that is not about single databases begins with.
pub fn outcome(exit_status: u8, problem: Option<&str>) -> Value {
    json!({ "exit_status": exit_status, "problem": problem })
}

/// The keys of both objects.
pub fn merged(first: Value, second: Value) -> Value {
    let keys = |value| if let Value::Object(keys) = value { keys } else { Map::new() };
    Value::Object(keys(first).into_iter().chain(keys(second)).collect())
}

pub fn print(value: &Value) {
    say(&format!("{value:#}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_the_same_four_keys() {
        let place = Place { database: Some(Path::new("/d/a.db")), replica: Some("s3://b/a") };
        let expected = json!({ "database": "/d/a.db", "replica": "s3://b/a", "exit_status": 0, "problem": null, "files": 2 });
        assert_eq!(object(place, 0, None, json!({ "files": 2 })), expected);
        let mut document = Document::new(true);
        document.succeeded(place, || json!({}));
        document.failed(
            Place::default(),
            &CommandError::new(ErrorKind::Damaged, "x is damaged"),
            Value::Null,
        );
        let failed =
            json!({ "database": null, "replica": null, "exit_status": 65, "problem": "x is damaged" });
        assert_eq!(document.values.get(1), Some(&failed));
        assert_eq!(status(document.errors), 65);
    }
}
