//! (how the run ended, did the flush finish, was a replica taken over) → exit code: one table. Pure.
//! SHIM until `init` is merged: its file has these constants and the table; take that one.

/// Bad usage of the command line.
pub const USAGE: u8 = 64;
/// The replica is damaged.
pub const DAMAGED: u8 = 65;
/// The replica is unreachable or denies access.
pub const UNAVAILABLE: u8 = 69;
/// Our own fault.
pub const INTERNAL: u8 = 70;
/// Bad configuration, or something local in the way.
pub const CONFIG: u8 = 78;
