//! The conformance suite for inits, from outside: each check in both modes, as PID 1 of its own namespace and as a plain
//! process. The names are `GROUP::CHECK`. `own` holds what only litevisor promises; everything else runs on any init:
//!
//! `LITEVISOR_INIT_SUITE_SUBJECT="tini -s -g --" cargo test --test init -- --skip own::` (see tests/peers.sh).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "init_suite/child.rs"]
mod child;
#[path = "init_suite/death.rs"]
mod death;
#[path = "init_suite/exit.rs"]
mod exit;
#[path = "init_suite/group.rs"]
mod group;
#[path = "init_suite/init.rs"]
mod init;
#[path = "init_suite/own.rs"]
mod own;
#[path = "init_suite/reap.rs"]
mod reap;
#[path = "init_suite/signal.rs"]
mod signal;
#[path = "init_suite/stdio.rs"]
mod stdio;
#[path = "init_suite/stop.rs"]
mod stop;
#[path = "init_suite/support.rs"]
mod support;
#[path = "init_suite/tty.rs"]
mod tty;
