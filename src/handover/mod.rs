//! Hand-over: one writer at a time through every deploy.

mod settings;

pub use settings::HandoverSettings;
