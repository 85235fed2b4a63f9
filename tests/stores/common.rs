//! Every store against one suite, on a real directory and a real S3 server; and what is special to each.

use crate::suite::{soon, whole};
use crate::support::net::Mode;
use crate::support::seaweed::Seaweed;
use crate::support::{net, seaweed};
use bytes::Bytes;
use litevisor::testing::model::{Deadline, Secret};
use litevisor::testing::store::{self, Body, Chunk, Put, Scheme, Store, StoreErrorKind, StoreSettings};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub const BUCKET: &str = "store-tests";

mod directory {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                let root = tempfile::tempdir().unwrap();
                crate::suite::$check(super::directory_store(&root.path().join("replica"))).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

#[cfg(feature = "age")]
mod encrypted_directory {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                let root = tempfile::tempdir().unwrap();
                let settings = super::directory_settings(&root.path().join("replica"));
                crate::suite::$check(super::open(&super::encrypted(settings))).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

#[cfg(feature = "age")]
mod encrypted_s3 {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                if !super::IN_AN_ENCRYPTED_BUCKET.contains(&stringify!($check)) {
                    return;
                }
                let path = super::fresh_path(concat!("encrypted-", stringify!($check)));
                crate::suite::$check(super::open(&super::encrypted(super::s3_settings(&path)))).await;
                super::no_upload_stays_open(&path).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

/// What encryption changes; the rest is the same code as in a plain bucket and in an encrypted directory.
#[cfg(feature = "age")]
const IN_AN_ENCRYPTED_BUCKET: [&str; 8] = [
    "what_was_created_can_be_read",
    "create_leaves_an_existing_object_alone",
    "one_of_sixteen_creators_wins",
    "ranges_are_cut_at_the_end",
    "pieces_make_the_whole",
    "a_stream_becomes_one_object",
    "a_stream_leaves_an_existing_object_alone",
    "an_abandoned_stream_leaves_nothing",
];

/// Objects whose names end in `.ltx` are age files.
#[cfg(feature = "age")]
fn encrypted(settings: StoreSettings) -> StoreSettings {
    const IDENTITY: &str = "AGE-SECRET-KEY-14XFHMT5X6M5ZDVU8A7X9HNYUVEEHPMN0PTTMR29LPLF5GY8XD28SQUW2T5";
    let age = store::AgeSettings { identities: Some(Secret::new(IDENTITY)), recipients: None };
    StoreSettings { age, ..settings }
}

mod s3 {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                let path = super::fresh_path(stringify!($check));
                crate::suite::$check(super::open(&super::s3_settings(&path))).await;
                super::no_upload_stays_open(&path).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

pub fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

fn directory_store(root: &Path) -> Arc<dyn Store> {
    open(&directory_settings(root))
}

fn directory_settings(root: &Path) -> StoreSettings {
    let mut settings = Seaweed::settings_for("http://127.0.0.1:1", "", root.to_str().unwrap());
    settings.scheme = Scheme::File;
    settings.url = format!("file://{}", root.display());
    settings
}

/// A root of its own in the shared server's bucket.
pub fn fresh_path(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    Seaweed::shared().create_bucket(BUCKET);
    format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub fn s3_settings(path: &str) -> StoreSettings {
    Seaweed::shared().settings(BUCKET, path)
}

/// Settings of a server that is not there.
fn settings_at(endpoint: impl std::fmt::Display) -> StoreSettings {
    Seaweed::settings_for(&format!("http://{endpoint}"), BUCKET, "x")
}

async fn open_uploads(path: &str) -> usize {
    let client = Seaweed::shared().client();
    let reply =
        client.list_multipart_uploads().bucket(BUCKET).prefix(format!("{path}/")).send().await.unwrap();
    reply.uploads().len()
}

/// An abort may still be on its way after the caller has gone.
async fn no_upload_stays_open(path: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    while open_uploads(path).await > 0 {
        assert!(Instant::now() < limit, "an upload was left open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs every kind of call against a dead store; each must end by the deadline with this kind.
async fn every_call_fails(store: &Arc<dyn Store>, span: Duration, kind: StoreErrorKind) {
    let by = || Deadline::after(span);
    let started = Instant::now();
    let timed = |what: &str, error: store::StoreError, started: Instant| {
        assert_eq!(error.kind, kind, "{what}: {error}");
        assert!(started.elapsed() < span + Duration::from_millis(500), "{what} took {:?}", started.elapsed());
    };
    timed("list", store.list("", by()).await.unwrap_err(), started);
    let started = Instant::now();
    timed("get", store.get("a", None, by()).await.unwrap_err(), started);
    let started = Instant::now();
    timed("create", store.put_new("a", whole("x"), 0, by()).await.unwrap_err(), started);
    let started = Instant::now();
    timed(
        "upload",
        store.put_new("a", Body::Whole(vec![0; 9 << 20].into()), 0, by()).await.unwrap_err(),
        started,
    );
    let started = Instant::now();
    timed("put", store.put("a", Bytes::new(), by()).await.unwrap_err(), started);
    let started = Instant::now();
    timed("delete", store.delete(&["a".to_owned()], by()).await.unwrap_err(), started);
}

#[tokio::test]
async fn s3_a_silent_server_is_held_to_the_deadline() {
    let store = open(&settings_at(net::black_hole()));
    every_call_fails(&store, Duration::from_millis(400), StoreErrorKind::TimedOut).await;
}

#[tokio::test]
async fn s3_a_refused_connection_is_unreachable() {
    let store = open(&settings_at(format!("127.0.0.1:{}", net::refusing_port())));
    every_call_fails(&store, Duration::from_secs(2), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn s3_a_failing_server_is_unreachable() {
    let store = open(&settings_at(net::http_500()));
    every_call_fails(&store, Duration::from_secs(2), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn s3_a_wrong_secret_is_denied_and_never_shown() {
    let mut settings = s3_settings(&fresh_path("wrong-secret"));
    settings.s3.secret_access_key = Some(Secret::new("hunter2-wrong"));
    let store = open(&settings);
    for error in [
        store.list("", soon()).await.unwrap_err(),
        store.get("a", None, soon()).await.unwrap_err(),
        store.put_new("a", whole("x"), 0, soon()).await.unwrap_err(),
        store.put("a", Bytes::new(), soon()).await.unwrap_err(),
        store.delete(&["a".to_owned()], soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains("check access_key_id"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn s3_a_missing_bucket_is_denied_and_named() {
    let store = open(&Seaweed::shared().settings("no-such-bucket", "x"));
    for error in [
        store.list("", soon()).await.unwrap_err(),
        store.put_new("a", whole("x"), 0, soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains("the bucket does not exist"), "{error}");
    }
}

#[tokio::test]
async fn s3_the_timestamp_is_where_litestream_looks() {
    let path = fresh_path("timestamp");
    let store = open(&s3_settings(&path));
    store.put_new("0000/small.ltx", whole("x"), 1_795_327_279_450, soon()).await.unwrap();
    store
        .put_new("0009/big.ltx", Body::Whole(vec![7; 9 << 20].into()), 1_795_327_279_000, soon())
        .await
        .unwrap();
    let client = Seaweed::shared().client();
    for (key, expected) in
        [("0000/small.ltx", "2026-11-22T06:01:19.45Z"), ("0009/big.ltx", "2026-11-22T06:01:19Z")]
    {
        let head = client.head_object().bucket(BUCKET).key(format!("{path}/{key}")).send().await.unwrap();
        assert_eq!(head.metadata().unwrap().get("litestream-timestamp").unwrap(), expected);
    }
    let listed = store.list("", soon()).await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!(listed.iter().all(|object| (now - object.modified_ms).abs() < 600_000), "{listed:?}");
}

#[tokio::test]
async fn s3_a_caller_that_stops_waiting_leaves_no_upload_open() {
    let path = fresh_path("cancelled");
    let store = open(&s3_settings(&path));
    let (sender, receiver) = mpsc::channel(1);
    let mut upload = store.put_new("0009/a.ltx", Body::Stream(receiver), 0, soon());
    // Nine pieces through a channel of one: the first part is cut, so the upload is open.
    tokio::select! {
        result = &mut upload => panic!("{result:?}"),
        () = async {
            for _ in 0..18 {
                sender.send(Chunk::Data(vec![1; 1 << 20].into())).await.unwrap();
            }
        } => {}
    }
    assert_eq!(open_uploads(&path).await, 1, "the test must stop in the middle of an upload");
    drop(upload);
    no_upload_stays_open(&path).await;
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

#[tokio::test]
async fn s3_a_stream_survives_an_outage_of_the_server() {
    let path = fresh_path("outage");
    let target = format!("127.0.0.1:{}", Seaweed::shared().port()).parse().unwrap();
    let proxy = net::delaying_proxy(target, Duration::ZERO);
    let mut settings = s3_settings(&path);
    settings.endpoint = Some(format!("http://{}", proxy.address));
    settings.part_size = Some(5 << 20);
    let store = open(&settings);
    let (sender, receiver) = mpsc::channel(1);
    let feed = async {
        let mut before = 0;
        for piece in 0..17u8 {
            // With a channel of one, the eighth piece is accepted only once the upload is open.
            if piece == 8 {
                proxy.set(Mode::Refuse);
                before = proxy.connections();
            }
            sender.send(Chunk::Data(vec![piece; 1 << 20].into())).await.unwrap();
            if piece == 12 {
                // The second part is under way; it must meet the outage before that ends.
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
    let (put, ()) = tokio::join!(store.put_new("0009/a.ltx", Body::Stream(receiver), 0, soon()), feed);
    assert_eq!(put.unwrap(), Put::Created);
    let bytes = store.get("0009/a.ltx", None, soon()).await.unwrap();
    let expected: Vec<u8> = (0..17u8).flat_map(|piece| vec![piece; 1 << 20]).collect();
    assert!(bytes == expected, "{} bytes came back", bytes.len());
}

#[tokio::test]
async fn s3_a_store_that_went_away_and_came_back_works_again() {
    let server = Seaweed::start();
    server.create_bucket(BUCKET);
    let store = open(&server.settings(BUCKET, "outage"));
    store.put_new("0000/a.ltx", whole("before"), 0, soon()).await.unwrap();
    server.kill();
    let error = store.get("0000/a.ltx", None, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    server.restart();
    let get =
        store::retry::run(soon(), Duration::from_secs(10), |_, _| {}, |by| store.get("0000/a.ltx", None, by));
    assert_eq!(get.await.unwrap(), "before");
}

#[tokio::test]
async fn s3_an_empty_path_works() {
    Seaweed::shared().create_bucket("empty-path");
    let store = open(&Seaweed::shared().settings("empty-path", ""));
    assert_eq!(store.put_new("0000/a.ltx", whole("x"), 0, soon()).await.unwrap(), Put::Created);
    assert_eq!(store.get("0000/a.ltx", None, soon()).await.unwrap(), "x");
    let keys: Vec<String> =
        store.list("", soon()).await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["0000/a.ltx"]);
    store.delete(&keys, soon()).await.unwrap();
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

#[tokio::test]
async fn s3_https_is_trusted_through_the_ca_file_only() {
    let mut settings = s3_settings(&fresh_path("https"));
    settings.endpoint = Some(Seaweed::shared().https_endpoint());
    let error = open(&settings).list("", soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.detail.contains("ca_file"), "{error}");
    settings.ca_file = Some(seaweed::CA_FILE.into());
    let store = open(&settings);
    assert_eq!(store.put_new("0000/a.ltx", whole("over TLS"), 0, soon()).await.unwrap(), Put::Created);
    assert_eq!(store.get("0000/a.ltx", None, soon()).await.unwrap(), "over TLS");
}

#[tokio::test]
async fn s3_the_customers_key_is_needed_to_read() {
    let plain = s3_settings(&fresh_path("sse-c"));
    let mut settings = plain.clone();
    settings.endpoint = Some(Seaweed::shared().https_endpoint());
    settings.ca_file = Some(seaweed::CA_FILE.into());
    settings.s3.sse_c_key = Some(Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    let store = open(&settings);
    store.put_new("0000/a.ltx", whole("secret"), 0, soon()).await.unwrap();
    store.put_new("0009/big.ltx", Body::Whole(vec![7; 9 << 20].into()), 0, soon()).await.unwrap();
    for key in ["0000/a.ltx", "0009/big.ltx"] {
        let refused = open(&plain).get(key, None, soon()).await.unwrap_err();
        assert!(refused.detail.starts_with("HTTP 400"), "without the key: {refused}");
        // SeaweedFS 4.48 sends the header of the key's MD5 twice, which the SDK refuses to read. That it
        // answers at all shows that our key opened the object.
        if let Err(error) = store.get(key, Some(0..6), soon()).await {
            assert!(error.detail.starts_with("HTTP 20"), "with the key: {error}");
        }
    }
    settings.s3.sse_c_key = Some(Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="));
    let wrong = open(&settings).get("0000/a.ltx", None, soon()).await.unwrap_err();
    assert!(wrong.detail.starts_with("HTTP 40"), "with another key: {wrong}");
}

#[test]
fn s3_opening_needs_no_network_and_no_runtime() {
    let mut settings = settings_at(format!("127.0.0.1:{}", net::refusing_port()));
    settings.ca_file = Some("/nowhere/ca.pem".into());
    settings.endpoint = Some("https://127.0.0.1:1".to_owned());
    let store = open(&settings);
    // The certificates are missed by the first request.
    let error = seaweed::block_on(store.list("", soon())).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.detail.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    type Spoil = fn(&mut StoreSettings);
    let cases: [(Spoil, &str); 7] = [
        (|s| s.bucket.clear(), "bucket"),
        (|s| s.s3.secret_access_key = None, "belong together"),
        (|s| s.endpoint = Some("s3.example.com".to_owned()), "https://s3.example.com"),
        (|s| s.part_size = Some(1 << 20), "part_size"),
        (|s| s.s3.sse_c_key = Some(Secret::new("short")), "32 bytes"),
        (
            |s| {
                s.scheme = Scheme::File;
                s.path.clear();
            },
            "directory",
        ),
        (
            |s| {
                s.s3.sse_c_key = Some(Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
                s.s3.sse_kms_key_id = Some("key".to_owned());
            },
            "exclude each other",
        ),
    ];
    for (spoil, expected) in cases {
        let mut settings = settings_at("127.0.0.1:1");
        assert!(store::open(&settings).is_ok());
        spoil(&mut settings);
        let error = store::open(&settings).err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn directory_the_timestamp_is_the_files_own() {
    let root = tempfile::tempdir().unwrap();
    let store = directory_store(root.path());
    for (key, unix_ms) in [("ltx/0/a.ltx", 1_795_327_279_453), ("ltx/0/b.ltx", 0), ("ltx/0/c.ltx", -1_500)] {
        store.put_new(key, whole("x"), unix_ms, soon()).await.unwrap();
        let listed = store.list(key, soon()).await.unwrap();
        assert_eq!(listed.iter().map(|object| object.modified_ms).collect::<Vec<_>>(), [unix_ms]);
    }
}

#[tokio::test]
async fn directory_temporary_files_are_invisible_and_do_not_stay() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("ltx/0")).unwrap();
    std::fs::write(root.path().join("ltx/0/a.ltx.1.0.tmp"), "left over by a killed run").unwrap();
    let store = directory_store(root.path());
    assert_eq!(store.list("", soon()).await.unwrap(), []);
    store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap();
    store.put_new("ltx/0/a.ltx", whole("y"), 0, soon()).await.unwrap();
    store.put("ltx/0/b.ltx", Bytes::new(), soon()).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(root.path().join("ltx/0"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.ltx", "a.ltx.1.0.tmp", "b.ltx"]);
}

#[tokio::test]
async fn directory_a_file_in_the_way_is_told() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ltx"), "a file").unwrap();
    let store = directory_store(root.path());
    let error = store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
    assert!(error.subject.ends_with("ltx/0/a.ltx"), "{error}");
}
