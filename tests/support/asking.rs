//! How the tests ask: the shipped client, and plain HTTP.

use crate::support::gate::{Gate, Mood};
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn client(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(words).env_remove("LITEVISOR_CONFIG").env_remove("XDG_RUNTIME_DIR");
    command
}

/// `litevisor WORDS --config FILE`.
pub fn ask(config: &Path, words: &[&str]) -> Said {
    said(client(words).arg("--config").arg(config).output().unwrap())
}

pub fn status(config: &Path) -> Value {
    let said = ask(config, &["status", "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// Until `status --json` shows what is wanted.
pub fn wait_for_status(what: &str, config: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, SOON, || {
        let said = ask(config, &["status", "--json"]);
        let value: Value = serde_json::from_str(&said.out).ok()?;
        wanted(&value).then_some(value)
    })
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body.
pub fn http(port: u16, method: &str, target: &str) -> (u16, String) {
    let mut stream = wait_for("somebody who listens", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {target}: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A site behind a gate, with a socket and a port of its own.
pub struct Asked {
    pub site: Site,
    pub gate: Gate,
    pub port: u16,
}

impl Asked {
    pub fn new(bucket: &str, more: &str) -> Asked {
        let port = free_port();
        let mut site = Site::in_s3(bucket);
        let socket = site.path("litevisor.sock");
        site.settings = format!("{more}\n[status]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{port}\"\n");
        let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Open);
        site.replica = site.replica.at(&gate.endpoint());
        Asked { site, gate, port }
    }

    pub fn ask(&self, words: &[&str]) -> Said {
        ask(&self.site.config(), words)
    }

    pub fn http(&self, method: &str, target: &str) -> (u16, String) {
        http(self.port, method, target)
    }

    pub fn wait_until_ready(&self) {
        crate::support::wait_until("/readyz", SOON, || self.http("GET", "/readyz").0 == 200);
    }
}
