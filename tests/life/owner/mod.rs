//! A database belongs to one litevisor at a time: what a second one, a command and an app without any
//! litevisor meet.

mod believed;
mod command;
mod flood;
mod meta_dir;
mod place;
mod rollback;
mod second;
