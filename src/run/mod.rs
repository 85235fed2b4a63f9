//! The program: turns the world into events for `lifecycle`, and its actions into calls.

pub mod engine;

// SHIM until `init` is merged.
pub fn run(_: crate::config::Config, _: crate::supervise::Claimed) -> u8 {
    crate::exit::INTERNAL
}
