//! Restore: survey → decide → plan → fetch → verify → steps → install. Owns everything that happens to a database file
//! before the app may see it. In: a store, a path, settings. Out: how the database stands. Never: replicates, starts
//! anything, or opens a database with SQLite.

mod applier;
mod arrivals;
mod assemble;
pub mod choose;
pub mod decide;
pub mod error;
mod evidence;
mod fetch;
mod inspect;
mod install;
mod memory;
mod old_origin;
mod old_shadow;
mod ordered;
mod output;
mod owner;
mod pieces;
mod progress;
pub mod settings;
mod source;
mod staged;
mod start;
mod steps;
mod survey;
mod v3;
mod verify;
mod wal_proof;
mod wish;

pub use decide::Kept;
pub use error::{RestoreError, RestoreErrorKind};
pub use inspect::{Audit, audit, inventory, plan_of};
pub use install::recover;
pub use output::{RestoredTo, restore_in_place, restore_to};
pub use progress::{Pace, Paces, Progress};
pub use settings::{OnRestoreFailure, Others, Owner, Owners, RestoreSettings};
pub use start::{Outcome, all_prepared, prepare};
pub use verify::VerifiedDb;
