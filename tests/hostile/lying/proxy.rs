//! A proxy between us and the store: all services go through it alike, and https through a tunnel. The proxy
//! is a real one, small, and keeps what it was asked for.

use crate::support::azurite::{self, Azurite};
use crate::support::child::run_child;
use crate::support::fake_gcs::FakeGcs;
use crate::support::seaweed::{CA_FILE, Seaweed, block_on};
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{Body, StoreSettings};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BUCKET: &str = "lying-proxy";
const STORE: &str = "LITEVISOR_TEST_STORE";
const ENDPOINT: &str = "LITEVISOR_TEST_ENDPOINT";

/// Tunnels (CONNECT), and requests with a whole URL. Hosts that do not exist lead to this machine.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Proxy { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let first = head.lines().next()?.to_owned();
    asked.lock().unwrap().push(first.clone());
    let target = first.split(' ').nth(1)?;
    let port = |authority: &str| authority.rsplit_once(':')?.1.parse::<u16>().ok();
    if first.starts_with("CONNECT ") {
        let upstream = TcpStream::connect(("127.0.0.1", port(target)?)).ok()?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
        return join(client, upstream);
    }
    let (authority, path) = target.strip_prefix("http://")?.split_once('/')?;
    let mut upstream = TcpStream::connect(("127.0.0.1", port(authority)?)).ok()?;
    // One request on a connection: the next one is to be seen, too.
    let rest = head.split_once("\r\n")?.1.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let request = format!("{} /{path} HTTP/1.1\r\n{rest}", first.split(' ').next()?);
    upstream.write_all(request.as_bytes()).ok()?;
    join(client, upstream)
}

fn join(client: TcpStream, upstream: TcpStream) -> Option<()> {
    let (mut from, mut to) = (client.try_clone().ok()?, upstream.try_clone().ok()?);
    let there = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut from, mut to) = (upstream, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = there.join();
    Some(())
}

/// Writes, lists and reads; in a process of its own, whose environment names the proxy.
#[test]
#[ignore = "run by the other tests here, in a process of its own"]
fn child() {
    let endpoint = std::env::var(ENDPOINT).unwrap();
    let settings = match std::env::var(STORE).unwrap().as_str() {
        "s3" => Seaweed::settings_for(&endpoint, BUCKET, "proxy"),
        "gs" => crate::support::fake_gcs::settings_for(&endpoint, BUCKET, "proxy"),
        _ => azurite::settings_for(&endpoint, BUCKET, "proxy"),
    };
    let ca_file = endpoint.starts_with("https://").then(|| CA_FILE.into());
    let store = litevisor::testing::store::open(&StoreSettings { ca_file, ..settings }).unwrap();
    let by = || Deadline::after(Duration::from_secs(30));
    block_on(async {
        let body = Body::Whole("through".into());
        let done = async {
            store.put_new("0000/a.ltx", body, 0, by()).await?;
            store.list("", by()).await?;
            store.get("0000/a.ltx", None, by()).await
        };
        match done.await {
            Ok(text) => println!("\nRESULT {}", String::from_utf8_lossy(&text)),
            Err(error) => println!("\nRESULT {error}"),
        }
    });
}

fn in_a_process(store: &str, endpoint: &str, env: &[(&str, &str)]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    run_child(module_path!(), &[("PATH", &path), (STORE, store), (ENDPOINT, endpoint)], env)
}

fn endpoints() -> [(&'static str, String); 3] {
    Seaweed::shared().create_bucket(BUCKET);
    FakeGcs::shared().create_bucket(BUCKET);
    Azurite::shared().create_container(BUCKET);
    [
        ("s3", Seaweed::shared().endpoint()),
        ("gs", FakeGcs::shared().endpoint()),
        ("abs", Azurite::shared().endpoint()),
    ]
}

#[test]
fn all_services_go_through_the_proxy_alike() {
    for (store, endpoint) in endpoints() {
        let proxy = Proxy::start();
        let url = format!("http://{}", proxy.address);
        assert_eq!(in_a_process(store, &endpoint, &[("HTTP_PROXY", &url)]), "through", "{store}");
        let asked = proxy.asked();
        assert!(!asked.is_empty() && asked.iter().all(|line| line.contains(&endpoint)), "{store}: {asked:?}");
        let direct = Proxy::start();
        let url = format!("http://{}", direct.address);
        let env = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "127.0.0.0/8")];
        assert_eq!(in_a_process(store, &endpoint, &env), "through", "{store}");
        assert_eq!(direct.asked(), [""; 0], "{store}: NO_PROXY");
    }
}

#[test]
fn tls_goes_through_a_tunnel() {
    let _ = endpoints();
    let (proxy, endpoint) = (Proxy::start(), Seaweed::shared().https_endpoint());
    let url = format!("http://{}", proxy.address);
    assert_eq!(in_a_process("s3", &endpoint, &[("HTTPS_PROXY", &url)]), "through");
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.starts_with("CONNECT ")), "{asked:?}");
}
