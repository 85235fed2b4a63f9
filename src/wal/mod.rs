//! SQLite's WAL as bytes. Pure.
