//! One line below the log that says how far something is, redrawn in place, while stderr is a terminal and the log is text
//! for a human. Everything goes through the log's queue, so that no log line meets it. Anywhere else there is none: whoever
//! wants to be seen logs a line now and then.

use super::queue::Queue;
use std::sync::OnceLock;
use std::time::Duration;

static TERMINAL: OnceLock<Queue> = OnceLock::new();

/// How often it is worth a new one.
pub const REDRAW: Duration = Duration::from_millis(200);

/// How long whoever ends it waits until it is gone: an app that writes to the same terminal next must not meet it.
const GONE: Duration = Duration::from_millis(100);

/// The line; gone when dropped.
pub struct Live(Option<&'static Queue>);

pub(super) fn on_terminal(queue: Queue) {
    let _ = TERMINAL.set(queue);
}

impl Live {
    pub fn start() -> Live {
        Live(TERMINAL.get())
    }

    /// Where it is not, nobody sees what is shown.
    pub fn is_seen(&self) -> bool {
        self.0.is_some()
    }

    pub fn show(&self, text: String) {
        if let Some(queue) = self.0 {
            queue.live(Some(text));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(queue) = self.0 {
            queue.live(None);
            queue.flush(GONE);
        }
    }
}
