//! Starts and ends the log. Before the start, `complain` writes to stderr directly.

use super::format::{Format, Record, Shape, line, shape};
use super::layer::{LogLayer, now};
use super::live;
use super::queue::{Descriptor, Queue};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

/// How long the last lines may delay the end of the process: the platform's grace is for the flush of data.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The queue of the running log.
static LOG: OnceLock<Queue> = OnceLock::new();

/// Starts the log's thread; from now on it writes tracing's events, and panics. If the thread cannot be
/// started, the program runs without a log.
pub fn init(level: tracing::Level, format: Format, env: &dyn Fn(&str) -> Option<OsString>) {
    let terminal = std::io::stderr().is_terminal();
    let shape = shape(format, terminal, env);
    let queue =
        match Queue::start(Descriptor(std::io::stderr()), Box::new(move |lost| lost_line(shape, lost))) {
            Ok(queue) => queue,
            Err(error) => {
                return complain(&format!("there will be no log: cannot start its thread: {error}"));
            }
        };
    if terminal && shape == Shape::Text {
        live::on_terminal(queue.clone());
    }
    let layer = LogLayer { queue: queue.clone(), shape, level };
    // An error: a log runs already, and continues.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(
            at = panic.location().map(ToString::to_string),
            "panic: {}",
            text_of(panic.payload())
        );
    }));
    let _ = LOG.set(queue);
}

/// Waits a moment for the last lines. Call it last: the log's thread ends with the process.
pub fn finish() {
    if let Some(queue) = LOG.get() {
        queue.flush(LAST_LINES);
    }
}

/// Writes to the log if it runs, else to stderr.
pub fn error(text: &str) {
    match LOG.get() {
        Some(_) => tracing::error!("{text}"),
        None => complain(text),
    }
}

fn lost_line(shape: Shape, lost: u64) -> String {
    let record = Record {
        time: now(),
        level: tracing::Level::WARN,
        target: None,
        message: format!("{lost} log lines were lost: stderr was not read"),
        fields: Vec::new(),
    };
    line(shape, &record)
}

fn text_of(payload: &dyn std::any::Any) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Writes a message to stderr: before the log runs, and for commands without a log. A closed stderr is no
/// error.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "litevisor: {text}");
}

/// Writes the text to stderr unchanged. A closed stderr is no error.
pub fn scold(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes the text to stdout unchanged. A closed stdout is no error.
pub fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
