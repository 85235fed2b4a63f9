//! Google Cloud Storage: the suite of all stores on a real fake-gcs-server, and what is special to it. Who we
//! are to Google is tried in gs/credentials.rs, pieces that go astray in gs/pieces.rs.

mod credentials;
mod pieces;
mod stand_in;

use crate::suite::{soon, whole};
use crate::support::fake_gcs::{FakeGcs, settings_for};
use crate::support::net;
use crate::support::net::Mode;
use bytes::Bytes;
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{self, Body, Chunk, Put, Store, StoreError, StoreErrorKind, StoreSettings};
use stand_in::{StandIn, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const BUCKET: &str = "store-tests";

mod conformance {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                crate::suite::$check(super::open(&super::settings(stringify!($check)))).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

/// A root of its own in the shared server's bucket.
fn settings(name: &str) -> StoreSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    FakeGcs::shared().create_bucket(BUCKET);
    FakeGcs::shared().settings(BUCKET, &format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// What every kind of call says of a store that does not answer as it should.
async fn every_error(store: &Arc<dyn Store>, span: Duration) -> Vec<(StoreError, Duration)> {
    let (by, mut errors) = (|| Deadline::after(span), Vec::new());
    macro_rules! failing {
        ($($call:expr),* $(,)?) => {
            $(let started = Instant::now();
            let error = $call.await.map(drop).unwrap_err();
            errors.push((error, started.elapsed()));)*
        };
    }
    let (big, keys) = (Bytes::from(vec![0; 9 << 20]), ["a".to_owned()]);
    failing!(
        store.list("", by()),
        store.list_page("", "a", by()),
        store.directories(by()),
        store.get("a", None, by()),
        store.put_new("a", whole("x"), 0, by()),
        store.put_new("a", Body::Whole(big), 0, by()),
        store.put("a", Bytes::new(), by()),
        store.delete(&keys, by()),
    );
    errors
}

async fn every_call_fails(endpoint: String, span: Duration, kind: StoreErrorKind) {
    for (error, took) in every_error(&open(&settings_for(&endpoint, BUCKET, "x")), span).await {
        assert_eq!(error.kind, kind, "{error}");
        assert!(took < span + Duration::from_millis(500), "{error} took {took:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_held_to_the_deadline() {
    let endpoint = format!("http://{}", net::black_hole());
    every_call_fails(endpoint, Duration::from_millis(400), StoreErrorKind::TimedOut).await;
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let endpoint = format!("http://127.0.0.1:{}", net::refusing_port());
    let error = open(&settings_for(&endpoint, BUCKET, "x")).list("", soon()).await.unwrap_err();
    assert!(error.detail.contains(&endpoint) && error.detail.contains("check the endpoint"), "{error}");
    every_call_fails(endpoint, Duration::from_secs(2), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn a_failing_server_is_unreachable() {
    every_call_fails(
        format!("http://{}", net::http_500()),
        Duration::from_secs(2),
        StoreErrorKind::Unreachable,
    )
    .await;
}

#[tokio::test]
async fn a_missing_bucket_is_denied_and_named() {
    let store = open(&FakeGcs::shared().settings("no-such-bucket", "x"));
    let stream = Body::Whole(vec![0; 9 << 20].into());
    for error in [
        store.list("", soon()).await.unwrap_err(),
        store.put_new("a", whole("x"), 0, soon()).await.unwrap_err(),
        store.put_new("a", stream, 0, soon()).await.unwrap_err(),
        store.put("a", Bytes::new(), soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains("the bucket does not exist"), "{error}");
        assert!(error.subject.starts_with("gs://no-such-bucket/x/"), "{error}");
    }
}

#[tokio::test]
async fn what_google_says_is_shown() {
    let server = StandIn::start(|_| {
        let message = "app@p.iam.gserviceaccount.com does not have storage.objects.list access.";
        json(
            403,
            serde_json::json!({"error": {"code": 403, "message": message, "errors": [{"reason": "forbidden"}]}}),
        )
    });
    for (error, _) in
        every_error(&open(&settings_for(&server.url(), BUCKET, "x")), Duration::from_secs(60)).await
    {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        for part in ["HTTP 403 forbidden: app@p", "roles/storage.objectUser"] {
            assert!(error.detail.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn the_timestamp_is_where_litestream_looks() {
    let settings = settings("timestamp");
    let store = open(&settings);
    store.put_new("ltx/0/small.ltx", whole("x"), 1_795_327_279_450, soon()).await.unwrap();
    let big = Body::Whole(vec![7; 9 << 20].into());
    store.put_new("ltx/9/big.ltx", big, 1_795_327_279_000, soon()).await.unwrap();
    let objects = FakeGcs::shared().objects(BUCKET, &settings.path);
    for (key, expected) in
        [("ltx/0/small.ltx", "2026-11-22T06:01:19.45Z"), ("ltx/9/big.ltx", "2026-11-22T06:01:19Z")]
    {
        let object = &objects[&format!("{}/{key}", settings.path)];
        assert_eq!(object["metadata"]["litestream-timestamp"], expected, "{key}");
    }
}

#[tokio::test]
async fn an_empty_path_is_the_buckets_root() {
    FakeGcs::shared().create_bucket("empty-path");
    let store = open(&FakeGcs::shared().settings("empty-path", ""));
    assert_eq!(store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap(), Put::Created);
    assert_eq!(store.get("ltx/0/a.ltx", None, soon()).await.unwrap(), "x");
    let keys: Vec<String> =
        store.list("", soon()).await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["ltx/0/a.ltx"]);
    assert!(FakeGcs::shared().objects("empty-path", "").contains_key("ltx/0/a.ltx"));
    store.delete(&keys, soon()).await.unwrap();
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

/// Pieces of 1 MiB. With a channel of one, those up to number 6 are taken only once the first part of 2 MiB
/// is through.
async fn feed(sender: mpsc::Sender<Chunk>, proxy: &net::Proxy, with_outage: bool) {
    for piece in 0..11u8 {
        let before = proxy.connections();
        if with_outage && piece == 7 {
            proxy.set(Mode::Refuse);
            // A part is under way; it must meet the outage before that ends.
            let limit = Instant::now() + Duration::from_secs(60);
            while proxy.connections() == before {
                assert!(Instant::now() < limit, "nobody met the outage");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            proxy.set(Mode::Pass);
        }
        if sender.send(Chunk::Data(vec![piece; 1 << 20].into())).await.is_err() {
            return;
        }
    }
    let _ = sender.send(Chunk::End).await;
}

#[tokio::test]
async fn an_outage_leaves_the_whole_stream_or_nothing() {
    let proxy = net::delaying_proxy(FakeGcs::shared().address(), Duration::ZERO);
    let mut settings = settings("outage");
    settings.endpoint = Some(format!("http://{}", proxy.address));
    settings.part_size = Some(2 << 20);
    let store = open(&settings);
    let put = |with_outage| {
        let (sender, receiver) = mpsc::channel(1);
        let put = store.put_new("ltx/9/a.ltx", Body::Stream(receiver), 0, soon());
        let proxy = &proxy;
        async move { tokio::join!(put, feed(sender, proxy, with_outage)).0 }
    };
    match put(true).await {
        Ok(put) => assert_eq!(put, Put::Created),
        // A piece whose answer was lost is kept twice by this server; Google's would pass over what it has.
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
            assert_eq!(store.list("", soon()).await.unwrap(), []);
            assert_eq!(put(false).await.unwrap(), Put::Created);
        }
    }
    let bytes = store.get("ltx/9/a.ltx", None, soon()).await.unwrap();
    let expected: Vec<u8> = (0..11u8).flat_map(|piece| vec![piece; 1 << 20]).collect();
    assert!(bytes == expected, "{} bytes came back", bytes.len());
}

#[test]
fn opening_needs_no_network_no_files_and_no_runtime() {
    let mut settings = settings_for("https://127.0.0.1:1", BUCKET, "x");
    settings.ca_file = Some("/nowhere/ca.pem".into());
    settings.gs.credentials_file = Some("/nowhere/key.json".into());
    let store = open(&settings);
    // The certificates are missed by the first request.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(store.list("", soon())).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.detail.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    type Spoil = fn(&mut StoreSettings);
    let cases: [(Spoil, &str); 3] = [
        (|s| s.bucket.clear(), "bucket"),
        (|s| s.endpoint = Some("fake:4443".to_owned()), "https://fake:4443"),
        (|s| s.part_size = Some(1000), "part_size"),
    ];
    for (spoil, expected) in cases {
        let mut settings = settings_for("http://127.0.0.1:1", BUCKET, "x");
        assert!(store::open(&settings).is_ok());
        spoil(&mut settings);
        let error = store::open(&settings).map(drop).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
        assert!(error.detail.contains(expected), "{error}");
    }
}
