//! Supervision: the app's process, signals, reaping. Has never heard of SQLite.
//!
//! `claim` is called first thing in `main`; everything else runs on the main thread, which lives as long as the
//! process (the app's parent-death signal is tied to it). Nothing here sleeps, logs or decides what happens next.

pub mod app;
mod child;
pub mod claim;
mod command;
pub mod descriptors;
pub mod forward;
mod kill;
mod procfs;
pub mod reap;
pub mod rest;
pub mod settings;
mod spawn_error;
pub mod user;
pub mod watch;

pub use app::App;
pub use claim::{Claimed, claim, keep_out_of_dumps};
pub use forward::{Meaning, meaning};
pub use reap::{Reaped, reap};
pub use rest::Tree;
pub use settings::AppSettings;
pub use spawn_error::SpawnError;
pub use watch::{Received, Waker, Watch};
