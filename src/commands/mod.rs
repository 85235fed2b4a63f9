//! One file or folder for each subcommand except `run`, `replicate` without `--once`, and what `cli` prints
//! itself (`man`, `completions`). `setup` loads the configuration and starts the log,
//! `error` has the exit status of what goes wrong, `replicas` finds the replicas that a command is about.

pub mod check;
mod connect;
mod directories;
pub mod document;
pub mod error;
pub mod follow;
pub mod handover;
pub mod healthcheck;
pub mod import;
pub mod list;
pub mod once;
pub mod rekey;
mod replicas;
pub mod restore;
pub mod setup;
pub mod status;
mod supervisor;
pub mod sync;
pub mod verify;
