//! Supervision of the app: its process, signals, reaping.
//!
//! `main` calls `claim` first; everything else runs on the main thread, which lives as long as the process
//! (the app's parent-death signal depends on it). Nothing here knows SQLite, logs, or decides what happens
//! next.

pub mod app;
mod child;
pub mod claim;
mod command;
mod credentials;
pub mod descriptors;
mod dispositions;
mod environ;
pub mod forward;
mod guard;
mod kill;
pub mod memory_events;
pub mod notify_message;
pub mod notify_socket;
pub mod open_files;
mod procfs;
mod procs;
mod program;
pub mod reap;
mod receiver;
pub mod remaining;
pub mod settings;
mod setup_digest;
mod spawn_error;
pub mod user;
pub mod watch;

pub use app::App;
pub use claim::{Claimed, Duty, claim, keep_out_of_dumps, keep_secrets};
pub use forward::{Meaning, meaning};
pub use kill::Sent;
pub use notify_message::NotifyMessage;
pub use notify_socket::{NotifyOwner, NotifySocket};
pub use reap::{Reaped, reap};
pub use remaining::ProcessTree;
pub use settings::{AppSettings, HttpTarget, Probe, ReadyCheck, SetupSettings, SetupWhen, SignalTo};
pub use setup_digest::setup_digest;
pub use spawn_error::SpawnError;
pub use watch::{Received, Waker, Watch};
