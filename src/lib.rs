//! litevisor: container init, restore and continuous replication for SQLite applications on disposable disks.
//!
//! The modules in layer order; each imports only from lower rows (held by `tests/tidy.rs`).

// 0: the nouns
pub mod model;

// 1: formats and the outside world
pub mod local_state;
pub mod ltx;
pub mod sqlite;
pub mod store;
pub mod wal;

// 2: the three lives
pub mod replicate;
pub mod restore;
pub mod supervise;

// 3: the program
pub mod config;
pub mod exit;
pub mod lifecycle;
pub mod observe;

pub mod run;

// 4: the command line
pub mod cli;
pub mod commands;
