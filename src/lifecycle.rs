//! The state machine of a run: state + event → state + actions. Pure.
