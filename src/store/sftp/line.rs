//! The connection that all replicas on one server share: made when it is first needed, made anew when it broke. In: calls.
//! Out: an open session. Never: repeats a call.

use super::cause::Fault;
use super::connect::connect;
use super::session::Session;
use crate::store::SftpSettings;
use std::sync::Arc;
use tokio::sync::Mutex;

#[derive(Default)]
pub(in crate::store) struct Line(Mutex<Option<Arc<Session>>>);

impl Line {
    /// The open session; whoever finds none connects, and the others wait for it.
    pub(super) async fn session(&self, settings: &SftpSettings) -> Result<Arc<Session>, Fault> {
        let mut current = self.0.lock().await;
        if let Some(session) = current.as_ref().filter(|session| session.is_open()) {
            return Ok(Arc::clone(session));
        }
        *current = None;
        let session = connect(settings).await?;
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// After a call that has timed out.
    pub(super) fn end_if_silent(&self) {
        // Whoever holds the lock is connecting: there is nothing to end.
        if let Ok(current) = self.0.try_lock()
            && let Some(session) = current.as_ref()
        {
            session.end_if_silent();
        }
    }
}
