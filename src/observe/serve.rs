//! The status thread: answers on the socket and, if configured, on a TCP address, from before the restore to
//! the end. It has a runtime of its own, so that clients cannot delay replication or the flush. Connections,
//! the bytes of a request and the time of a connection are limited; when all connections are in use, the
//! oldest one without a request is closed.

use super::http::{Listener, StatusHandler, text};
use super::lag_history;
use super::socket::Bound;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Connections at once, of each listener. `run/prepare` counts their descriptors.
const MAX_CONNECTIONS: usize = 24;
/// The head of a request must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 << 10;
/// The pause after a failed `accept` (no descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// The pause before an address that cannot be bound is tried again.
const BIND_RETRY: Duration = Duration::from_secs(2);

/// The socket and the TCP address to serve.
pub struct Listeners {
    pub socket: Option<Bound>,
    pub listen: Option<SocketAddr>,
}

/// The status thread, which runs until the process ends. Dropping this frees the socket's name.
pub struct Serving {
    _socket: Option<Bound>,
}

pub fn start(listeners: Listeners, handler: StatusHandler) -> io::Result<Serving> {
    let Listeners { socket, listen } = listeners;
    if socket.is_none() && listen.is_none() {
        return Ok(Serving { _socket: None });
    }
    let listener = socket.as_ref().map(|bound| bound.listener.try_clone()).transpose()?;
    let unseen =
        socket.as_ref().is_some_and(|bound| matches!(bound.address, super::address::Address::Abstract(_)));
    // Probes may come before the restore begins.
    let network = listen.map(|address| (address, listen_on(address)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("status".into()).spawn(move || {
        runtime.block_on(async move {
            let handler = Arc::new(handler);
            if let Some((address, bound)) = network {
                tokio::spawn(serve_network(address, bound, Arc::clone(&handler)));
                tokio::spawn(sample_lags(Arc::clone(&handler)));
            }
            if let Some(listener) = listener {
                serve_socket(listener, unseen, handler).await;
            }
            std::future::pending::<()>().await;
        });
    })?;
    Ok(Serving { _socket: socket })
}

/// For the page that the network sees.
async fn sample_lags(handler: Arc<StatusHandler>) {
    let mut last = Instant::now();
    loop {
        handler.sample_lags(last.elapsed());
        last = Instant::now();
        tokio::time::sleep(lag_history::EVERY).await;
    }
}

fn listen_on(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).or_else(|error| match address {
        // `:9090` on a machine without IPv6.
        SocketAddr::V6(all) if all.ip().is_unspecified() && error.kind() != io::ErrorKind::AddrInUse => {
            std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, all.port()))
        }
        _ => Err(error),
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve_network(
    address: SocketAddr,
    mut bound: io::Result<std::net::TcpListener>,
    handler: Arc<StatusHandler>,
) {
    let mut failed = false;
    let listener = loop {
        match bound.and_then(TcpListener::from_std) {
            Ok(listener) => break listener,
            Err(error) if failed => tracing::debug!("cannot listen on {address} yet: {error}"),
            Err(error) => tracing::error!("cannot listen on {address}, tried again every 2 s: {error}"),
        }
        failed = true;
        tokio::time::sleep(BIND_RETRY).await;
        bound = listen_on(address);
    };
    if failed {
        tracing::info!("listening on {address}");
    }
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.admit(stream, Listener::Network, true, &handler),
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// `unseen`: an abstract name has no permissions, so only clients whose PID is visible may use it.
async fn serve_socket(listener: std::os::unix::net::UnixListener, unseen: bool, handler: Arc<StatusHandler>) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    let own = nix::unistd::geteuid().as_raw();
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let seen = |peer: &tokio::net::unix::UCred| !unseen || peer.pid().is_some_and(|pid| pid > 0);
                let permitted = stream.peer_cred().is_ok_and(|peer| may_ask(peer.uid(), own) && seen(&peer));
                connections.admit(stream, Listener::Socket, permitted, &handler);
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Root and litevisor's own user may ask.
fn may_ask(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

#[derive(Default)]
struct Connections(VecDeque<OpenConnection>);

struct OpenConnection {
    task: AbortHandle,
    /// Its request has arrived and is being answered.
    asked: Arc<AtomicBool>,
}

impl Connections {
    /// Refuses the connection if all others are being answered.
    fn admit<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &mut self,
        stream: S,
        listener: Listener,
        permitted: bool,
        handler: &Arc<StatusHandler>,
    ) {
        self.0.retain(|connection| !connection.task.is_finished());
        if self.0.len() >= MAX_CONNECTIONS {
            let Some(idle) = self.0.iter().position(|connection| !connection.asked.load(Ordering::Relaxed))
            else {
                return;
            };
            if let Some(connection) = self.0.remove(idle) {
                connection.task.abort();
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let serve_connection =
            serve_connection(stream, listener, permitted, Arc::clone(handler), Arc::clone(&asked));
        self.0.push_back(OpenConnection { task: tokio::spawn(serve_connection).abort_handle(), asked });
    }
}

/// One connection, one request.
async fn serve_connection<S>(
    stream: S,
    listener: Listener,
    permitted: bool,
    handler: Arc<StatusHandler>,
    asked: Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let end = Mutex::new(Instant::now() + CONNECTION_TIMEOUT);
    let set_end =
        |span: Duration| *end.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + span;
    let service = service_fn(|request| {
        let handler = &handler;
        let asked = &asked;
        async move {
            if !permitted {
                return Ok::<_, std::convert::Infallible>(text(
                    StatusCode::FORBIDDEN,
                    "root or litevisor's user\n",
                ));
            }
            asked.store(true, Ordering::Relaxed);
            let answer = handler.handle(&request, listener, |span| set_end(span + CONNECTION_TIMEOUT)).await;
            asked.store(false, Ordering::Relaxed);
            set_end(CONNECTION_TIMEOUT);
            Ok(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    loop {
        let until = *end.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::select! {
            _ = &mut connection => return,
            () = tokio::time::sleep_until(until) => {
                if *end.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask() {
        for (user, own, permitted) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1001, 1000, false), (1000, 0, false)]
        {
            assert_eq!(may_ask(user, own), permitted, "{user} {own}");
        }
    }
}
