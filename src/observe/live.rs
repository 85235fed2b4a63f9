//! One live line with the progress below the log, redrawn in place, if stderr is a terminal and the log is
//! text. It goes through the log's queue, so that log lines do not mix with it. Elsewhere callers log their
//! progress now and then.

use super::queue::Queue;
use std::sync::OnceLock;
use std::time::Duration;

static TERMINAL: OnceLock<Queue> = OnceLock::new();

/// How often the line is redrawn.
pub const REDRAW: Duration = Duration::from_millis(200);

/// How long the end of the line is waited for: the app writes to the same terminal next.
const GONE: Duration = Duration::from_millis(100);

/// The live line, which is erased when this is dropped.
pub struct Live(Option<&'static Queue>);

pub(super) fn on_terminal(queue: Queue) {
    let _ = TERMINAL.set(queue);
}

impl Live {
    pub fn start() -> Live {
        Live(TERMINAL.get())
    }

    /// Whether the line is shown.
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
