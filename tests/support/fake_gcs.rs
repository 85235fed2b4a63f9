//! A real Google Cloud Storage server for tests: fake-gcs-server on loopback, in memory. It ends with the
//! test that owns it, or with the test's process, however that ends. It never asks who it speaks to.

#![allow(dead_code)]

use litevisor::testing::store::{Scheme, StoreSettings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Slow machines, cold caches.
const READY_LIMIT: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 5;
const REPLY_LIMIT: Duration = Duration::from_secs(60);

static SHARED: OnceLock<FakeGcs> = OnceLock::new();

pub struct FakeGcs {
    address: SocketAddr,
    server: Pid,
    ended: Mutex<Receiver<ExitStatus>>,
}

impl FakeGcs {
    /// A server of this test's own, ready to serve.
    pub fn start() -> FakeGcs {
        for _ in 0..ATTEMPTS {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let fake = launch(address);
            // The port may be lost to somebody else between the choice and the start: then another is tried.
            if fake.is_ready() {
                return fake;
            }
        }
        panic!("fake-gcs-server did not start in {ATTEMPTS} attempts");
    }

    /// The one server that all tests of a binary may share.
    pub fn shared() -> &'static FakeGcs {
        SHARED.get_or_init(FakeGcs::start)
    }

    /// The same, if a test has asked for it.
    pub fn started() -> Option<&'static FakeGcs> {
        SHARED.get()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a replica in `bucket` under `path` is configured with.
    pub fn settings(&self, bucket: &str, path: &str) -> StoreSettings {
        settings_for(&self.endpoint(), bucket, path)
    }

    pub fn create_bucket(&self, bucket: &str) {
        let body = format!("{{\"name\":\"{bucket}\"}}");
        let (status, _) = call(self.address, "POST", "/storage/v1/b?project=test", &body);
        assert!(matches!(status, 200 | 409), "creating {bucket}: {status}");
    }

    /// Name and description of every object that begins with `prefix`.
    pub fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Value> {
        let (mut found, mut token) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/storage/v1/b/{bucket}/o?prefix={prefix}&pageToken={token}");
            let (status, body) = call(self.address, "GET", &path, "");
            assert_eq!(status, 200, "listing {bucket}");
            let page: Value = serde_json::from_slice(&body).unwrap();
            for object in page["items"].as_array().into_iter().flatten() {
                found.insert(object["name"].as_str().unwrap().to_owned(), object.clone());
            }
            match page["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return found,
            }
        }
    }

    pub fn read(&self, bucket: &str, name: &str) -> Vec<u8> {
        let path = format!("/storage/v1/b/{bucket}/o/{}?alt=media", name.replace('/', "%2F"));
        let (status, body) = call(self.address, "GET", &path, "");
        assert_eq!(status, 200, "reading {name}");
        body
    }

    fn is_ready(&self) -> bool {
        let limit = Instant::now() + READY_LIMIT;
        while Instant::now() < limit {
            if self.ended.lock().unwrap().try_recv().is_ok() {
                return false;
            }
            if TcpStream::connect(self.address).is_ok() {
                return call(self.address, "GET", "/storage/v1/b?project=test", "").0 == 200;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for FakeGcs {
    fn drop(&mut self) {
        let _ = kill(self.server, Signal::SIGKILL);
        let _ = self.ended.lock().unwrap().recv_timeout(READY_LIMIT);
    }
}

pub fn settings_for(endpoint: &str, bucket: &str, path: &str) -> StoreSettings {
    let url = format!("gs://{bucket}/{path}");
    let settings = StoreSettings::new(Scheme::Gs, url, bucket.to_owned(), path.to_owned());
    StoreSettings { endpoint: Some(endpoint.to_owned()), ..settings }
}

fn launch(address: SocketAddr) -> FakeGcs {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/peers/fake-gcs/bin/fake-gcs-server");
    assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
    let mut server = Command::new(program);
    server.args(["-scheme", "http", "-host", "127.0.0.1", "-backend", "memory", "-log-level", "error"]);
    // Litestream reads objects by the XML interface, which is told from the rest by the host's name.
    server.arg("-port").arg(address.port().to_string()).arg("-public-host").arg(address.to_string());
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe { server.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
    let ((started, pid), (report, ended)) = (channel(), channel());
    // The kernel takes the end of the thread that started it for the parent's: this one stays.
    std::thread::spawn(move || {
        let mut child = server.spawn().unwrap();
        started.send(Pid::from_raw(child.id().cast_signed())).unwrap();
        let _ = report.send(child.wait().unwrap());
    });
    FakeGcs { address, server: pid.recv().unwrap(), ended: Mutex::new(ended) }
}

/// One request on a connection of its own.
fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&reply[..end]).split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply.split_off(end + 4))
}
