//! Command line: clap only.
