//! The connection that all replicas on one server share: made at the first request, made again when it is
//! broken.

use super::cause::Fault;
use super::connect::connect;
use super::session::Session;
use crate::store::SftpSettings;
use std::sync::Arc;
use tokio::sync::Mutex;

pub(in crate::store) struct Connection {
    settings: SftpSettings,
    current: Mutex<Option<Arc<Session>>>,
}

impl Connection {
    pub(super) fn new(settings: SftpSettings) -> Connection {
        Connection { settings, current: Mutex::default() }
    }

    /// The open session. The first caller that finds none connects, and the others wait for it.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref().filter(|session| session.is_open())
            && session.answers().await
        {
            return Ok(Arc::clone(session));
        }
        *current = None;
        let session = connect(&self.settings).await?;
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    pub(super) fn end_if_silent(&self) {
        // A caller that holds the lock is connecting: there is no session to end.
        if let Ok(current) = self.current.try_lock()
            && let Some(session) = current.as_ref()
        {
            session.end_if_silent();
        }
    }
}
