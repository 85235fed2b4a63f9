//! One table of the file: hands out its values by name and type, and complains about everything nobody asked for.
//! What is asked for is what is valid, so a key cannot be known and ignored. Pure but for the files of secrets, which
//! are read through the handed-in function.

use super::expand::{self, expand};
use super::nearest::hint;
use super::problem::Place;
use super::reader::Reader;
use super::units;
use crate::model::Secret;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub place: Place,
}

/// A string after expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub variables: Vec<String>,
}

/// A secret, the variables that it was made of (the app's environment is cleaned of them), and the file that it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretText {
    pub secret: Secret,
    pub variables: Vec<String>,
    pub file: Option<PathBuf>,
}

struct Entry<'t> {
    name: String,
    offset: usize,
    value: Option<DeValue<'t>>,
    /// `"${VAR:-}"` with nothing in VAR: as if it were not written.
    absent: bool,
}

pub struct Section<'r, 't> {
    reader: &'r Reader<'r>,
    /// Dotted name; empty for the file itself.
    name: String,
    pub place: Place,
    entries: Vec<Entry<'t>>,
    known: Vec<String>,
}

impl<'r, 't> Section<'r, 't> {
    pub fn root(reader: &'r Reader<'r>, table: DeTable<'t>) -> Section<'r, 't> {
        Section::new(reader, String::new(), reader.place(0, String::new()), table)
    }

    fn new(reader: &'r Reader<'r>, name: String, place: Place, table: DeTable<'t>) -> Section<'r, 't> {
        let absent = |value: &DeValue<'_>| match value {
            DeValue::String(text) => expand::may_be_unset(text).is_some_and(|name| is_unset(reader, name)),
            _ => false,
        };
        let entries = table.into_iter().map(|(key, value)| Entry {
            offset: key.span().start,
            name: key.into_inner().into_owned(),
            absent: absent(value.get_ref()),
            value: Some(value.into_inner()),
        });
        Section { reader, name, place, entries: entries.collect(), known: Vec::new() }
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &str) -> Option<At<DeValue<'t>>> {
        self.known.push(key.to_owned());
        let dotted = self.dotted(key);
        let entry = self.entries.iter_mut().find(|entry| entry.name == key)?;
        let place = self.reader.place(entry.offset, dotted);
        entry.value.take().filter(|_| !entry.absent).map(|value| At { value, place })
    }

    pub fn complain(&self, place: &Place, message: impl Into<String>) {
        self.reader.complain(place, message);
    }

    /// Where `key` was written, when it was; asking does not make it valid.
    pub fn written(&self, key: &str) -> Option<Place> {
        let entry = self.entries.iter().find(|entry| entry.name == key && !entry.absent)?;
        Some(self.reader.place(entry.offset, self.dotted(key)))
    }

    fn wrong_type(&self, found: &At<DeValue<'t>>, wanted: &str) {
        self.complain(&found.place, format!("must be {wanted}, not {}", type_name(&found.value)));
    }

    pub fn text(&mut self, key: &str) -> Option<At<Text>> {
        let found = self.take(key)?;
        self.as_text(found)
    }

    fn as_text(&self, found: At<DeValue<'t>>) -> Option<At<Text>> {
        let DeValue::String(text) = &found.value else {
            self.wrong_type(&found, "a string");
            return None;
        };
        match expand(text, self.reader.outside.env) {
            Ok(expanded) if expanded.text.is_empty() => {
                self.complain(&found.place, "is empty: give a value or remove the key");
                None
            }
            Ok(expanded) if expanded.text.contains('\0') => {
                self.complain(&found.place, "holds a NUL byte");
                None
            }
            Ok(expanded) => {
                let value = Text { text: expanded.text, variables: expanded.variables };
                Some(At { value, place: found.place })
            }
            Err(error) => {
                self.complain(&found.place, error.to_string());
                None
            }
        }
    }

    /// A string that `check` accepts and turns into something.
    pub fn parsed<T>(&mut self, key: &str, check: impl Fn(&str) -> Result<T, String>) -> Option<At<T>> {
        let text = self.text(key)?;
        match check(&text.value.text) {
            Ok(value) => Some(At { value, place: text.place }),
            Err(message) => {
                self.complain(&text.place, message);
                None
            }
        }
    }

    /// One of a fixed set of words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let parsed = self.parsed(key, |text| match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                Err(format!("cannot be \"{text}\"{} (one of {})", hint(text, names.clone()), names.join(", ")))
            }
        });
        parsed.map(|at| at.value)
    }

    pub fn texts(&mut self, key: &str) -> Option<At<Vec<Text>>> {
        let found = self.take(key)?;
        let DeValue::Array(items) = &found.value else {
            self.wrong_type(&found, "an array of strings");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let place = self.reader.place(item.span().start, found.place.key.clone());
            texts.push(self.as_text(At { value: item.get_ref().clone(), place })?.value);
        }
        Some(At { value: texts, place: found.place })
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let found = self.take(key)?;
        if let DeValue::Boolean(value) = found.value {
            return Some(value);
        }
        self.wrong_type(&found, "true or false");
        None
    }

    /// A whole number within `range`.
    pub fn count(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let found = self.take(key)?;
        self.as_count(&found, &range)
    }

    /// An array of them; None when one is wrong.
    pub fn counts(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<Vec<u64>> {
        let found = self.take(key)?;
        let DeValue::Array(items) = &found.value else {
            self.wrong_type(&found, "an array of whole numbers");
            return None;
        };
        let mut counts = Vec::new();
        for item in items.iter() {
            let place = self.reader.place(item.span().start, found.place.key.clone());
            counts.push(self.as_count(&At { value: item.get_ref().clone(), place }, &range)?);
        }
        Some(counts)
    }

    fn as_count(&self, found: &At<DeValue<'t>>, range: &std::ops::RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = &found.value else {
            self.wrong_type(found, "a whole number");
            return None;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.complain(&found.place, format!("must be between {} and {}", range.start(), range.end()));
        }
        value
    }

    pub fn duration(&mut self, key: &str, range: std::ops::RangeInclusive<Duration>) -> Option<At<Duration>> {
        self.with_unit(key, units::duration, units::show_duration, range)
    }

    /// An array of them; None when one is wrong.
    pub fn durations(&mut self, key: &str, range: std::ops::RangeInclusive<Duration>) -> Option<At<Vec<Duration>>> {
        let texts = self.texts(key)?;
        let mut spans = Vec::new();
        for text in texts.value {
            match units::duration(&text.text) {
                Ok(span) if range.contains(&span) => spans.push(span),
                Ok(_) => {
                    let (least, most) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
                    self.complain(&texts.place, format!("must be between {least} and {most} each"));
                    return None;
                }
                Err(message) => {
                    self.complain(&texts.place, message);
                    return None;
                }
            }
        }
        Some(At { value: spans, place: texts.place })
    }

    pub fn size(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.with_unit(key, units::size, units::show_size, range).map(|at| at.value)
    }

    fn with_unit<T: Copy + PartialOrd>(
        &mut self,
        key: &str,
        parse: fn(&str) -> Result<T, String>,
        show: fn(T) -> String,
        range: std::ops::RangeInclusive<T>,
    ) -> Option<At<T>> {
        let found = self.take(key)?;
        let text = match &found.value {
            // A bare number is the usual slip: answer with the unit that is missing, not with types.
            DeValue::Integer(number) => number.as_str().to_owned(),
            _ => self.as_text(found.clone())?.value.text,
        };
        match parse(&text) {
            Ok(value) if range.contains(&value) => Some(At { value, place: found.place }),
            Ok(_) => {
                let told = format!("must be between {} and {}", show(*range.start()), show(*range.end()));
                self.complain(&found.place, told);
                None
            }
            Err(message) => {
                self.complain(&found.place, message);
                None
            }
        }
    }

    /// `key`, or the content of the file that `key_file` names.
    pub fn secret(&mut self, key: &str) -> Option<At<SecretText>> {
        let by_file = format!("{key}_file");
        let both = self.written(key).and(self.written(&by_file));
        let direct = self.text(key);
        let file = self.text(&by_file);
        if let Some(place) = both {
            self.complain(&place, format!("cannot be given together with {key}: keep one of the two"));
            return None;
        }
        if let Some(At { value, place }) = direct {
            let value = SecretText { secret: Secret::new(value.text), variables: value.variables, file: None };
            return Some(At { value, place });
        }
        let At { value: file, place } = file?;
        let file = self.reader.outside.working_dir.join(file.text);
        match self.read_secret(&file) {
            Ok(secret) => Some(At { value: SecretText { secret, variables: Vec::new(), file: Some(file) }, place }),
            Err(message) => {
                self.complain(&place, message);
                None
            }
        }
    }

    fn read_secret(&self, file: &Path) -> Result<Secret, String> {
        let bytes =
            (self.reader.outside.read)(file).map_err(|error| format!("cannot be read: {}: {error}", file.display()))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("is not valid UTF-8: {}", file.display()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() { Err(format!("is an empty file: {}", file.display())) } else { Ok(Secret::new(line)) }
    }

    pub fn table(&mut self, key: &str) -> Option<Section<'r, 't>> {
        let found = self.take(key)?;
        match found.value {
            DeValue::Table(table) => Some(Section::new(self.reader, self.dotted(key), found.place, table)),
            _ => {
                self.wrong_type(&found, &format!("a table: write [{}]", self.dotted(key)));
                None
            }
        }
    }

    /// `[[key]]`, any number of times.
    pub fn tables(&mut self, key: &str) -> Vec<Section<'r, 't>> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let dotted = self.dotted(key);
        let DeValue::Array(items) = found.value else {
            self.wrong_type(&found, &format!("an array of tables: write [[{dotted}]] with two brackets"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            let place = self.reader.place(Spanned::span(&item).start, dotted.clone());
            match item.into_inner() {
                DeValue::Table(table) => sections.push(Section::new(self.reader, dotted.clone(), place, table)),
                value => self.wrong_type(&At { value, place }, &format!("a table: write [[{dotted}]]")),
            }
        }
        sections
    }

    /// A table of free names with string values.
    pub fn pairs(&mut self, key: &str) -> Vec<(At<String>, Text)> {
        let Some(section) = self.table(key) else { return Vec::new() };
        let mut pairs = Vec::new();
        for entry in &section.entries {
            let place = section.reader.place(entry.offset, section.dotted(&entry.name));
            let Some(value) = entry.value.clone() else { continue };
            // Unlike elsewhere an empty text is a value here: an empty variable is not an unset one.
            let empty = matches!(&value, DeValue::String(text) if text.is_empty());
            let text = if empty {
                Some(Text { text: String::new(), variables: Vec::new() })
            } else {
                section.as_text(At { value, place: place.clone() }).map(|at| at.value)
            };
            if let Some(text) = text {
                pairs.push((At { value: entry.name.clone(), place }, text));
            }
        }
        pairs
    }

    /// Everything left over is unknown; `special` says more about some names.
    pub fn finish(self, special: &[(&str, &str)]) {
        for entry in self.entries.iter().filter(|entry| entry.value.is_some()) {
            let place = self.reader.place(entry.offset, self.dotted(&entry.name));
            let known = || self.known.iter().map(String::as_str);
            let what = if is_table(entry.value.as_ref()) { "table" } else { "key" };
            let message = match special.iter().find(|(name, _)| *name == entry.name) {
                Some((_, told)) => (*told).to_owned(),
                None => match super::nearest::nearest(&entry.name, known()) {
                    Some(name) => format!("is an unknown {what}, did you mean \"{name}\"?"),
                    None => format!("is an unknown {what}; valid here: {}", known().collect::<Vec<_>>().join(", ")),
                },
            };
            self.complain(&place, message);
        }
    }
}

fn is_unset(reader: &Reader<'_>, name: &str) -> bool {
    (reader.outside.env)(name).is_none_or(|value| value.is_empty())
}

fn is_table(value: Option<&DeValue<'_>>) -> bool {
    match value {
        Some(DeValue::Table(_)) => true,
        Some(DeValue::Array(items)) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
