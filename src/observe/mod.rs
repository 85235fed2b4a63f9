//! What the program says about itself: the log. In: tracing events and the log settings. Out: lines on stderr. Never
//! blocks whoever logs, never ends the process, never wakes up while there is nothing to say.

pub mod format;
pub mod layer;
pub mod live;
pub mod log;
mod queue;

pub use format::Format;
pub use live::Live;
pub use log::{Log, complain, init, say, scold};
