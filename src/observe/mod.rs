//! What the program says about itself. The log: tracing events → lines on stderr; never blocks whoever logs, never wakes up
//! while there is nothing to say. The board: facts about the run → a snapshot → answers over HTTP, on a socket and on a TCP
//! address, from a thread of its own. Never ends the process, never decides about the run.

pub mod address;
pub mod board;
pub mod client;
pub mod format;
mod health;
mod http;
pub mod layer;
pub mod live;
pub mod log;
mod metrics;
pub mod query;
mod queue;
mod report;
pub mod serve;
pub mod socket;
pub mod sync;

pub use board::{Board, Phase};
pub use format::Format;
pub use http::Desk;
pub use live::Live;
pub use log::{Log, complain, init, say, scold};
