//! The gate from outside: what a client was told is in the replica, whatever happens afterwards.

mod loss;
mod programs;
mod proof;
mod trouble;

use crate::support::asking::{free_port, wait_for_status};
use crate::support::gate::{Gate, Mood};
use crate::support::litevisor::Litevisor;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, repository, wait_for};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;

/// A site with a gate on `port`.
struct Gated {
    site: Site,
    port: u16,
    /// Where it is asked over HTTP.
    status: u16,
}

impl Gated {
    /// `keys`: further keys of [[gate]].
    fn new(mut site: Site, keys: &str) -> Gated {
        let port = own_port();
        let app = own_port();
        let status = own_port();
        let socket = site.path("litevisor.sock");
        site.settings += &format!(
            "[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{status}\"\n[[gate]]\nlisten = \"127.0.0.1:{port}\"\n\
             app = \"127.0.0.1:{app}\"\nset_port = true\n{keys}\n"
        );
        Gated { site, port, status }
    }

    /// On a store of its own behind a road that can be cut.
    fn on_a_road(bucket: &str, keys: &str) -> (Gated, Gate) {
        let mut site = Site::in_s3(bucket).with_settings("[shutdown]\ngrace = \"10s\"");
        let road = Gate::before(&Seaweed::shared().endpoint(), Mood::Open);
        site.replica = site.replica.at(&road.endpoint());
        (Gated::new(site, keys), road)
    }

    fn run(&self) -> Litevisor {
        self.run_with(0)
    }

    /// The server ends with this status when it is told to stop.
    fn run_with(&self, status: u8) -> Litevisor {
        let server = repository().join("tests/life/gate/server.py");
        let db = self.site.db();
        let words = ["python3", "-S", server.to_str().unwrap(), db.to_str().unwrap(), &status.to_string()];
        self.site.run(&words)
    }

    fn client(&self) -> Client {
        Client::new(wait_for("the gate to open", SOON, || TcpStream::connect(("127.0.0.1", self.port)).ok()))
    }
}

/// Until so many bytes are held.
fn held(gated: &Gated, bytes: u64) {
    wait_for_status("bytes that are held", &gated.site.config(), |value| {
        value["gates"][0]["held_bytes"] == bytes
    });
}

/// A port that no other site of these tests has.
fn own_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    wait_for("a port of its own", SOON, || {
        Some(free_port()).filter(|port| GIVEN.lock().unwrap().insert(*port))
    })
}

/// A client that waits for each answer.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// None: the connection has ended without an answer.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        line.strip_suffix('\n').map(String::from)
    }

    fn ask(&mut self, line: &str) -> Option<String> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).ok()?;
        self.answer()
    }

    /// Nothing has come yet.
    fn is_waiting(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let nothing =
            stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        nothing
    }
}
