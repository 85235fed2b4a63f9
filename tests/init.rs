//! litevisor as an init, from outside: the shipped binary, as PID 1 of its own namespace and as a plain process.
//! Every test runs in both modes unless it says why not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod init_suite {
    mod child;
    mod ending;
    mod orphans;
    mod signals;
    mod stopping;
    mod support;
    mod terminal;
}
