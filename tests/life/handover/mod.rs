//! The hand-over from outside: a new instance asks, the owner gives, and nothing is lost or forked.

mod deploy;
mod encrypted;
mod fail;
mod load;
mod records;
#[cfg(feature = "s3")]
mod s3;
mod standby;
mod waiting;

use crate::support::asking::free_port;
use crate::support::litevisor::Litevisor;
use crate::support::process::Ended;
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

/// A machine of its own: a disk, ports, one replica with the others.
struct Machine {
    site: Site,
    /// Where it is asked over HTTP.
    status: u16,
}

/// A port that no other machine of these tests has.
fn own_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    wait_for("a port of its own", SOON, || {
        Some(free_port()).filter(|port| GIVEN.lock().unwrap().insert(*port))
    })
}

impl Machine {
    fn first(keys: &str) -> Machine {
        Machine::on(Site::in_directory(), keys)
    }

    /// Another machine with the same replica.
    fn next(other: &Machine, keys: &str) -> Machine {
        let mut site = Site::in_directory();
        site.replica = other.site.replica.clone();
        Machine::on(site, keys)
    }

    /// `keys`: further keys of [handover], and sections behind it.
    fn on(mut site: Site, keys: &str) -> Machine {
        let status = own_port();
        let socket = site.path("litevisor.sock");
        site.settings = format!(
            "[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{status}\"\n[handover]\nenabled = true\npoll = \"100ms\"\n{keys}\n"
        );
        Machine { site, status }
    }

    fn run_bank(&self, options: &[&str]) -> Litevisor {
        self.site.run_bank(options)
    }

    /// The status and the text of /readyz; None: nothing answers.
    fn ready(&self) -> Option<(u16, String)> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.status)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, text))
    }

    fn wait_until_ready(&self, limit: Duration) {
        wait_until("/readyz to say yes", limit, || self.ready().is_some_and(|(status, _)| status == 200));
    }

    fn wait_until_unready(&self, reason: &str) {
        wait_until(reason, SOON, || {
            self.ready().is_some_and(|(status, text)| status == 503 && text.contains(reason))
        });
    }

    fn wait_until_retired(&self) {
        self.wait_until_unready("retired");
    }

    fn names(&self) -> Vec<String> {
        self.site.replica.objects().into_keys().filter(|name| name.contains("owner/")).collect()
    }
}

fn assert_exit(run: &mut Litevisor, code: i32, what: &str) -> Ended {
    let ended = run.wait(SOON);
    assert_eq!(ended.code, code, "{what}:\n{}", run.log_text());
    ended
}
