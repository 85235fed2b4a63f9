//! The commands that ask a running litevisor, in the situations that it can be in.
