//! Azure Blob Storage against the suite of all stores, on a real Azurite; and what is special to it.

mod identity;

use crate::suite::{soon, whole};
use crate::support::azurite::Azurite;
use crate::support::net::Mode;
use crate::support::{azurite, net};
use bytes::Bytes;
use litevisor::testing::model::{Deadline, Secret};
use litevisor::testing::store::{self, AbsSettings, Body, Chunk, Put, Store, StoreErrorKind, StoreSettings};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const CONTAINER: &str = "store-tests";
const FUTURE: &str = "2099-01-01T00:00:00Z";

macro_rules! conformance {
    ($($check:ident),* $(,)?) => {
        mod by_key {
            $(#[tokio::test]
            async fn $check() {
                crate::suite::$check(super::open(&super::settings(stringify!($check)))).await;
            })*
        }
        mod by_signature_in_small_pages {
            $(#[tokio::test]
            async fn $check() {
                let mut settings = super::settings(concat!("sas-", stringify!($check)));
                settings.endpoint = Some(super::small_pages());
                crate::suite::$check(super::open(&super::signed(settings, "racwdl", super::FUTURE))).await;
            })*
        }
    };
}

crate::suite::every_check!(conformance);

fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

/// A root of its own in the shared server's container.
fn settings(name: &str) -> StoreSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    Azurite::shared().create_container(CONTAINER);
    Azurite::shared().settings(CONTAINER, &format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// With a shared access signature in place of the key.
fn signed(settings: StoreSettings, permissions: &str, end: &str) -> StoreSettings {
    let sas_token = Some(Secret::new(azurite::sas(&settings.bucket, permissions, end)));
    let abs = AbsSettings { account_key: None, sas_token, ..settings.abs };
    StoreSettings { abs, ..settings }
}

/// The shared server behind somebody who asks it for a hundred names at once, so that listings have pages. A
/// signature in the query does not cover that.
fn small_pages() -> String {
    static PROXY: OnceLock<SocketAddr> = OnceLock::new();
    let address = PROXY.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", Azurite::shared().port())).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || forward(from, to, true));
                std::thread::spawn(move || forward(server, client, false));
            }
        });
        address
    });
    format!("http://{address}/{}", azurite::ACCOUNT)
}

fn forward(mut from: TcpStream, mut to: TcpStream, requests: bool) {
    const LIST: &[u8] = b"comp=list&";
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..read].to_vec();
        // The head of a listing comes in one piece.
        if requests && let Some(at) = bytes.windows(LIST.len()).position(|window| window == LIST) {
            bytes.splice(at..at, *b"maxresults=100&");
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Settings of a server that is not there.
fn settings_at(endpoint: impl std::fmt::Display) -> StoreSettings {
    azurite::settings_for(&format!("http://{endpoint}/{}", azurite::ACCOUNT), CONTAINER, "x")
}

/// Every kind of call, each with its own deadline; how long it took.
async fn every_call(
    store: &Arc<dyn Store>,
    span: Duration,
) -> Vec<(&'static str, store::StoreError, Duration)> {
    let by = || Deadline::after(span);
    let mut failed = Vec::new();
    let mut note = |what, error, started: Instant| failed.push((what, error, started.elapsed()));
    let started = Instant::now();
    note("list", store.list("", by()).await.unwrap_err(), started);
    let started = Instant::now();
    note("page", store.list_page("", "a", by()).await.unwrap_err(), started);
    let started = Instant::now();
    note("directories", store.directories(by()).await.unwrap_err(), started);
    let started = Instant::now();
    note("get", store.get("a", None, by()).await.unwrap_err(), started);
    let started = Instant::now();
    note("create", store.put_new("a", whole("x"), 0, by()).await.unwrap_err(), started);
    let started = Instant::now();
    note(
        "upload",
        store.put_new("a", Body::Whole(vec![0; 9 << 20].into()), 0, by()).await.unwrap_err(),
        started,
    );
    let started = Instant::now();
    note("put", store.put("a", Bytes::new(), by()).await.unwrap_err(), started);
    let started = Instant::now();
    note("delete", store.delete(&["a".to_owned()], by()).await.unwrap_err(), started);
    failed
}

/// Each must end by the deadline with this kind.
async fn every_call_fails(store: &Arc<dyn Store>, span: Duration, kind: StoreErrorKind) {
    for (what, error, took) in every_call(store, span).await {
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(took < span + Duration::from_millis(500), "{what} took {took:?}");
    }
}

/// Each is refused, says this, and shows nothing of what was sent.
async fn every_call_is_denied(settings: &StoreSettings, part: &str) {
    for (what, error, _) in every_call(&open(settings), Duration::from_secs(120)).await {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{what}: {error}");
        assert!(error.detail.contains(part), "{what}: {error}");
        let shown = format!("{error} {error:?} {settings:?}");
        assert!(!shown.contains("sig=") && !shown.contains(azurite::KEY), "{shown}");
    }
}

#[tokio::test]
async fn a_silent_server_is_held_to_the_deadline() {
    let store = open(&settings_at(net::black_hole()));
    every_call_fails(&store, Duration::from_millis(400), StoreErrorKind::TimedOut).await;
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let store = open(&settings_at(format!("127.0.0.1:{}", net::refusing_port())));
    every_call_fails(&store, Duration::from_secs(2), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn a_failing_server_is_unreachable() {
    let store = open(&settings_at(net::http_500()));
    every_call_fails(&store, Duration::from_secs(2), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn a_wrong_key_is_denied_and_never_shown() {
    let mut settings = settings("wrong-key");
    settings.abs.account_key = Some(Secret::new("aHVudGVyMi13cm9uZw=="));
    every_call_is_denied(&settings, "check account_key").await;
    let error = open(&settings).list("", soon()).await.unwrap_err();
    assert!(!format!("{error} {error:?} {settings:?}").contains("aHVudGVyMi13cm9uZw"), "{error}");
    assert!(error.detail.starts_with("HTTP 403 "), "{error}");
}

#[tokio::test]
async fn a_signature_that_expired_is_denied_and_says_so() {
    let end = "2021-06-01T00:00:00Z";
    every_call_is_denied(&signed(settings("expired"), "racwdl", end), "has expired (2021-06-01T00:00:00Z)")
        .await;
}

#[tokio::test]
async fn a_signature_that_grants_less_is_denied_and_says_so() {
    let settings = settings("read-only");
    let reader = open(&signed(settings.clone(), "rl", FUTURE));
    open(&settings).put_new("a", whole("x"), 0, soon()).await.unwrap();
    assert_eq!(reader.get("a", None, soon()).await.unwrap(), "x");
    assert_eq!(reader.list("", soon()).await.unwrap().len(), 1);
    for error in [
        reader.put_new("b", whole("x"), 0, soon()).await.unwrap_err(),
        reader.delete(&["a".to_owned()], soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains("check sas_token") && !error.detail.contains("sig="), "{error}");
    }
}

#[tokio::test]
async fn a_missing_container_is_denied_and_named() {
    let settings = Azurite::shared().settings("no-such-container", "x");
    every_call_is_denied(&settings, "the container does not exist").await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told() {
    // The answer of a service whose clock is years ahead.
    let settings = settings_at(net::answers(
        "HTTP/1.1 403 Denied\r\nx-ms-error-code: AuthenticationFailed\r\nDate: Sun, 22 Nov 2093 06:01:19 GMT\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
    ));
    every_call_is_denied(&settings, "set this machine's clock").await;
}

#[tokio::test]
async fn a_busy_service_is_unreachable() {
    let settings = settings_at(net::answers(
        "HTTP/1.1 503 Busy\r\nx-ms-error-code: ServerBusy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ));
    every_call_fails(&open(&settings), Duration::from_secs(2), StoreErrorKind::Unreachable).await;
    let error = open(&settings).list("", soon()).await.unwrap_err();
    assert_eq!(error.detail, "HTTP 503 ServerBusy");
}

#[tokio::test]
async fn what_is_no_listing_is_refused() {
    // What lies in front of the service may answer so for a while: it is tried again.
    for (mark, told) in [("x-ms-request-id: 1\r\n", "no listing"), ("", "no x-ms-request-id")] {
        let answer = format!("HTTP/1.1 200 OK\r\n{mark}Content-Length: 6\r\nConnection: close\r\n\r\n<html>");
        let settings = settings_at(net::answers(answer.leak()));
        let error = open(&settings).list("", soon()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
        assert!(error.detail.contains(told), "{error}");
    }
}

#[tokio::test]
async fn the_timestamp_is_where_litestream_looks() {
    let settings = settings("timestamp");
    let store = open(&settings);
    store.put_new("ltx/0/small.ltx", whole("x"), 1_795_327_279_450, soon()).await.unwrap();
    store
        .put_new("ltx/9/big.ltx", Body::Whole(vec![7; 9 << 20].into()), 1_795_327_279_000, soon())
        .await
        .unwrap();
    for (key, expected) in
        [("ltx/0/small.ltx", "2026-11-22T06:01:19.45Z"), ("ltx/9/big.ltx", "2026-11-22T06:01:19Z")]
    {
        let target = format!("/{CONTAINER}/{}/{key}", settings.path);
        let head = Azurite::shared().call("HEAD", &target, &[], &[]);
        assert_eq!(head.header("x-ms-meta-litestreamtimestamp"), Some(expected), "{key}: {}", head.head);
        assert_eq!(head.header("content-type"), Some("application/octet-stream"), "{key}");
        assert_eq!(head.header("x-ms-blob-type"), Some("BlockBlob"), "{key}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let listed = store.list("", soon()).await.unwrap();
    assert!(listed.iter().all(|object| (now - object.modified_ms).abs() < 600_000), "{listed:?}");
}

#[tokio::test]
async fn an_empty_path_works() {
    Azurite::shared().create_container("empty-path");
    let store = open(&Azurite::shared().settings("empty-path", ""));
    assert_eq!(store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap(), Put::Created);
    assert_eq!(store.get("ltx/0/a.ltx", None, soon()).await.unwrap(), "x");
    assert_eq!(Azurite::shared().list("empty-path", "").into_keys().collect::<Vec<_>>(), ["ltx/0/a.ltx"]);
    assert_eq!(store.directories(soon()).await.unwrap(), ["ltx"]);
    store.delete(&["ltx/0/a.ltx".to_owned()], soon()).await.unwrap();
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

#[tokio::test]
async fn names_that_urls_and_xml_would_change_survive() {
    let mut settings = settings("names");
    settings.path.push_str("/ä b+c");
    let store = open(&settings);
    let mut keys =
        ["ltx/0/a&b.ltx", "ltx/0/100%.ltx", "ltx/0/<x>\"'.ltx", "ltx/0/q?x=1#y.ltx", "ltx/0/ü ~(1)!*.ltx"];
    for key in keys {
        assert_eq!(store.put_new(key, whole(key), 0, soon()).await.unwrap(), Put::Created, "{key}");
        assert_eq!(store.put_new(key, whole("x"), 0, soon()).await.unwrap(), Put::Exists, "{key}");
        assert_eq!(store.get(key, None, soon()).await.unwrap(), key);
    }
    let mut listed: Vec<String> =
        store.list("ltx/", soon()).await.unwrap().into_iter().map(|object| object.key).collect();
    listed.sort();
    keys.sort_unstable();
    assert_eq!(listed, keys);
    store.delete(&listed, soon()).await.unwrap();
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_behind_a_key_is_listed_in_order() {
    let store = open(&settings("behind"));
    for number in [3, 1, 2, 5, 4] {
        store.put_new(&format!("ltx/0/{number}.ltx"), whole("x"), 0, soon()).await.unwrap();
    }
    store.put_new("ltx/1/1.ltx", whole("x"), 0, soon()).await.unwrap();
    for (after, expected) in [("", &[1, 2, 3, 4, 5][..]), ("ltx/0/2.ltx", &[3, 4, 5]), ("ltx/0/5.ltx", &[])] {
        let page = store.list_page("ltx/0/", after, soon()).await.unwrap();
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        let expected: Vec<String> = expected.iter().map(|number| format!("ltx/0/{number}.ltx")).collect();
        assert_eq!((keys, page.more), (expected, false), "after {after}");
    }
}

#[tokio::test]
async fn what_was_sent_of_an_abandoned_upload_is_in_nobodys_way() {
    let store = open(&settings("abandoned"));
    let (sender, receiver) = mpsc::channel(1);
    let mut upload = store.put_new("ltx/9/a.ltx", Body::Stream(receiver), 0, soon());
    tokio::select! {
        result = &mut upload => panic!("{result:?}"),
        () = async {
            for _ in 0..18 {
                sender.send(Chunk::Data(vec![1; 1 << 20].into())).await.unwrap();
            }
        } => {}
    }
    drop(upload);
    let whole = Body::Whole(vec![2; 11 << 20].into());
    assert_eq!(store.put_new("ltx/9/a.ltx", whole, 0, soon()).await.unwrap(), Put::Created);
    assert!(store.get("ltx/9/a.ltx", None, soon()).await.unwrap() == vec![2; 11 << 20]);
}

#[tokio::test]
async fn two_streams_to_one_name_make_one_whole_blob() {
    let store = open(&settings("two-streams"));
    let upload = |content: u8| {
        let whole = Body::Whole(vec![content; 16 << 20].into());
        store.put_new("ltx/9/a.ltx", whole, 0, soon())
    };
    let (one, other) = tokio::join!(upload(1), upload(2));
    // Whoever commits first takes the other's blocks away; the other is told either way.
    let ours = |put: &Result<Put, store::StoreError>| matches!(put, Ok(Put::Created));
    let theirs = |put: &Result<Put, store::StoreError>| match put {
        Ok(Put::Exists) => true,
        Err(error) => error.kind == StoreErrorKind::Unreachable,
        Ok(Put::Created) => false,
    };
    assert!(ours(&one) && theirs(&other) || theirs(&one) && ours(&other), "{one:?} {other:?}");
    let winner = if ours(&one) { 1 } else { 2 };
    assert!(store.get("ltx/9/a.ltx", None, soon()).await.unwrap() == vec![winner; 16 << 20]);
}

#[tokio::test]
async fn a_stream_survives_an_outage_of_the_server() {
    let mut settings = settings("outage");
    let target = format!("127.0.0.1:{}", Azurite::shared().port()).parse().unwrap();
    let proxy = net::delaying_proxy(target, Duration::ZERO);
    settings.endpoint = Some(format!("http://{}/{}", proxy.address, azurite::ACCOUNT));
    let store = open(&settings);
    let (sender, receiver) = mpsc::channel(1);
    let feed = async {
        let mut before = 0;
        for piece in 0..17u8 {
            // With a channel of one, the eighth piece is accepted only once the first block is cut.
            if piece == 8 {
                proxy.set(Mode::Refuse);
                before = proxy.connections();
            }
            sender.send(Chunk::Data(vec![piece; 1 << 20].into())).await.unwrap();
            if piece == 12 {
                // The second block is under way; it must meet the outage before that ends.
                let limit = Instant::now() + Duration::from_secs(60);
                while proxy.connections() == before {
                    assert!(Instant::now() < limit, "nobody met the outage");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                proxy.set(Mode::Pass);
            }
        }
        sender.send(Chunk::End).await.unwrap();
    };
    let (put, ()) = tokio::join!(store.put_new("ltx/9/a.ltx", Body::Stream(receiver), 0, soon()), feed);
    assert_eq!(put.unwrap(), Put::Created);
    let bytes = store.get("ltx/9/a.ltx", None, soon()).await.unwrap();
    let expected: Vec<u8> = (0..17u8).flat_map(|piece| vec![piece; 1 << 20]).collect();
    assert!(bytes == expected, "{} bytes came back", bytes.len());
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    type Spoil = fn(&mut StoreSettings);
    let cases: [(Spoil, &str); 7] = [
        (|s| s.bucket.clear(), "container"),
        (|s| s.endpoint = Some("acct.blob.core.windows.net".to_owned()), "https://"),
        (|s| s.endpoint = None, "account"),
        (|s| s.abs.account_key = Some(Secret::new("no key")), "account_key"),
        (|s| s.abs.sas_token = Some(Secret::new("sig=x")), "exclude each other"),
        (
            |s| (s.abs.account_key, s.abs.sas_token) = (None, Some(Secret::new("https://x/?sig=y"))),
            "a whole URL",
        ),
        (|s| s.part_size = Some(1 << 20), "part_size"),
    ];
    for (spoil, expected) in cases {
        let mut settings = settings_at("127.0.0.1:1");
        assert!(store::open(&settings).is_ok());
        settings.abs.account.clear();
        spoil(&mut settings);
        let error = store::open(&settings).err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
