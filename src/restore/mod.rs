//! Restore: inspect → plan → fetch → verify → install. Everything that happens to a database file before the
//! app may use it (`start`), and to the file of `litevisor restore` (`output`). Replicates nothing, starts
//! nothing, and does not open a database with SQLite, except a copy that other processes read (`follow`).

mod applier;
mod arrivals;
mod assemble;
mod audit;
pub mod error;
mod fetch;
pub mod follow;
mod inspect;
mod install;
mod keeper;
mod measure;
mod memory;
mod output;
mod owner;
mod pieces;
pub mod plan;
mod progress;
pub mod scratch;
pub mod settings;
mod source;
mod staged;
mod start;
mod steps;
mod v3;
mod verify;
pub mod waiting_report;

pub use crate::lineage::{FileAccess, Kept};
pub use audit::{Audit, audit, contents, plan_of, stated};
pub use error::{RestoreError, RestoreErrorKind};
pub use install::recover;
pub use measure::db_checksum;
pub use output::{RestoredTo, restore_copy, restore_in_place, restore_to};
pub use progress::{Pace, Paces, Progress};
pub use scratch::Scratch;
pub use settings::{OnRestoreFailure, Owner, Owners, RestoreSettings};
pub use staged::restored_by_another;
pub use start::{Outcome, all_prepared, prepare};
pub use waiting_report::WaitingReport;
