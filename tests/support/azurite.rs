//! A real Azure Blob service for tests: Azurite on loopback, with its own port and directory. It ends with
//! the test's process, however that ends. Speaks to it in plain HTTP for what our own store does not show,
//! and makes signatures.

#![allow(dead_code)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use litevisor::testing::model::Secret;
use litevisor::testing::store::{AbsSettings, Scheme, StoreSettings};
use nix::sys::signal::Signal;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// The emulator's well-known account; no secret.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The authority that signed the server's certificate (for 127.0.0.1 and localhost).
pub const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls/ca.pem");
const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls");

const READY_LIMIT: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 5;

pub struct Azurite {
    directory: PathBuf,
    port: u16,
    secure: bool,
    running: Mutex<Child>,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Status, head and body of an answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Azurite {
    /// The one server that all tests of a binary share.
    pub fn shared() -> &'static Azurite {
        static SHARED: OnceLock<Azurite> = OnceLock::new();
        SHARED.get_or_init(|| Azurite::start(false))
    }

    /// The one that takes identities' tokens, over https.
    pub fn secure() -> &'static Azurite {
        static SECURE: OnceLock<Azurite> = OnceLock::new();
        SECURE.get_or_init(|| Azurite::start(true))
    }

    fn start(secure: bool) -> Azurite {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        sweep(base);
        for _ in 0..ATTEMPTS {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let directory = base.join(format!("azurite-{}-{number}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = spawn(command(&directory, port, secure));
            let server = Azurite { directory, port, secure, running: Mutex::new(child) };
            // The port may be lost to somebody else between the choice and the start: then another is tried.
            if server.is_ready() {
                return server;
            }
            eprintln!("Azurite did not start:\n{}", server.log());
        }
        panic!("Azurite did not start in {ATTEMPTS} attempts; see its log above");
    }

    fn is_ready(&self) -> bool {
        let limit = Instant::now() + READY_LIMIT;
        while Instant::now() < limit && self.running.lock().unwrap().try_wait().unwrap().is_none() {
            if matches!(self.try_create_container("readiness"), Some(201 | 409)) {
                return true;
            }
            thread::sleep(Duration::from_millis(30));
        }
        false
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("azurite.log")).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// What a replica in `container` under `path` is configured with.
    pub fn settings(&self, container: &str, path: &str) -> StoreSettings {
        settings_for(&self.endpoint(), container, path)
    }

    /// Creates a container; one that is there already is fine.
    pub fn create_container(&self, name: &str) {
        assert!(
            matches!(self.try_create_container(name), Some(201 | 409)),
            "cannot create {name}:\n{}",
            self.log()
        );
    }

    fn try_create_container(&self, name: &str) -> Option<u16> {
        Some(self.try_call("PUT", &format!("/{name}?restype=container"), &[], &[])?.status)
    }

    /// A signed request of our own; `target` begins behind the account.
    pub fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_call(method, target, headers, body)
            .unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }

    fn try_call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{target}", self.endpoint()));
        request = request.header("content-length", body.len()).header("x-ms-version", "2023-11-03");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(HttpRequestBody::empty()).unwrap();
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
        AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).unwrap();
        // Of version 1.0, so that the answer comes in one piece and ends with the connection.
        let mut text = format!("{method} /{ACCOUNT}{target} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n", self.port);
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        let mut stream = self.connect()?;
        stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut bytes = Vec::new();
        // TLS may end without a word.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
    }

    fn connect(&self) -> Option<Box<dyn ReadWrite>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        if !self.secure {
            return Some(Box::new(stream));
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_file_iter(CA_FILE).unwrap().flatten());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let client =
            rustls::ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
        Some(Box::new(rustls::StreamOwned::new(client, stream)))
    }

    /// Names below `prefix`, relative to it, each with its ETag.
    pub fn list(&self, container: &str, prefix: &str) -> BTreeMap<String, String> {
        let target =
            format!("/{container}?restype=container&comp=list&prefix={}", prefix.replace('/', "%2F"));
        let answer = self.call("GET", &target, &[], &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        let xml = String::from_utf8(answer.body).unwrap();
        assert!(
            xml.contains("<NextMarker/>") || xml.contains("<NextMarker></NextMarker>"),
            "more than one page: {xml}"
        );
        let between = |text: &str, tag: &str| {
            let rest = text.split_once(&format!("<{tag}>")).unwrap().1;
            rest.split_once(&format!("</{tag}>")).unwrap().0.to_owned()
        };
        let blobs = xml.split("<Blob>").skip(1);
        blobs.map(|blob| (between(blob, "Name")[prefix.len()..].to_owned(), between(blob, "Etag"))).collect()
    }

    /// Only the container's name is behind the account.
    pub fn read(&self, container: &str, name: &str) -> Vec<u8> {
        let answer = self.call("GET", &format!("/{container}/{name}"), &[], &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer.body
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let child = self.running.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// For any endpoint: a proxy, or a server that is not there.
pub fn settings_for(endpoint: &str, container: &str, path: &str) -> StoreSettings {
    let abs = AbsSettings {
        account: ACCOUNT.to_owned(),
        account_key: Some(Secret::new(KEY)),
        ..AbsSettings::default()
    };
    let url = format!("abs://{ACCOUNT}@{container}/{path}");
    let place = StoreSettings::new(Scheme::Abs, url, container.to_owned(), path.to_owned());
    StoreSettings { endpoint: Some(endpoint.to_owned()), abs, ..place }
}

/// A shared access signature for a container: `permissions` like `rl`, `end` like `2030-01-01T00:00:00Z`.
pub fn sas(container: &str, permissions: &str, end: &str) -> String {
    const BEGIN: &str = "2020-01-01T00:00:00Z";
    let resource = format!("/blob/{ACCOUNT}/{container}");
    let signed =
        [permissions, BEGIN, end, &resource, "", "", "", "2023-11-03", "c", "", "", "", "", "", "", ""];
    let signature =
        BASE64_STANDARD.encode(hmac_sha256(&BASE64_STANDARD.decode(KEY).unwrap(), &signed.join("\n")));
    let encode =
        |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A");
    let (begin, end, signature) = (encode(BEGIN), encode(end), encode(&signature));
    format!("sv=2023-11-03&sr=c&st={begin}&se={end}&sp={permissions}&sig={signature}")
}

/// Through the TLS library: the only HMAC that is at hand.
fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { panic!("a suite of TLS 1.3") };
    suite.hkdf_provider.hmac_sign(&OkmBlock::new(key), text.as_bytes()).as_ref().to_vec()
}

fn command(directory: &Path, port: u16, secure: bool) -> Command {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/peers/azurite/node_modules/.bin/azurite-blob");
    assert!(program.is_file(), "Azurite is not at {}; run tests/setup.sh", program.display());
    let log = File::create(directory.join("azurite.log")).unwrap();
    let mut command = Command::new(program);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--location"]).arg(directory);
    command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
    if secure {
        command.args(["--oauth", "basic", "--cert"]).arg(format!("{TLS}/server.pem"));
        command.arg("--key").arg(format!("{TLS}/server.key"));
    }
    command.current_dir(directory).stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
    command
}

/// The server's parent is a thread that lives as long as the test's process: the kernel sends the "parent
/// died" signal when the spawning thread ends, and a test's thread ends with its test.
fn spawn(mut command: Command) -> Child {
    let (started, child) = channel();
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
    thread::spawn(move || {
        started.send(command.spawn().unwrap()).unwrap();
        loop {
            thread::park();
        }
    });
    child.recv().unwrap()
}

/// Removes the directories of test processes that are gone: a shared server's is not removed by its own
/// process.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name.strip_prefix("azurite-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
