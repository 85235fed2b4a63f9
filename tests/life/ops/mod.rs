//! A running litevisor asked from outside: `status`, `sync`, `healthcheck`, HTTP, metrics, the socket, the
//! log of a healthy run.

mod absent;
mod browser;
mod bytes;
mod clocks;
mod crowd;
mod life;
mod lost;
mod metrics;
mod proof;
mod socket;
mod story;
mod sync;
mod words;
