//! A real S3 server for tests: SeaweedFS on loopback, with its own ports, directory and credentials. It ends
//! with the test that owns it, or with the test's process, however that ends.

#![allow(dead_code)]

use futures_util::FutureExt;
use litevisor::testing::model::Secret;
use litevisor::testing::store::plain_http_client;
use litevisor::testing::store::{S3Settings, Scheme, StoreSettings};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub const ACCESS_KEY: &str = "litevisor-test";
pub const SECRET_KEY: &str = "litevisor-test-secret";
pub const REGION: &str = "us-east-1";

/// The SDK over plain http, for what our own store does not show.
pub fn sdk_client(endpoint: &str) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::retry::RetryConfig;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
    let http = plain_http_client().now_or_never().expect("nothing to wait for").expect("a client");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .http_client(http)
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// Slow machines, cold caches.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 5;
/// gRPC listens on the HTTP port plus this; SeaweedFS's own rule.
const GRPC: u16 = 10_000;
const ROLES: usize = 6;

/// The authority that signed the server's certificate (for 127.0.0.1 and localhost).
pub const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls/ca.pem");

pub struct Seaweed {
    directory: PathBuf,
    ports: [u16; ROLES],
    running: Mutex<Option<Running>>,
}

struct Running {
    group: Pid,
    ended: Receiver<ExitStatus>,
}

impl Seaweed {
    /// A server of this test's own, ready to serve.
    pub fn start() -> Seaweed {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let weed = weed();
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        sweep(base);
        for _ in 0..ATTEMPTS {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let directory = base.join(format!("seaweed-{}-{number}", std::process::id()));
            fs::create_dir_all(directory.join("data")).unwrap();
            fs::write(directory.join("s3.json"), credentials()).unwrap();
            let ports = free_ports();
            fs::write(directory.join("ports"), ports.map(|port| port.to_string()).join(" ")).unwrap();
            let server = Seaweed { directory, ports, running: Mutex::default() };
            // A port may be lost to somebody else between the choice and the start: then others are tried.
            if server.launch(&weed) {
                return server;
            }
            eprintln!("SeaweedFS did not start:\n{}", server.log_tail());
        }
        panic!("SeaweedFS did not start in {ATTEMPTS} attempts; see its log above");
    }

    /// The one server that all tests of a binary may share; never stopped by a test.
    pub fn shared() -> &'static Seaweed {
        static SHARED: OnceLock<Seaweed> = OnceLock::new();
        SHARED.get_or_init(Seaweed::start)
    }

    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The same server with TLS; its certificate is signed by `CA_FILE`.
    pub fn https_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[5])
    }

    /// What a replica in `bucket` under `path` is configured with.
    pub fn settings(&self, bucket: &str, path: &str) -> StoreSettings {
        Seaweed::settings_for(&self.endpoint(), bucket, path)
    }

    /// The same for any endpoint: a proxy, or a server that is not there.
    pub fn settings_for(endpoint: &str, bucket: &str, path: &str) -> StoreSettings {
        StoreSettings {
            endpoint: Some(endpoint.to_owned()),
            s3: S3Settings {
                region: Some(REGION.to_owned()),
                access_key_id: Some(ACCESS_KEY.to_owned()),
                secret_access_key: Some(Secret::new(SECRET_KEY)),
                ..S3Settings::default()
            },
            ..StoreSettings::new(
                Scheme::S3,
                format!("s3://{bucket}/{path}"),
                bucket.to_owned(),
                path.to_owned(),
            )
        }
    }

    /// The SDK itself, for what our own store does not show (metadata, open uploads).
    pub fn client(&self) -> aws_sdk_s3::Client {
        sdk_client(&self.endpoint())
    }

    /// Creates a bucket; one that is there already is fine.
    pub fn create_bucket(&self, name: &str) {
        let error = match self.try_create_bucket(name) {
            Ok(()) => return,
            Err(error) => error,
        };
        panic!("cannot create the bucket {name}: {error}");
    }

    /// Stops in order; the data stay.
    pub fn stop(&self) {
        self.end(Signal::SIGTERM);
    }

    /// SIGKILL to all of it; the data stay.
    pub fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    /// The same directory and ports again; returns when it serves.
    pub fn restart(&self) {
        self.end(Signal::SIGKILL);
        assert!(self.launch(&weed()), "SeaweedFS did not come back:\n{}", self.log_tail());
    }

    fn try_create_bucket(&self, name: &str) -> Result<(), String> {
        use aws_sdk_s3::operation::create_bucket::CreateBucketError;
        let client = self.client();
        block_on(async {
            match client.create_bucket().bucket(name).send().await.map_err(|error| error.into_service_error())
            {
                Ok(_)
                | Err(
                    CreateBucketError::BucketAlreadyOwnedByYou(_) | CreateBucketError::BucketAlreadyExists(_),
                ) => Ok(()),
                Err(error) => Err(format!("{error:?}")),
            }
        })
    }

    /// Starts the server and waits until it stores an object. False when it ended instead.
    fn launch(&self, weed: &Path) -> bool {
        *self.running.lock().unwrap() = Some(spawn(self.command(weed)));
        let limit = Instant::now() + READY_LIMIT;
        loop {
            if self.serves() {
                return true;
            }
            let ended =
                self.running.lock().unwrap().as_ref().is_none_or(|running| running.ended.try_recv().is_ok());
            if ended || Instant::now() > limit {
                self.end(Signal::SIGKILL);
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn serves(&self) -> bool {
        const PROBE: &str = "readiness";
        if std::net::TcpStream::connect(("127.0.0.1", self.port())).is_err()
            || self.try_create_bucket(PROBE).is_err()
        {
            return false;
        }
        let client = self.client();
        block_on(async {
            client.put_object().bucket(PROBE).key("probe").body(b"x".to_vec().into()).send().await.is_ok()
        })
    }

    fn command(&self, weed: &Path) -> Command {
        let [s3, master, volume, filer, admin, https] = self.ports;
        let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls");
        let directory = self.directory.display();
        let log = File::create(self.directory.join("weed.log")).unwrap();
        let mut command = Command::new(weed);
        command
            .arg("mini")
            .arg(format!("-dir={directory}/data"))
            .args([
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-master.telemetry=false",
                "-admin.ui=false",
                "-webdav=false",
            ])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"])
            .arg(format!("-s3.config={directory}/s3.json"))
            .arg(format!("-s3.localSocket={directory}/s3.sock"))
            .arg(format!("-filer.localSocket={directory}/filer.sock"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.https={https}"))
            .arg(format!("-s3.cert.file={tls}/server.pem"))
            .arg(format!("-s3.key.file={tls}/server.key"))
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            // Each bucket takes volumes of its own, which are files that grow. By default there are as many
            // as full ones fit on the disk.
            .args(["-volume.max=2000", "-master.volumeSizeLimitMB=128"])
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-admin.port={admin}"))
            .env("TMPDIR", &self.directory)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        command
    }

    fn end(&self, signal: Signal) {
        let Some(running) = self.running.lock().unwrap().take() else { return };
        let _ = killpg(running.group, signal);
        if running.ended.recv_timeout(STOP_LIMIT).is_err() {
            let _ = killpg(running.group, Signal::SIGKILL);
            let _ = running.ended.recv_timeout(STOP_LIMIT);
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.directory.join("weed.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
        clear(&self.directory);
    }
}

fn weed() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/peers/seaweedfs/bin/weed");
    let weed = std::env::var_os("LITEVISOR_TEST_WEED").map_or(installed, PathBuf::from);
    assert!(
        weed.is_file(),
        "SeaweedFS is not at {}; install what the tests need with: ./tests/setup.sh",
        weed.display()
    );
    weed
}

fn credentials() -> String {
    serde_json::json!({"identities": [{
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]})
    .to_string()
}

/// The server's parent is a thread that lives as long as the server: the kernel sends the "parent died"
/// signal when the spawning thread ends, and a test's thread ends with its test.
fn spawn(mut command: Command) -> Running {
    let (started, group) = channel();
    let (report, ended) = channel();
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
    thread::spawn(move || {
        let mut child = command.spawn().unwrap();
        started.send(Pid::from_raw(child.id().cast_signed())).unwrap();
        let _ = report.send(child.wait().unwrap());
    });
    Running { group: group.recv().unwrap(), ended }
}

/// Ports whose gRPC twin is free too, all below the range that the kernel hands out by itself.
fn free_ports() -> [u16; ROLES] {
    use std::hash::{BuildHasher, RandomState};
    let mut held = Vec::new();
    let mut ports = [0; ROLES];
    for port in &mut ports {
        *port = loop {
            let candidate = 11_000 + (RandomState::new().hash_one(0) % 11_000) as u16;
            let pair = [candidate, candidate + GRPC].map(|port| TcpListener::bind(("127.0.0.1", port)));
            if let [Ok(http), Ok(grpc)] = pair {
                held.push((http, grpc));
                break candidate;
            }
        };
    }
    ports
}

/// Removes the directories of test processes that are gone: a shared server's is not removed by its own
/// process.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name.strip_prefix("seaweed-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            clear(&entry.path());
        }
    }
}

/// Removes a server's directory, and the sockets that SeaweedFS keeps at a fixed place, named by their port.
fn clear(directory: &Path) {
    for port in
        fs::read_to_string(directory.join("ports")).unwrap_or_default().split(' ').flat_map(str::parse::<u16>)
    {
        for role in ["s3", "master", "volume", "filer", "admin"] {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{role}-grpc-{}.sock", port + GRPC));
        }
    }
    let _ = fs::remove_dir_all(directory);
}

/// Runs a request to its end from any kind of test, async ones too: on a thread and a runtime of its own.
pub fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}
