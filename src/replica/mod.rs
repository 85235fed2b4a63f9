//! What a replica holds, what stands at its end, and whether a local file descends from it. Owns: what a listing means, the
//! plan from files to a state, reading the newest position, and the one rule of lineage. In: a listing, a way to get bytes, the record beside the database. Out: a `Tip`, a `Descent`.
//! Never: lists, retries, or touches a database.

pub mod descent;
pub mod inventory;
pub mod listing;
pub mod moment;
pub mod old;
pub mod plan;
pub mod spilled;
pub mod tip;

pub use descent::{Descent, Doubt, descent};
pub use inventory::Inventory;
pub use listing::{Listing, RemoteFile, Replica};
pub use moment::{Answer, Dated, Times, plan_at};
pub use old::{OldFile, OldPlan, OldPlanError};
pub use plan::{Plan, PlanError, Target, plan};
pub use spilled::Spilled;
pub use tip::{Broken, Tip, TipFile};
