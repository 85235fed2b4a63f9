//! Restores of real and of made-up replicas, through the public interface, from a directory that can
//! misbehave.

mod damage;
mod fixture;
mod moment;
mod output;
mod start;
mod store;
mod v3;
