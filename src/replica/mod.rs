//! What a replica holds: what a listing means, which files lead to a state or a moment, and what its newest
//! files say of themselves. Lists, retries and touches nothing.

mod chain;
pub mod clocks;
pub mod contents;
pub mod listing;
pub mod moment;
pub mod onward;
pub mod plan;
pub mod proof;
pub mod tip;

pub use chain::{Plan, PlanError};
pub use contents::{Contents, RestorableRange, restorable};
pub use listing::{Listing, RemoteFile, Replica};
pub use moment::{Answer, Dated, Times, plan_at};
pub use onward::{Onward, onward};
pub use plan::{Target, plan};
pub use proof::{ProofMode, ProofRecord, Proven};
pub use tip::{Tip, TipFile};
