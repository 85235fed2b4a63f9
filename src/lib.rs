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

// 2: what a replica is, to both who read and who write it
pub mod replica;

// 3: the three lives
pub mod replicate;
pub mod restore;
pub mod supervise;

// 4: the program
pub mod config;
pub mod exit;
pub mod lifecycle;
pub mod observe;

pub mod run;

// 5: the command line
pub mod cli;
pub mod commands;
