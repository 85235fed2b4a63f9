//! The life of one gate: waits for the app, listens, accepts, and ends its connections in the end.

use super::connection::{Connection, Ended};
use super::decide::Reason;
use super::listener::{Accepted, Listener};
use super::settings::Accept;
use super::shared::Shared;
use super::statistics::Counted;
use super::stream::Stream;
use super::{Life, Over, proxy_header};
use crate::model::log_throttle::LogThrottle;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Between two tries to connect to the app. The first ones follow each other closely, so that a fast app is
/// reached at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(200);
/// To connect to the app takes at most this long: its queue may be full.
const CONNECT: Duration = Duration::from_secs(10);
/// An app that does not accept for this long is mentioned in the log.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a failed `accept` (no descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// The pause before an address that cannot be bound is tried again.
const BIND_RETRY: Duration = Duration::from_secs(2);
/// Between two looks whether the client's kernel has everything, at the end.
const DELIVERY_CHECK: Duration = Duration::from_millis(2);

/// Ends when the last connection has ended after the app, or at once when the replica belongs to another
/// writer.
pub async fn serve(shared: Arc<Shared>, mut life: watch::Receiver<Life>) {
    if shared.settings.accept == Accept::Ready && !wait_for_app(&shared, &mut life).await {
        return;
    }
    let Some(listener) = open(&shared, &mut life).await else { return };
    let gate = &shared.settings.listen;
    tracing::info!(%gate, app = %shared.settings.app, "the gate is open");
    shared.statistics.set_shut(None);
    let mut serving =
        Serving { listener: Some(listener), connections: JoinSet::new(), refused: LogThrottle::default() };
    let (why, reason) = serving.until_the_end(&shared, &mut life).await;
    let connections = serving.connections.len();
    drop(serving);
    shared.statistics.set_shut(Some(why.into()));
    if let Some(reason) = reason {
        tracing::error!(%gate, connections, "the gate is closed: {why}");
        shared.closed(reason, connections);
    }
}

/// False: the gate ends before the app accepts.
async fn wait_for_app(shared: &Arc<Shared>, life: &mut watch::Receiver<Life>) -> bool {
    let app = &shared.settings.app;
    shared.statistics.set_shut(Some(format!("the app does not accept connections on {app} yet")));
    let mut begun = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let now = *life.borrow_and_update();
        if now.is_ending() {
            return false;
        }
        if now == Life::Running {
            match connect(shared).await {
                Ok(mut stream) => {
                    if shared.settings.proxy_protocol {
                        // A connection without a header would be an error in the app's log.
                        let header = proxy_header::of_probe();
                        let _ = poll_fn(|cx| stream.poll_write(cx, &header)).await;
                    }
                    return true;
                }
                Err(error) => {
                    let since = begun.get_or_insert_with(Instant::now);
                    if since.elapsed() >= PATIENCE {
                        tracing::warn!(
                            "the gate waits for the app: it does not accept connections on {app}: {error}"
                        );
                        *since += PATIENCE;
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause), if now == Life::Running => pause = (pause * 2).min(PAUSE),
            changed = life.changed() => if changed.is_err() { return false },
        }
    }
}

async fn connect(shared: &Shared) -> io::Result<Stream> {
    tokio::time::timeout(CONNECT, Stream::connect(&shared.settings.app)).await.map_err(io::Error::from)?
}

/// Tries again until the address can be bound.
async fn open(shared: &Arc<Shared>, life: &mut watch::Receiver<Life>) -> Option<Listener> {
    let gate = &shared.settings.listen;
    let mut failed = false;
    loop {
        if life.borrow_and_update().is_ending() {
            return None;
        }
        match Listener::bind(gate).await {
            Ok(listener) => return Some(listener),
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::error!(%gate, "the gate cannot listen, tried again every 2 s: {error}");
                }
                shared.statistics.set_shut(Some(format!("cannot listen on {gate}: {error}")));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BIND_RETRY) => {}
            changed = life.changed() => if changed.is_err() { return None },
        }
    }
}

struct Serving {
    listener: Option<Listener>,
    /// Those that are left are reset when this is dropped.
    connections: JoinSet<Ended>,
    refused: LogThrottle,
}

impl Serving {
    /// Why the gate has ended, and what it means for the connections that are left.
    async fn until_the_end(
        &mut self,
        shared: &Arc<Shared>,
        life: &mut watch::Receiver<Life>,
    ) -> (&'static str, Option<Reason>) {
        const STOPPED: &str = "litevisor stops";
        const FENCED: &str = "another writer has the replica";
        loop {
            let now = *life.borrow_and_update();
            if now == Life::Fenced {
                return (FENCED, Some(Reason::Fenced));
            }
            if now.is_ending() {
                self.listener = None;
                shared.statistics.set_shut(Some(STOPPED.into()));
            }
            if self.listener.is_none() && self.connections.is_empty() {
                return (STOPPED, None);
            }
            let has_room = self.connections.len() < shared.settings.max_connections;
            tokio::select! {
                changed = life.changed() => if changed.is_err() { return (STOPPED, None) },
                () = end_of(now) => return (STOPPED, None),
                accepted = accept(self.listener.as_ref()), if has_room => {
                    self.admit(accepted, shared, life).await
                }
                Some(ended) = self.connections.join_next() => match fatal(ended) {
                    Some(Reason::Fenced) => return (FENCED, Some(Reason::Fenced)),
                    Some(reason) => return ("internal error", Some(reason)),
                    None => {}
                },
            }
        }
    }

    async fn admit(
        &mut self,
        accepted: io::Result<Accepted>,
        shared: &Arc<Shared>,
        life: &watch::Receiver<Life>,
    ) {
        match accepted {
            Ok(accepted) => {
                self.connections.spawn(live(accepted, Arc::clone(shared), life.clone()));
            }
            // This connection's, which is gone.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                let text = error.to_string();
                if self.refused.due(&text) {
                    tracing::error!(gate = %shared.settings.listen, "the gate cannot accept connections: \
                        {text}");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn accept(listener: Option<&Listener>) -> io::Result<Accepted> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// When what is left is reset.
async fn end_of(life: Life) {
    match life {
        Life::Over(Over { by, .. }) => tokio::time::sleep_until(by.instant().into()).await,
        _ => std::future::pending().await,
    }
}

/// What ends the gate as a whole.
fn fatal(ended: Result<Ended, JoinError>) -> Option<Reason> {
    match ended {
        Ok(Ended::Closed(Reason::Fenced)) => Some(Reason::Fenced),
        Ok(_) => None,
        // The panic itself is in the log. It may have left out a look: nothing may leave any more.
        Err(_) => Some(Reason::Failed),
    }
}

/// One connection from its beginning to its end.
async fn live(accepted: Accepted, shared: Arc<Shared>, mut life: watch::Receiver<Life>) -> Ended {
    let Accepted { stream, client, listener } = accepted;
    let counted = Counted::begin(&shared.statistics);
    let Some(app) = reach(&stream, &shared, &mut life).await else {
        stream.reset_on_close();
        shared.closed(Reason::Unreachable, 1);
        return Ended::Closed(Reason::Unreachable);
    };
    let greeting =
        if shared.settings.proxy_protocol { proxy_header::of_client(client, listener) } else { Vec::new() };
    let mut connection = Connection::new(stream, app, greeting, counted, Arc::clone(&shared));
    let ended = loop {
        let now = *life.borrow_and_update();
        tokio::select! {
            ended = poll_fn(|cx| connection.poll(cx, now)) => break ended,
            changed = life.changed() => if changed.is_err() { return Ended::Reset },
        }
    };
    match ended {
        Ended::Closed(reason) => shared.closed(reason, 1),
        // The network may end with litevisor: the client's kernel must have everything by then.
        Ended::Complete if life.borrow().is_ending() => {
            while !connection.client().is_delivered() {
                tokio::time::sleep(DELIVERY_CHECK).await;
            }
        }
        Ended::Complete | Ended::Reset => {}
    }
    ended
}

/// None: the app does not accept the connection, or its client is gone.
async fn reach(client: &Stream, shared: &Arc<Shared>, life: &mut watch::Receiver<Life>) -> Option<Stream> {
    let mut pause = FIRST_PAUSE;
    loop {
        let now = *life.borrow_and_update();
        // Another process may listen there before the app does.
        if now == Life::Running
            && let Ok(stream) = connect(shared).await
        {
            return Some(stream);
        }
        if shared.settings.accept == Accept::Ready || now.is_ending() || client.is_reset() {
            return None;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE),
            changed = life.changed() => if changed.is_err() { return None },
        }
    }
}
