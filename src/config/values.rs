//! The types of keys: values with their location, durations and sizes within a range, texts, arrays and
//! tables of names.

use super::deserialize::{self, Value};
use super::document::Document;
use super::expand::Expanded;
use super::problem::Location;
use super::units;
use crate::model::Secret;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeValue;

pub const HOUR: u64 = 3_600_000;
/// In milliseconds.
pub const DAY: u64 = 24 * HOUR;
pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// A key of a table. Without a location it is not written; without a value it is not written or not valid
/// (which the document has as a problem).
pub struct Key<T> {
    pub value: Option<T>,
    pub location: Option<Location>,
}

impl<T> Default for Key<T> {
    fn default() -> Self {
        Key { value: None, location: None }
    }
}

impl<T> Key<T> {
    pub fn or(self, default: T) -> T {
        self.value.unwrap_or(default)
    }

    pub fn is_written(&self) -> bool {
        self.location.is_some()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(deserialize::KEY, KeyVisitor(PhantomData))
    }
}

struct KeyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for KeyVisitor<T> {
    type Value = Key<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its location")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Key<T>, A::Error> {
        let file = parts.next_element()?;
        let line = parts.next_element()?.unwrap_or_default();
        let key = parts.next_element()?.unwrap_or_default();
        // An error is among the document's problems by now.
        let value = parts.next_element().unwrap_or_default();
        Ok(Key { value, location: Some(Location { file, line, key }) })
    }
}

/// Texts that the deserializer treats in a way of their own.
#[derive(serde::Deserialize)]
#[serde(rename = "$with_unit")]
struct WithUnit(String);

/// true, false, or a text: as text.
#[derive(serde::Deserialize)]
#[serde(rename = "$boolean_or_word")]
pub struct BooleanOrWord(pub String);

/// A value of a table of names; unlike elsewhere an empty text is a value.
#[derive(serde::Deserialize)]
#[serde(rename = "$may_be_empty")]
pub struct NamedText(pub String);

/// A text, and the variables that it was made of.
#[derive(serde::Deserialize)]
#[serde(rename = "$expanded")]
struct Parts(Vec<String>);

impl<'de> Deserialize<'de> for Expanded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut parts = Parts::deserialize(deserializer)?.0.into_iter();
        Ok(Expanded { text: parts.next().unwrap_or_default(), variables: parts.collect() })
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename = "an array of strings")]
pub struct Strings(pub Vec<String>);

#[derive(serde::Deserialize)]
#[serde(rename = "an array of strings")]
pub struct Spans<const MIN: u64, const MAX: u64>(pub Vec<Span<MIN, MAX>>);

#[derive(Default, serde::Deserialize)]
#[serde(rename = "an array of whole numbers")]
pub struct Counts<const MIN: u64, const MAX: u64>(pub Vec<Count<MIN, MAX>>);

/// `[[name]]`, any number of times.
#[derive(serde::Deserialize)]
#[serde(rename = "an array of tables", bound = "T: Deserialize<'de>")]
pub struct Tables<T>(pub Vec<Key<T>>);

/// A table of free names.
pub type Names = std::collections::BTreeMap<String, Key<NamedText>>;

/// A duration of `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy)]
pub struct Span<const MIN: u64, const MAX: u64>(pub Duration);

/// A size of `MIN` to `MAX` bytes.
#[derive(Clone, Copy)]
pub struct Size<const MIN: u64, const MAX: u64>(pub u64);

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy)]
pub struct Count<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        let value = units::duration(&WithUnit::deserialize(deserializer)?.0).map_err(D::Error::custom)?;
        within(value, &range, units::show_duration).map(Span)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = units::size(&WithUnit::deserialize(deserializer)?.0).map_err(D::Error::custom)?;
        within(value, &(MIN..=MAX), units::show_size).map(Size)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        within(u64::deserialize(deserializer)?, &(MIN..=MAX), |number| number.to_string()).map(Count)
    }
}

fn within<T: Copy + PartialOrd, E: Error>(
    value: T,
    range: &std::ops::RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, E> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(E::custom(format!("must be between {} and {}", show(*range.start()), show(*range.end()))))
}

/// A secret, the variables that it was made of (they are removed from the app's environment), and the file
/// that holds it.
#[derive(Default)]
pub struct SecretText {
    pub secret: Option<Secret>,
    pub variables: Vec<String>,
    pub file: Option<PathBuf>,
}

impl Document<'_> {
    /// A whole document. Its problems are collected; what is not valid is left out.
    pub fn read<T: DeserializeOwned + Default>(&self, root: &DeValue<'_>) -> T {
        T::deserialize(Value::root(self, root)).unwrap_or_default()
    }

    pub fn complain_if_written<T>(&self, key: &Key<T>, message: impl Into<String>) {
        if let Some(location) = &key.location {
            self.complain(location, message);
        }
    }

    /// A text that `check` accepts and turns into something.
    pub fn parsed<T>(&self, key: &Key<String>, check: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match check(key.value.as_ref()?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.complain_if_written(key, message);
                None
            }
        }
    }

    /// A file's absolute path.
    pub fn path(&self, key: &Key<String>) -> Option<PathBuf> {
        key.value.as_ref().map(|path| self.environment.absolute(path))
    }

    /// `NAME`, or the content of the file that `NAME_file` names.
    pub fn secret(&self, direct: &Key<Expanded>, file: &Key<String>) -> SecretText {
        if let (Some(location), Some(twice)) = (&direct.location, &file.location) {
            let name = location.key.rsplit('.').next().unwrap_or_default();
            self.complain(twice, format!("cannot be given together with {name}: keep one of the two"));
            return SecretText::default();
        }
        if let Some(Expanded { text, variables }) = &direct.value {
            return SecretText { secret: Some(Secret::new(text)), variables: variables.clone(), file: None };
        }
        let read = |name: &str| {
            let path = self.environment.working_dir.join(name);
            Ok((self.read_secret(&path)?, path))
        };
        match self.parsed(file, read) {
            Some((secret, path)) => {
                SecretText { secret: Some(secret), variables: Vec::new(), file: Some(path) }
            }
            None => SecretText::default(),
        }
    }

    fn read_secret(&self, file: &Path) -> Result<Secret, String> {
        let name = file.display();
        let bytes =
            (self.environment.read)(file).map_err(|error| format!("cannot be read: {name}: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("is not valid UTF-8: {name}"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() { Err(format!("is an empty file: {name}")) } else { Ok(Secret::new(line)) }
    }
}
