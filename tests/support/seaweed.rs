//! A real S3 server: SeaweedFS on loopback, one per test binary.

use super::process::Process;
use super::{peer, wait_until};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
const SECRET_KEY: &str = "testsecrettestsecrettestsecret0123456789";

pub struct Seaweed {
    endpoint: String,
}

impl Seaweed {
    /// Started at the first call, from a thread that lives as long as the test binary (a child dies with the thread
    /// that started it).
    pub fn shared() -> &'static Seaweed {
        static SHARED: OnceLock<Seaweed> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (ready, started) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let (_process, _directory, endpoint) = start();
                ready.send(endpoint).unwrap();
                loop {
                    std::thread::park();
                }
            });
            Seaweed { endpoint: started.recv().unwrap() }
        })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// Creates a bucket and gives its name back.
    pub fn bucket(&self, name: &str) -> String {
        run(async {
            let client = client(&self.endpoint);
            client.create_bucket().bucket(name).send().await.unwrap();
        });
        name.to_owned()
    }

    /// Keys under `prefix/`, relative to it, each with its ETag.
    pub fn list(endpoint: &str, bucket: &str, prefix: &str) -> BTreeMap<String, String> {
        let start = format!("{}/", prefix.trim_end_matches('/'));
        run(async {
            let client = client(endpoint);
            let mut pages = client.list_objects_v2().bucket(bucket).prefix(&start).into_paginator().send();
            let mut found = BTreeMap::new();
            while let Some(page) = pages.next().await {
                for object in page.unwrap().contents() {
                    let key = object.key().unwrap().strip_prefix(&start).unwrap().to_owned();
                    found.insert(key, object.e_tag().unwrap_or_default().to_owned());
                }
            }
            found
        })
    }
}

fn start() -> (Process, tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let identities = directory.path().join("s3.json");
    let text = format!(
        r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","List","Tagging","Write"]}}]}}"#
    );
    std::fs::write(&identities, text).unwrap();
    let ports: Vec<u16> = std::iter::repeat_with(free_port_pair).take(5).collect();
    let mut weed = Command::new(peer("seaweedfs/bin/weed"));
    weed.arg("mini").arg(format!("-dir={}", directory.path().display()));
    weed.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"]);
    for (name, port) in ["s3.port", "master.port", "volume.port", "filer.port", "admin.port"].iter().zip(&ports) {
        weed.arg(format!("-{name}={port}"));
    }
    weed.arg("-s3.port.iceberg=0").arg("-s3.port.lance=0").arg(format!("-s3.config={}", identities.display()));
    weed.current_dir(directory.path());
    let process = Process::start(weed);
    let endpoint = format!("http://127.0.0.1:{}", ports[0]);
    wait_until("SeaweedFS to answer signed requests", Duration::from_secs(60), || {
        run(async { client(&endpoint).list_buckets().send().await.is_ok() })
    });
    (process, directory, endpoint)
}

/// A free port whose gRPC sibling (+ 10000) is free too.
fn free_port_pair() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn client(endpoint: &str) -> Client {
    let keys = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .credentials_provider(keys)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
