//! The ledger against a model of what SQLite and a session do, against SQLite in another process, and from
//! many threads.

mod model;
mod process;
