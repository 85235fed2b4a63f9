//! The program: turns the world into events for `lifecycle`, and its actions into calls.

pub mod engine;
