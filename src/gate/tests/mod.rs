//! The gate on real sockets, with a ledger that the test drives.

mod copying;
mod holding;
mod life;
mod model;

use super::decide::Reason;
use super::*;
use crate::model::{Durability, Fenced, Ticket};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

/// How long a test waits for an event.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Default)]
struct Position {
    committed: u64,
    uploaded: u64,
    fenced: bool,
}

/// A ledger whose commits and uploads are the test's.
struct Ledger {
    position: watch::Sender<Position>,
    requests: AtomicU64,
    looks: AtomicU64,
    /// Happens once, right after a look.
    after_look: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Ledger {
    fn commit(&self) {
        self.position.send_modify(|position| position.committed += 1);
    }

    fn upload(&self) {
        self.position.send_modify(|position| position.uploaded = position.committed);
    }

    fn fence(&self) {
        self.position.send_modify(|position| position.fenced = true);
    }
}

impl DurabilityLedger for Ledger {
    fn look(&self) -> Durability {
        self.looks.fetch_add(1, SeqCst);
        let Position { committed, uploaded, fenced } = *self.position.borrow();
        self.after_look.lock().unwrap().take().into_iter().for_each(|happens| happens());
        if committed == uploaded && !fenced {
            Durability::Durable
        } else {
            Durability::Pending(Ticket(committed))
        }
    }

    fn request_upload(&self) {
        self.requests.fetch_add(1, SeqCst);
    }

    fn uploaded(&self, ticket: Ticket) -> Pin<Box<dyn Future<Output = Result<(), Fenced>> + Send + '_>> {
        Box::pin(async move {
            let mut seen = self.position.subscribe();
            let known = seen.wait_for(|now| now.fenced || now.uploaded >= ticket.0).await;
            if known.is_ok_and(|now| now.fenced) { Err(Fenced) } else { Ok(()) }
        })
    }

    fn unprovable(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A gate in front of an app that is the test itself.
struct World {
    ledger: Arc<Ledger>,
    gates: Gates,
    app: TcpListener,
    gate: SocketAddr,
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ledger() -> Arc<Ledger> {
    let (position, _) = watch::channel(Position::default());
    Arc::new(Ledger {
        position,
        requests: AtomicU64::new(0),
        looks: AtomicU64::new(0),
        after_look: Mutex::default(),
    })
}

fn start(settings: GateSettings) -> (Arc<Ledger>, Gates) {
    let ledger = ledger();
    let seen: Arc<dyn DurabilityLedger> = ledger.clone();
    let gates = Gates::start(vec![settings], &seen).unwrap();
    (ledger, gates)
}

fn settings(gate: SocketAddr, app: SocketAddr) -> GateSettings {
    GateSettings::new(ListenAddress::Tcp(gate), AppAddress::Tcp(vec![app]))
}

impl World {
    /// The app runs, and the gate is open.
    fn begin(change: impl FnOnce(&mut GateSettings)) -> World {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = free_address();
        let mut settings = settings(gate, app.local_addr().unwrap());
        change(&mut settings);
        let waits = settings.accept == Accept::Ready;
        let (ledger, gates) = start(settings);
        gates.app_started();
        if waits {
            // The gate's own connection, which tries whether the app accepts.
            app.accept().unwrap();
        }
        let world = World { ledger, gates, app, gate };
        world.until("the gate is open", |view| view.shut.is_none());
        world
    }

    fn client(&self) -> TcpStream {
        within_limit(TcpStream::connect(self.gate).unwrap())
    }

    /// A connection's both ends: the client's and the app's.
    fn connection(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, within_limit(self.app.accept().unwrap().0))
    }

    fn view(&self) -> GateView {
        self.gates.statistics()[0].view()
    }

    fn until(&self, what: &str, reached: impl Fn(&GateView) -> bool) {
        let begun = Instant::now();
        while !reached(&self.view()) {
            assert!(begun.elapsed() < LIMIT, "not reached: {what}: {:?}", self.view());
            std::thread::yield_now();
        }
    }

    fn held(&self, bytes: u64) {
        self.until(&format!("{bytes} bytes are held"), |view| view.held_bytes == bytes);
    }

    fn closed(&self, reason: Reason) -> u64 {
        self.view().closed.into_iter().find(|(known, _)| *known == reason.name()).unwrap().1
    }

    fn until_closed(&self, reason: Reason, count: u64) {
        self.until(&format!("{count} times closed: {reason:?}"), |_| self.closed(reason) == count);
    }
}

fn within_limit(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

fn read(stream: &mut impl Read, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn nothing_comes(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let found = stream.read(&mut [0; 100]);
    assert_eq!(found.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    stream.set_nonblocking(false).unwrap();
}

fn ends(stream: &mut impl Read) {
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0, "a clean end, and nothing before it");
}

/// Nothing before it, either.
fn is_reset(stream: &mut impl Read) {
    assert_eq!(stream.read(&mut [0; 100]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

/// As a process that is killed with bytes unread.
fn reset(stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::net::TcpStream::from_std(stream).unwrap().set_zero_linger().unwrap() });
}
