//! How a session ends, and the disk work whose failure ends it.

use super::capture::CaptureError;
use super::capture::replaced::Replacement;
use crate::model::threads;

/// Why a session ended.
pub enum End {
    /// The last flush is done, or no handle is left that could ask.
    Closed,
    Fenced(String),
    /// A late database whose replica holds another history.
    Refused(String),
    /// The app wants to lock the whole database, and the session keeps it out.
    LockedOut,
    /// The database's files are others now, or were overwritten.
    Replaced(Box<Replacement>),
    /// Look again at everything, after a pause.
    Again(String),
}

impl From<CaptureError> for End {
    fn from(error: CaptureError) -> End {
        match error {
            CaptureError::Replaced(replacement) => End::Replaced(replacement),
            error => End::Again(error.to_string()),
        }
    }
}

/// Runs disk work off the async thread. A panic in it ends the session, not the program.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| End::Again(threads::describe_task_failure(&error)))
}
