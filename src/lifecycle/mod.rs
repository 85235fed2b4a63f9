//! The state machine of a run: state + event → new state + actions. Pure: the caller passes the time in and
//! performs the actions.
//!
//! It never forwards a signal to an app that has exited, never starts an app after a stop signal, and
//! requests the last flush only with the proof (`Quiet`) that no process can write any more; without that
//! proof the flush is marked as unproven. Every `match` lists every variant, so a new event is a compile
//! error in each state.

mod after_exit;
mod before_exit;
mod budget;
mod enter;
mod events;
mod hand_over;
mod reinstall;
mod restart;
mod rules;
mod setup;
pub mod sidecar;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use events::{Action, Event, HandOver};
pub use rules::Rules;
pub use state::{Abandoning, Clearing, Flushing, Outcome, State, StopCause, Stopping, Then};
pub use step::step;
