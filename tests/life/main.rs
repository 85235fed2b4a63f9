//! The shipped binary from its start to its end: what it finds, says, answers and leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod bank;
mod cli;
mod conf;
mod container;
mod demo;
mod end;
mod fence;
mod follow;
mod gate;
mod handover;
mod json;
mod kept;
mod manual;
mod monitoring;
mod notify;
mod ops;
mod owner;
mod recipes;
mod service;
mod setup;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod world;
