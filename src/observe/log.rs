//! Sets the log up, and ends it. Before it is set up, `complain` writes to stderr directly.

use super::format::{Format, Record, Shape, line, shape};
use super::layer::{LogLayer, now};
use super::live;
use super::queue::{Descriptor, Queue};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

/// How long the last lines may keep the process: the platform's patience is for the flush of data.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The running log. Call `finish` last: its thread does not outlive the process.
pub struct Log {
    queue: Option<Queue>,
}

/// Starts the log's thread and takes tracing's events from now on, panics included. A thread that cannot be started
/// costs the log, not the program.
pub fn init(level: tracing::Level, format: Format, env: &dyn Fn(&str) -> Option<OsString>) -> Log {
    let terminal = std::io::stderr().is_terminal();
    let shape = shape(format, terminal, env);
    let queue = match Queue::start(Descriptor(std::io::stderr()), Box::new(move |lost| lost_line(shape, lost))) {
        Ok(queue) => queue,
        Err(error) => {
            complain(&format!("there will be no log: cannot start its thread: {error}"));
            return Log { queue: None };
        }
    };
    if terminal && shape == Shape::Text {
        live::on_terminal(queue.clone());
    }
    let layer = LogLayer { queue: queue.clone(), shape, level };
    // An error means that there is a log already: it stays.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(at = panic.location().map(ToString::to_string), "panic: {}", text_of(panic.payload()));
    }));
    Log { queue: Some(queue) }
}

impl Log {
    /// Waits a moment for the last lines.
    pub fn finish(self) {
        if let Some(queue) = self.queue {
            queue.flush(LAST_LINES);
        }
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

/// To stderr, before there is a log and for what is no log. A closed stderr is no error.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "litevisor: {text}");
}

/// To stderr, as it is. A closed stderr is no error.
pub fn scold(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// To stdout, as it is. A closed stdout is no error.
pub fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
