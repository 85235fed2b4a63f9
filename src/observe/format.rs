//! One event as one line: text for people, JSON for collectors. Pure.

use serde_json::Value;
use std::ffi::OsString;
use std::fmt::Write;

/// The configured format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    Json,
    /// JSON as Google Cloud's logging reads it.
    GoogleJson,
}

/// `env` reads the variables that identify Google's platforms.
pub fn shape(format: Format, terminal: bool, env: &dyn Fn(&str) -> Option<OsString>) -> Shape {
    let google = ["K_SERVICE", "CLOUD_RUN_JOB", "CLOUD_RUN_WORKER_POOL", "GOOGLE_CLOUD_PROJECT"];
    let google = google.iter().any(|name| env(name).is_some());
    match (format, terminal) {
        (Format::Text, _) | (Format::Auto, true) => Shape::Text,
        (Format::Json, _) | (Format::Auto, false) if google => Shape::GoogleJson,
        (Format::Json, _) | (Format::Auto, false) => Shape::Json,
    }
}

/// An event, taken out of tracing.
#[derive(Clone, Debug)]
pub struct Record {
    /// RFC 3339, UTC.
    pub time: String,
    pub level: tracing::Level,
    /// The library that logs; None for litevisor itself.
    pub target: Option<&'static str>,
    pub message: String,
    /// The fields of the spans around it, outermost first, then its own.
    pub fields: Vec<(String, Value)>,
}

/// The line, with its line end. A message of several lines stays one line in JSON.
pub fn line(shape: Shape, record: &Record) -> String {
    match shape {
        Shape::Text => text(record),
        Shape::Json => json(record, "level", level_name(record.level)),
        Shape::GoogleJson => json(record, "severity", severity(record.level)),
    }
}

fn level_name(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

fn severity(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "ERROR",
        tracing::Level::WARN => "WARNING",
        tracing::Level::INFO => "INFO",
        tracing::Level::DEBUG | tracing::Level::TRACE => "DEBUG",
    }
}

/// Time, level and message first: people read these lines too.
fn json(record: &Record, level_key: &str, level: &str) -> String {
    let own = [("time", record.time.as_str()), (level_key, level), ("message", &record.message)];
    let own = own.into_iter().chain(record.target.map(|target| ("target", target)));
    let mut pairs: Vec<(&str, Value)> = own.map(|(name, text)| (name, Value::from(text))).collect();
    for (name, value) in &record.fields {
        // Many readers refuse an object with a name twice: the event's field wins, then the outer span's.
        if pairs.iter().all(|(known, _)| known != name) {
            pairs.push((name, value.clone()));
        }
    }
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}\n", pairs.join(","))
}

fn text(record: &Record) -> String {
    let mut line = format!("{} {:5} ", record.time, level_name(record.level).to_uppercase());
    if let Some(target) = record.target {
        let _ = write!(line, "{target}: ");
    }
    push_clean(&mut line, &record.message);
    for (name, value) in &record.fields {
        let _ = write!(line, " {name}=");
        match value {
            Value::String(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                push_clean(&mut line, &format!("{text:?}"))
            }
            Value::String(text) => push_clean(&mut line, text),
            other => push_clean(&mut line, &plain(other)),
        }
    }
    line.push('\n');
    line
}

/// Structures for people: `[{database=/a.db state=complete}]`.
fn plain(value: &Value) -> String {
    let joined = |parts: Vec<String>, separator: &str| parts.join(separator);
    match value {
        Value::Array(list) => format!("[{}]", joined(list.iter().map(plain).collect(), ", ")),
        Value::Object(object) => {
            let pair = |(name, value): (&String, &Value)| format!("{name}={}", plain(value));
            format!("{{{}}}", joined(object.iter().map(pair).collect(), " "))
        }
        Value::String(text) if text.is_empty() || text.contains([' ', '"', '=']) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Control characters could rewrite the terminal; line ends get an indent, so that a record is recognised as
/// one.
fn push_clean(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\n    "),
            '\t' => line.push('\t'),
            c if c.is_control() => {
                let _ = write!(line, "{}", c.escape_default());
            }
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            time: "2026-11-22T07:00:00.123Z".into(),
            level: tracing::Level::WARN,
            target: None,
            message: "slow \"store\"\nsecond".into(),
            fields: vec![
                ("db".into(), "/data/app.db".into()),
                ("wait".into(), "2 s".into()),
                ("tries".into(), 3.into()),
                ("time".into(), "not ours".into()),
            ],
        }
    }

    #[test]
    fn shapes() {
        let google = |name: &str| (name == "K_SERVICE").then(|| OsString::from("x"));
        let none = |_: &str| None;
        for (format, terminal, env, expected) in [
            (Format::Auto, true, &none as &dyn Fn(&str) -> Option<OsString>, Shape::Text),
            (Format::Auto, false, &none, Shape::Json),
            (Format::Auto, true, &google, Shape::Text),
            (Format::Auto, false, &google, Shape::GoogleJson),
            (Format::Text, false, &google, Shape::Text),
            (Format::Json, true, &none, Shape::Json),
            (Format::Json, true, &google, Shape::GoogleJson),
        ] {
            assert_eq!(shape(format, terminal, env), expected, "{format:?} {terminal}");
        }
    }

    #[test]
    fn text_lines() {
        let line =
            line(Shape::Text, &Record { fields: record().fields.into_iter().take(3).collect(), ..record() });
        let expected = "2026-11-22T07:00:00.123Z WARN  slow \"store\"\n    second db=/data/app.db wait=\"2 \
            s\" tries=3\n";
        assert_eq!(line, expected);
        let list = serde_json::json!([{ "a": 1, "b": "two words" }, { "c": "x" }]);
        let nested = Record { message: "m".into(), fields: vec![("list".into(), list)], ..record() };
        assert!(super::line(Shape::Text, &nested).ends_with(" m list=[{a=1 b=\"two words\"}, {c=x}]\n"));
        let escape = Record { message: "a\u{1b}[2Jb".into(), fields: Vec::new(), ..record() };
        assert!(!super::line(Shape::Text, &escape).contains('\u{1b}'));
    }

    #[test]
    fn json_lines() {
        for (shape, key, level) in
            [(Shape::Json, "level", "warn"), (Shape::GoogleJson, "severity", "WARNING")]
        {
            let line = line(shape, &Record { target: Some("hyper"), ..record() });
            assert!(line.starts_with(&format!(
                "{{\"time\":\"2026-11-22T07:00:00.123Z\",\"{key}\":\"{level}\",\"message\":"
            )));
            assert_eq!(line.matches("\"time\":").count(), 1, "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value.get(key), Some(&Value::from(level)));
            assert_eq!(value.get("time"), Some(&Value::from("2026-11-22T07:00:00.123Z")));
            assert_eq!(value.get("message"), Some(&Value::from("slow \"store\"\nsecond")));
            assert_eq!(value.get("target"), Some(&Value::from("hyper")));
            assert_eq!(value.get("tries"), Some(&Value::from(3)));
        }
    }
}
