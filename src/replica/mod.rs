//! What stands at the end of a replica, and whether a local file descends from it. Owns: reading the newest position, and
//! the one rule of lineage. In: a listing, a way to get bytes, the record beside the database. Out: a `Tip`, a `Descent`.
//! Never: lists, retries, or touches a database.

pub mod descent;
pub mod tip;

pub use descent::{Descent, Doubt, descent};
pub use tip::{Broken, Candidate, Tip, TipFile};
