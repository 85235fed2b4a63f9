//! Why a command fails: the messages for stderr and the exit status.

use crate::config::ConfigError;
use crate::exit;
use crate::handover::client::HandoverError;
use crate::observe;
use crate::observe::client::NoSupervisor;
use crate::restore::{RestoreError, RestoreErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// The gravest first: when several replicas fail, it decides about the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// A defect of litevisor.
    Internal,
    /// The replica is damaged.
    Damaged,
    /// The configuration, or something on this machine, prevents it.
    Local,
    /// The replica, or the running litevisor, does not answer.
    Unavailable,
    /// The replica does not hold the requested state.
    NoSuchState,
    /// The replica is empty.
    Empty,
    /// The command line asks for something that is not configured.
    Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    pub kind: ErrorKind,
    pub messages: Vec<String>,
}

impl CommandError {
    pub fn new(kind: ErrorKind, message: impl ToString) -> CommandError {
        CommandError { kind, messages: vec![message.to_string()] }
    }

    pub fn message(&self) -> String {
        self.messages.join("; ")
    }

    /// For the JSON of a command that fails as a whole: one message a line, as on stderr.
    pub fn lines(&self) -> String {
        self.messages.join("\n")
    }

    /// Writes the messages to stderr, and returns the exit status.
    pub fn report(&self) -> u8 {
        self.messages.iter().for_each(|message| observe::error(message));
        self.kind.status()
    }
}

impl ErrorKind {
    pub fn status(self) -> u8 {
        match self {
            ErrorKind::Internal => exit::INTERNAL,
            ErrorKind::Damaged => exit::DAMAGED,
            ErrorKind::Empty | ErrorKind::NoSuchState => exit::NOTHING,
            ErrorKind::Local => exit::CONFIG,
            ErrorKind::Unavailable => exit::UNAVAILABLE,
            ErrorKind::Usage => exit::USAGE,
        }
    }
}

/// The exit status when several replicas were worked on: that of the gravest error.
pub fn status(errors: impl IntoIterator<Item = ErrorKind>) -> u8 {
    errors.into_iter().min().map_or(0, ErrorKind::status)
}

impl From<&RestoreError> for ErrorKind {
    fn from(error: &RestoreError) -> Self {
        match error.kind() {
            RestoreErrorKind::Damaged => ErrorKind::Damaged,
            RestoreErrorKind::Unavailable => ErrorKind::Unavailable,
            RestoreErrorKind::Local => ErrorKind::Local,
            RestoreErrorKind::NothingThere if matches!(error, RestoreError::NothingThere { .. }) => {
                ErrorKind::Empty
            }
            RestoreErrorKind::NothingThere => ErrorKind::NoSuchState,
        }
    }
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        CommandError::new(ErrorKind::from(&error), error)
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind {
            StoreErrorKind::Invalid | StoreErrorKind::Key => ErrorKind::Local,
            StoreErrorKind::Damaged => ErrorKind::Damaged,
            _ => ErrorKind::Unavailable,
        };
        CommandError::new(kind, error)
    }
}

impl From<HandoverError> for CommandError {
    fn from(error: HandoverError) -> Self {
        match error {
            HandoverError::Store(error) => error.into(),
            error => CommandError::new(ErrorKind::Local, error),
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        CommandError {
            kind: ErrorKind::Local,
            messages: error.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<NoSupervisor> for CommandError {
    fn from(error: NoSupervisor) -> Self {
        CommandError::new(ErrorKind::Unavailable, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses() {
        use ErrorKind::{Damaged, Empty, Internal, Local, NoSuchState, Unavailable};
        for (kinds, expected) in [
            (vec![], 0),
            (vec![Empty], 66),
            (vec![NoSuchState], 66),
            (vec![Empty, Damaged], 65),
            (vec![Empty, Unavailable], 69),
            (vec![Damaged], 65),
            (vec![Unavailable], 69),
            (vec![Local], 78),
            (vec![Unavailable, Damaged, Local], 65),
            (vec![Unavailable, Local], 78),
            (vec![Internal, Damaged], 70),
        ] {
            assert_eq!(status(kinds.iter().copied()), expected, "{kinds:?}");
        }
    }
}
