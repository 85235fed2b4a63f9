//! The status thread: answers on the socket and, where configured, on a TCP address, from before the restore to the end. Has a
//! thread and a runtime of its own, so that nobody who asks can hold up replication or the flush. Bounded: connections, the
//! bytes of a request, the time of a connection; when all places are taken, the one that has waited longest without
//! having asked goes. Never ends the program.

use super::http::{Desk, Door, text};
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

/// Connections at once, of each door. `run/prepare` counts their descriptors.
const PLACES: usize = 24;
/// A request has to be here by then; and its answer taken, counted anew.
const HEAD: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 << 10;
/// Without descriptors nobody can be let in: wait for some.
const NO_ROOM: Duration = Duration::from_millis(200);
/// An address that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is to be served where.
pub struct Doors {
    pub socket: Option<Bound>,
    pub listen: Option<SocketAddr>,
}

/// Runs until the process ends. The socket's name is ours until this is dropped.
pub struct Serving {
    _socket: Option<Bound>,
}

pub fn start(doors: Doors, desk: Desk) -> io::Result<Serving> {
    let Doors { socket, listen } = doors;
    if socket.is_none() && listen.is_none() {
        return Ok(Serving { _socket: None });
    }
    let listener = socket.as_ref().map(|bound| bound.listener.try_clone()).transpose()?;
    let unseen = socket.as_ref().is_some_and(|bound| matches!(bound.address, super::address::Address::Abstract(_)));
    // Probes may come before the restore begins.
    let network = listen.map(|address| (address, listen_on(address)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("status".into()).spawn(move || {
        runtime.block_on(async move {
            let desk = Arc::new(desk);
            if let Some((address, bound)) = network {
                tokio::spawn(serve_network(address, bound, Arc::clone(&desk)));
            }
            if let Some(listener) = listener {
                serve_socket(listener, unseen, desk).await;
            }
            std::future::pending::<()>().await;
        });
    })?;
    Ok(Serving { _socket: socket })
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

async fn serve_network(address: SocketAddr, mut bound: io::Result<std::net::TcpListener>, desk: Arc<Desk>) {
    let mut told = false;
    let listener = loop {
        match bound.and_then(TcpListener::from_std) {
            Ok(listener) => break listener,
            Err(error) if told => tracing::debug!("cannot listen on {address} yet: {error}"),
            Err(error) => tracing::error!("cannot listen on {address}, tried again every 2 s: {error}"),
        }
        told = true;
        tokio::time::sleep(AGAIN).await;
        bound = listen_on(address);
    };
    if told {
        tracing::info!("listening on {address} after all");
    }
    let mut guests = Guests::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => guests.admit(stream, Door::Network, true, &desk),
            Err(_) => tokio::time::sleep(NO_ROOM).await,
        }
    }
}

/// `unseen`: its name has no file, and so no permissions: it is for those who see this process.
async fn serve_socket(listener: std::os::unix::net::UnixListener, unseen: bool, desk: Arc<Desk>) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    let own = nix::unistd::geteuid().as_raw();
    let mut guests = Guests::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let seen = |peer: &tokio::net::unix::UCred| !unseen || peer.pid().is_some_and(|pid| pid > 0);
                let may = stream.peer_cred().is_ok_and(|peer| may_ask(peer.uid(), own) && seen(&peer));
                guests.admit(stream, Door::Socket, may, &desk);
            }
            Err(_) => tokio::time::sleep(NO_ROOM).await,
        }
    }
}

/// Root and whoever litevisor runs as.
fn may_ask(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

#[derive(Default)]
struct Guests(VecDeque<Guest>);

struct Guest {
    task: AbortHandle,
    /// Its request is here, and is being answered.
    asked: Arc<AtomicBool>,
}

impl Guests {
    /// Not when everybody here is being answered.
    fn admit<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &mut self,
        stream: S,
        door: Door,
        may: bool,
        desk: &Arc<Desk>,
    ) {
        self.0.retain(|guest| !guest.task.is_finished());
        if self.0.len() >= PLACES {
            let Some(idle) = self.0.iter().position(|guest| !guest.asked.load(Ordering::Relaxed)) else { return };
            if let Some(guest) = self.0.remove(idle) {
                guest.task.abort();
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let visit = visit(stream, door, may, Arc::clone(desk), Arc::clone(&asked));
        self.0.push_back(Guest { task: tokio::spawn(visit).abort_handle(), asked });
    }
}

/// One connection, one request.
async fn visit<S>(stream: S, door: Door, may: bool, desk: Arc<Desk>, asked: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let end = Mutex::new(Instant::now() + LIFE);
    let set_end = |span: Duration| *end.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + span;
    let service = service_fn(|request| {
        let (desk, asked) = (&desk, &asked);
        async move {
            if !may {
                return Ok::<_, std::convert::Infallible>(text(StatusCode::FORBIDDEN, "root or litevisor's user\n"));
            }
            asked.store(true, Ordering::Relaxed);
            let answer = desk.answer(&request, door, |span| set_end(span + LIFE)).await;
            asked.store(false, Ordering::Relaxed);
            set_end(LIFE);
            Ok(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).keep_alive(false);
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
        for (user, own, may) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1001, 1000, false), (1000, 0, false)]
        {
            assert_eq!(may_ask(user, own), may, "{user} {own}");
        }
    }
}
