//! Supervision: the app's process, signals, reaping. Has never heard of SQLite.

pub mod settings;
pub use settings::AppSettings;

// SHIM until `init` is merged.
pub struct Claimed;
pub fn claim() -> std::io::Result<Claimed> {
    Ok(Claimed)
}
