//! A TOML document as a serde format that reports every problem with its file, line, key and the nearest
//! valid name.
//!
//! Serde ends at the first error. Here the value that cannot be read is reported where it stands, and
//! `values::Key` leaves it out, so that the rest of its table is read. A struct's fields are its valid keys:
//! there is no second list of them. The names below are given to types that need more of the document than a
//! plain value (as `toml::Spanned` does it).

use super::document::Document;
use super::nearest::{hint, nearest};
use super::problem::Location;
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;
use toml::Spanned;
use toml::de::{DeString, DeValue};

/// The value and its location.
pub const KEY: &str = "$key";
/// A text, or a number whose unit is missing.
const WITH_UNIT: &str = "$with_unit";
/// A text, or a boolean, which becomes one.
const BOOLEAN_OR_WORD: &str = "$boolean_or_word";
/// A text that may be empty.
const MAY_BE_EMPTY: &str = "$may_be_empty";
/// A text, followed by the variables that it was made of.
const EXPANDED: &str = "$expanded";
/// Types of this name, and of other names that begin with `ARRAY`, are arrays; the name is what a message
/// calls them.
const ARRAY_OF_TABLES: &str = "an array of tables";
const ARRAY: &str = "an array of ";

/// Keys that are no keys, and what to write instead.
const MISPLACED: [(&str, &str); 5] = [
    ("database.sync_interval", "belongs into [database.replica]"),
    ("database.url", "belongs into [database.replica]"),
    ("database.snapshot.retention", "is written as retention = { snapshots = \"24h\" }"),
    (
        "database.replica.skip_verify",
        "does not exist: certificates are always verified; name your own CA with ca_file",
    ),
    (
        "database.replica.account_name",
        "does not exist: the account stands in the url, abs://ACCOUNT@container/prefix",
    ),
];

#[derive(Debug)]
pub struct Error {
    message: String,
    /// The document has it already.
    reported: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error { message: message.to_string(), reported: false }
    }
}

/// A value of the document.
pub struct Value<'d, 't> {
    document: &'d Document<'d>,
    value: &'d DeValue<'t>,
    location: Location,
}

impl<'d, 't> Value<'d, 't> {
    pub fn root(document: &'d Document<'d>, value: &'d DeValue<'t>) -> Value<'d, 't> {
        Value { document, value, location: document.location(0, String::new()) }
    }

    fn wrong_type(&self, wanted: &str) -> Error {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a floating-point number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        de::Error::custom(format!("must be {wanted}, not {found}"))
    }

    fn expanded(&self, may_be_empty: bool) -> Result<super::expand::Expanded, Error> {
        let text = self.value.as_str().ok_or_else(|| self.wrong_type("a string"))?;
        self.document.expand(text, may_be_empty).map_err(de::Error::custom)
    }

    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let document = self.document;
        let location = self.location.clone();
        seed.deserialize(self).map_err(|error| {
            if !error.reported {
                document.complain(&location, error.message);
            }
            Error { message: String::new(), reported: true }
        })
    }

    /// The entries of a table, without those that are not in `known`; these are problems.
    fn entries(&self, known: Option<&[&str]>) -> Result<Entries<'d, 't>, Error> {
        let table = self.value.as_table();
        let table =
            table.ok_or_else(|| self.wrong_type(&format!("a table: write [{}]", self.location.key)))?;
        let mut entries = Vec::new();
        for (name, value) in table {
            let key = match self.location.key.as_str() {
                "" => name.get_ref().to_string(),
                outer => format!("{outer}.{}", name.get_ref()),
            };
            let location = self.document.location(name.span().start, key);
            match known {
                Some(known) if !known.contains(&&**name.get_ref()) => {
                    self.document
                        .complain(&location, unknown(&location.key, name.get_ref(), value.get_ref(), known));
                }
                Some(_) if self.document.is_absent(value.get_ref()) => {}
                _ => {
                    entries.push((name, Value { document: self.document, value: value.get_ref(), location }))
                }
            }
        }
        Ok(Entries { entries: entries.into_iter(), value: None })
    }
}

fn unknown(dotted: &str, name: &str, value: &DeValue<'_>, known: &[&str]) -> String {
    if let Some((_, message)) = MISPLACED.iter().find(|(key, _)| *key == dotted) {
        return (*message).to_owned();
    }
    let has_tables = |items: &toml::de::DeArray<'_>| items.iter().any(|item| item.get_ref().is_table());
    let what = if value.is_table() || value.as_array().is_some_and(has_tables) { "table" } else { "key" };
    match nearest(name, known.iter().copied()) {
        Some(name) => format!("is an unknown {what}, did you mean \"{name}\"?"),
        None => format!("is an unknown {what}; valid here: {}", known.join(", ")),
    }
}

impl<'de> Deserializer<'de> for Value<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.expanded(false)?.text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.value.as_integer().ok_or_else(|| self.wrong_type("a whole number"))?;
        // A number that is negative or too large is in no range, and neither is this one.
        visitor.visit_u64(u64::from_str_radix(number.as_str(), number.radix()).unwrap_or(u64::MAX))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.expanded(false)?.text;
        if !variants.contains(&text.as_str()) {
            let hint = hint(&text, variants.iter().copied());
            return Err(de::Error::custom(format!(
                "cannot be \"{text}\"{hint} (one of {})",
                variants.join(", ")
            )));
        }
        visitor.visit_enum(text.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value { document, location, .. } = &self;
        let items = self.value.as_array().ok_or_else(|| self.wrong_type("an array"))?;
        let item =
            |item: &'_ Spanned<DeValue<'_>>| document.location(item.span().start, location.key.clone());
        let items: Vec<_> =
            items.iter().map(|at| Value { document, value: at.get_ref(), location: item(at) }).collect();
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries(None)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries(Some(fields))?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match (name, self.value) {
            (KEY, _) => visitor.visit_seq(KeyParts { next: 0, value: Some(self) }),
            (WITH_UNIT, DeValue::Integer(number)) => {
                visitor.visit_newtype_struct(number.as_str().into_deserializer())
            }
            (BOOLEAN_OR_WORD, DeValue::Boolean(is)) => {
                visitor.visit_newtype_struct(is.to_string().into_deserializer())
            }
            (BOOLEAN_OR_WORD, value) if !value.is_str() => Err(self.wrong_type("true, false or a word")),
            (MAY_BE_EMPTY, _) => visitor.visit_newtype_struct(self.expanded(true)?.text.into_deserializer()),
            (EXPANDED, _) => {
                let expanded = self.expanded(false)?;
                let parts = std::iter::once(expanded.text).chain(expanded.variables);
                visitor.visit_newtype_struct(SeqDeserializer::new(parts))
            }
            (ARRAY_OF_TABLES, value) if !value.is_array() => {
                let key = &self.location.key;
                Err(self.wrong_type(&format!("an array of tables: write [[{key}]] with two brackets")))
            }
            (name, value) if name.starts_with(ARRAY) && !value.is_array() => Err(self.wrong_type(name)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

/// File, line and key of a value, then the value.
struct KeyParts<'d, 't> {
    next: usize,
    value: Option<Value<'d, 't>>,
}

impl<'de> SeqAccess<'de> for KeyParts<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(Value { location, .. }) = &self.value else { return Ok(None) };
        self.next += 1;
        let element = match self.next {
            1 => seed.deserialize(location.file.as_deref().unwrap_or_default().into_deserializer()),
            2 => seed.deserialize(location.line.into_deserializer()),
            3 => seed.deserialize(location.key.as_str().into_deserializer()),
            _ => match self.value.take() {
                Some(value) => value.read(seed),
                None => return Ok(None),
            },
        };
        element.map(Some)
    }
}

struct Items<'d, 't>(std::vec::IntoIter<Value<'d, 't>>);

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|value| value.read(seed)).transpose()
    }
}

struct Entries<'d, 't> {
    entries: std::vec::IntoIter<(&'d Spanned<DeString<'t>>, Value<'d, 't>)>,
    value: Option<Value<'d, 't>>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::new(name.get_ref())).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take().ok_or_else(|| de::Error::custom("has no value"))?;
        value.read(seed)
    }
}
