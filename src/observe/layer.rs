//! Turns tracing events into `Record`s: level, and the fields of the event and of the spans around it.
//!
//! A span `db` with a field `name` becomes the field `db`; its other fields become `db.other`.

use super::format::{Record, Shape, line};
use super::queue::Queue;
use serde_json::Value;
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub struct LogLayer {
    pub queue: Queue,
    pub shape: Shape,
    pub level: Level,
}

/// A field `json.NAME` is JSON text, and becomes a value of that structure under NAME: tracing has plain
/// fields only.
const JSON: &str = "json.";

fn is_ours(target: &str) -> bool {
    target == "litevisor" || target.starts_with("litevisor::")
}

/// Libraries may log errors only: at lower levels they log headers, which carry keys and tokens. litevisor
/// logs the errors that they return.
fn wanted(configured: Level, target: &str, level: Level) -> bool {
    // In tracing's order DEBUG is greater than INFO.
    level <= if is_ours(target) { configured } else { Level::ERROR }
}

/// The event's time as it is written: RFC 3339, UTC, milliseconds.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Fields of one span, kept with it.
struct SpanFields(Vec<(String, Value)>);

#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(String, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, Value::String(text)) if name.starts_with(JSON) => {
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                self.fields.push((name.trim_start_matches(JSON).to_owned(), value));
            }
            (name, value) => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

fn named_after(span: &str, fields: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let name = |field: String| if field == "name" { span.to_owned() } else { format!("{span}.{field}") };
    fields.into_iter().map(|(field, value)| (name(field), value)).collect()
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // litevisor's spans carry the fields of their events, whatever the level.
        (metadata.is_span() && is_ours(metadata.target()))
            || wanted(self.level, metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Not below info: spans are made at that level.
        Some(LevelFilter::from_level(self.level.max(Level::INFO)))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(named_after(span.name(), fields.fields)));
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let Some(span) = context.span(id) else { return };
        let named = named_after(span.name(), fields.fields);
        if let Some(SpanFields(known)) = span.extensions_mut().get_mut() {
            known.retain(|(name, _)| named.iter().all(|(newer, _)| newer != name));
            known.extend(named);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(SpanFields(known)) = span.extensions().get() {
                fields.extend(known.iter().cloned());
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        fields.extend(own.fields);
        let record = Record {
            time: now(),
            level: *metadata.level(),
            target: (!is_ours(metadata.target())).then(|| metadata.target()),
            message: own.message,
            fields,
        };
        self.queue.push(line(self.shape, &record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, work: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let queue = Queue::start(sink.clone(), Box::new(|lost| format!("{lost}\n"))).unwrap();
        let layer = LogLayer { queue: queue.clone(), shape: Shape::Json, level };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        assert!(queue.flush(Duration::from_secs(20)));
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn which_events_are_wanted() {
        for (configured, target, level, expected) in [
            (Level::INFO, "litevisor::run", Level::INFO, true),
            (Level::INFO, "litevisor", Level::DEBUG, false),
            (Level::DEBUG, "litevisor::run", Level::DEBUG, true),
            (Level::DEBUG, "hyper::client", Level::INFO, false),
            (Level::TRACE, "aws_config", Level::WARN, false),
            (Level::INFO, "aws_config", Level::ERROR, true),
            (Level::DEBUG, "litevisor_other", Level::INFO, false),
            (Level::TRACE, "litevisor::run", Level::TRACE, true),
            (Level::TRACE, "aws_sigv4::http_request::sign", Level::TRACE, false),
        ] {
            assert_eq!(wanted(configured, target, level), expected, "{configured:?} {target} {level}");
        }
    }

    #[test]
    fn events_carry_the_fields_of_their_spans() {
        let lines = logged(Level::ERROR, || {
            let span = tracing::info_span!("db", name = "/d/a.db", txid = tracing::field::Empty);
            span.record("txid", 7u64);
            span.in_scope(|| {
                tracing::info!("too quiet");
                let (list, broken) = ("[{\"a\":1}]", "{");
                tracing::error!(bytes = 12u64, cause = ?"x", json.list = %list, json.broken = %broken, "failed {}", 1);
            });
        });
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        for (name, value) in [
            ("db", Value::from("/d/a.db")),
            ("db.txid", 7.into()),
            ("bytes", 12.into()),
            ("cause", "\"x\"".into()),
            ("list", serde_json::json!([{ "a": 1 }])),
            ("broken", "{".into()),
            ("message", "failed 1".into()),
            ("level", "error".into()),
        ] {
            assert_eq!(line.get(name), Some(&value), "{name}: {line}");
        }
        let time = line.get("time").unwrap().as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn libraries_are_heard_when_they_report_errors() {
        let lines = logged(Level::TRACE, || {
            tracing::warn!(target: "hyper", "chatter");
            tracing::error!(target: "hyper", "trouble");
            tracing::debug!("ours");
        });
        let told: Vec<_> = lines.iter().map(|line| line.get("message").unwrap().as_str().unwrap()).collect();
        assert_eq!(told, ["trouble", "ours"]);
        assert_eq!(lines[0].get("target"), Some(&Value::from("hyper")));
        assert_eq!(lines[1].get("target"), None);
    }
}
