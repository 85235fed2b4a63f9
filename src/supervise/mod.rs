//! Supervision: the app's process, signals, reaping. Has never heard of SQLite.

pub mod settings;
pub use settings::AppSettings;
