//! The conformance suite for inits, from outside: each check in both modes, as PID 1 of its own namespace and
//! as a plain process. The names are `GROUP::CHECK`. `own` holds what only litevisor promises; everything
//! else runs on any init:
//!
//! `LITEVISOR_INIT_SUITE_SUBJECT="tini -s -g --" cargo test --test init -- --skip own::` (see
//! tests/peers.sh).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod child;
mod death;
mod exit;
mod group;
mod init;
mod own;
mod reap;
mod signal;
#[path = "../support/signals.rs"]
mod signals;
mod stdio;
mod stop;
mod support;
mod tty;
