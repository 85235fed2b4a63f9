//! The log and the status of the program. The log writes tracing events to stderr through a bounded queue,
//! and never blocks its callers. The status registry holds the state of the run; the status thread answers
//! HTTP requests from it, on a socket and on a TCP address.

pub mod address;
pub mod client;
pub mod follow;
pub mod format;
pub mod handover;
pub mod health;
mod http;
mod lag_history;
pub mod layer;
pub mod live;
pub mod log;
mod metrics;
mod page;
pub mod proof;
pub mod query;
mod queue;
mod report;
mod request_guard;
pub mod restore;
pub mod serve;
pub mod socket;
pub mod status_registry;
pub mod sync;
mod sync_queue;

pub use format::Format;
pub use http::{Network, Requests, StatusHandler};
pub use live::Live;
pub use log::{complain, error, finish, init, say, scold};
pub use status_registry::{Phase, StatusRegistry};
