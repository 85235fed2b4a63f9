//! Why the app could not be started: one line that names the file (or the step) and the reason.

use super::user::UserError;
use crate::model::{NotStarted, threads};
use nix::errno::Errno;
use std::ffi::OsString;

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot start the app: {0}")]
    User(#[from] UserError),
    #[error("cannot start the app: {0:?} holds a NUL byte, which no argument, variable or path can")]
    Nul(OsString),
    #[error("cannot start the app: {call}: {}", threads::with_limit(&(*.source).into()))]
    Parent { call: &'static str, source: Errno },
    #[error("cannot start the app: {step}: {}", .source.desc())]
    Setup { step: String, source: Errno },
    #[error("cannot run {file:?}: not found{hint}")]
    NotFound { file: OsString, hint: String },
    #[error(
        "cannot run {file:?}: it is built for {machine}, and this machine is {}: use an image for this \
         platform",
        std::env::consts::ARCH
    )]
    ForeignMachine { file: OsString, machine: String },
    #[error("cannot run {file:?}: {}", .source.desc())]
    CannotExecute { file: OsString, source: Errno },
}

impl SpawnError {
    /// What it means for our exit status.
    pub fn not_started(&self) -> NotStarted {
        match self {
            SpawnError::User(_) | SpawnError::Nul(_) => NotStarted::Local,
            SpawnError::NotFound { .. } => NotStarted::NotFound,
            SpawnError::Parent { .. }
            | SpawnError::Setup { .. }
            | SpawnError::ForeignMachine { .. }
            | SpawnError::CannotExecute { .. } => NotStarted::CannotExecute,
        }
    }
}
