//! The boundary between root and the app: litevisor is root, the app's user owns the data directory and is
//! hostile. No file outside of that directory changes, gets another owner, or is read into the replica. Needs
//! root, as CI has it.

mod attack;
mod followed;
mod led_astray;
mod owners;
mod place;
mod subdirectories;
