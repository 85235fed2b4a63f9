//! Hand-over: one writer at a time through every deploy. `owner` ◦ names the objects below `owner/`, `record`
//! ◦ is their content, `protocol` ◦ is the state machine of one instance, `client` and `fence` make its
//! requests, `beats` writes its heartbeats, and `task` runs it all.
//!
//! Every object is created once and never changed, so no clock, no renewal and no expiry is needed. Who takes
//! over by force fences its predecessor on the data path: it takes the next TXID, and every later upload of
//! the predecessor is refused.

mod beats;
pub mod client;
pub mod describe;
pub mod fence;
pub mod last_life;
pub mod owner;
pub mod protocol;
pub mod record;
mod settings;
pub mod task;

pub use settings::HandoverSettings;
