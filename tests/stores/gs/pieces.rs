//! Uploads in pieces whose requests and answers go astray. The stand-in keeps Google's rules for them: pieces
//! are multiples of 256 KiB, bytes that are there already are passed over, the condition is looked at when
//! the upload begins and when it ends. Most emulators keep only some of these.

use super::open;
use super::stand_in::{Reply, Request, StandIn, json};
use crate::suite::soon;
use crate::support::fake_gcs::settings_for;
use bytes::Bytes;
use litevisor::testing::store::{Body, Chunk, Put, Store, StoreErrorKind};
use serde_json::json as object;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const UNIT: usize = 256 << 10;
/// Of each part; the content is three of them and a bit.
const PART: usize = 2 * UNIT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The piece arrives, the answer does not.
    LosesReply,
    LosesRequest,
    /// Half of the piece is kept.
    KeepsHalf,
    /// None of it, and the answer says so.
    KeepsNothing,
    /// What came before is lost, too.
    Forgets,
    Fails(u16),
    /// As some emulators do when a piece is sent again.
    KeepsTwice,
    /// Somebody else creates the object just before.
    IsOvertaken,
}

#[derive(Default)]
struct Bucket {
    object: Option<Vec<u8>>,
    session: Option<Vec<u8>>,
    /// What happens to the piece of this number, once.
    faults: Vec<(usize, Fault)>,
    pieces: usize,
    cancelled: usize,
}

type Shared = Arc<Mutex<Bucket>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Bucket> {
    shared.lock().unwrap()
}

fn start(faults: &[(usize, Fault)]) -> (StandIn, Shared) {
    let shared: Shared = Arc::new(Mutex::new(Bucket { faults: faults.to_vec(), ..Bucket::default() }));
    let bucket = Arc::clone(&shared);
    (StandIn::start(move |request| lock(&bucket).answer(request)), shared)
}

impl Bucket {
    fn answer(&mut self, request: &Request) -> Reply {
        let uploads = request.path.starts_with("/upload/storage/v1/b/b/o?");
        match request.method.as_str() {
            "GET" if self.object.is_some() => json(200, r#"{"name":"p/0009/a.ltx"}"#),
            "GET" => json(404, "{}"),
            "POST" if uploads && request.path.contains("ifGenerationMatch=0") => self.begin(),
            "PUT" if uploads && request.path.contains("upload_id=7") => self.piece(request),
            "DELETE" if uploads => {
                self.session = None;
                self.cancelled += 1;
                json(499, "")
            }
            "DELETE" if request.path.ends_with("?ifGenerationMatch=42") => {
                self.object = None;
                json(204, "")
            }
            _ => json(400, object!({"error": {"message": format!("{} {}", request.method, request.path)}})),
        }
    }

    fn begin(&mut self) -> Reply {
        if self.object.is_some() {
            return json(412, "{}");
        }
        self.session = Some(Vec::new());
        // A host that is not ours: the configured endpoint counts.
        let location = "http://192.0.2.1:1/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=7";
        Reply::Send(200, vec![("Location", location.to_owned())], String::new())
    }

    fn piece(&mut self, request: &Request) -> Reply {
        let number = self.pieces;
        self.pieces += 1;
        let fault = self.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
        let (Some(data), range) = (&mut self.session, request.header("content-range")) else {
            return json(410, "");
        };
        let (span, total) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        let (from, to) = span.split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(to + 1 - from, request.body.len());
        assert!(total != "*" || request.body.len().is_multiple_of(UNIT), "{range}");
        let mut body = request.body.as_slice();
        match fault {
            Some(Fault::LosesRequest) => return Reply::Hang,
            Some(Fault::Fails(status)) => return json(status, "{}"),
            Some(Fault::KeepsNothing) => body = &[],
            Some(Fault::KeepsHalf) => body = &body[..UNIT],
            Some(Fault::Forgets) => data.clear(),
            Some(Fault::KeepsTwice) => data.extend_from_slice(body),
            Some(Fault::IsOvertaken) => self.object = Some(b"theirs".to_vec()),
            Some(Fault::LosesReply) | None => {}
        }
        if from <= data.len() && fault != Some(Fault::Forgets) {
            let known = (data.len() - from).min(body.len());
            let fresh = if fault == Some(Fault::KeepsTwice) { body } else { &body[known..] };
            data.extend_from_slice(fresh);
        }
        let reply = match total.parse::<usize>() {
            Ok(total) if data.len() >= total => self.finish(),
            _ if data.is_empty() => json(308, ""),
            _ => Reply::Send(308, vec![("Range", format!("bytes=0-{}", data.len() - 1))], String::new()),
        };
        if fault == Some(Fault::LosesReply) { Reply::Hang } else { reply }
    }

    /// Asked again, it answers the same.
    fn finish(&mut self) -> Reply {
        let data = self.session.clone().unwrap();
        if self.object.as_ref().is_some_and(|object| *object != data) {
            return json(412, "{}");
        }
        let size = data.len().to_string();
        self.object = Some(data);
        json(200, object!({"name": "p/0009/a.ltx", "size": size, "generation": "42"}))
    }
}

fn content() -> Vec<u8> {
    (0..3 * PART + 1000).map(|at| (at * 31 % 251) as u8).collect()
}

fn stream(finish: bool) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for piece in content().chunks(100_000) {
            if sender.send(Chunk::Data(Bytes::copy_from_slice(piece))).await.is_err() {
                return;
            }
        }
        if finish {
            let _ = sender.send(Chunk::End).await;
        }
    });
    Body::Stream(receiver)
}

fn store(server: &StandIn) -> Arc<dyn Store> {
    let mut settings = settings_for(&server.url(), "b", "p");
    settings.part_size = Some(PART as u64 + 17);
    open(&settings)
}

async fn upload(server: &StandIn) -> Result<Put, litevisor::testing::store::StoreError> {
    store(server).put_new("0009/a.ltx", stream(true), 1_795_327_279_450, soon()).await
}

async fn cancelled(bucket: &Shared) {
    let limit = Instant::now() + Duration::from_secs(30);
    while lock(bucket).cancelled == 0 {
        assert!(Instant::now() < limit, "the session stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_stream_goes_in_pieces_of_whole_units() {
    let (server, bucket) = start(&[]);
    assert_eq!(upload(&server).await.unwrap(), Put::Created);
    assert!(lock(&bucket).object.as_ref() == Some(&content()));
    let seen = server.seen();
    let ranges: Vec<&str> =
        seen.iter().filter(|it| it.method == "PUT").map(|it| it.header("content-range")).collect();
    assert_eq!(
        ranges,
        [
            "bytes 0-524287/*",
            "bytes 524288-1048575/*",
            "bytes 1048576-1572863/*",
            "bytes 1572864-1573863/1573864"
        ]
    );
    let begun = seen.iter().find(|request| request.method == "POST").unwrap();
    let described: serde_json::Value = serde_json::from_str(&begun.text()).unwrap();
    assert_eq!(described["name"], "p/0009/a.ltx");
    assert_eq!(described["metadata"], object!({"litestream-timestamp": "2026-11-22T06:01:19.45Z"}));
    assert_eq!(lock(&bucket).cancelled, 0, "a finished session is left alone");
}

#[tokio::test]
async fn pieces_that_go_astray_are_sent_again() {
    use Fault::{Fails, KeepsHalf, KeepsNothing, LosesReply, LosesRequest};
    for faults in [
        &[(0, LosesReply)][..],
        &[(1, LosesRequest)],
        &[(1, KeepsHalf)],
        &[(0, KeepsNothing)],
        &[(2, KeepsNothing)],
        &[(1, Fails(503)), (2, Fails(429)), (3, LosesReply)],
        &[(3, LosesReply)],
        &[(3, LosesRequest)],
        &[(0, KeepsHalf), (1, LosesReply), (2, KeepsHalf), (5, LosesReply)],
    ] {
        let (server, bucket) = start(faults);
        assert_eq!(upload(&server).await.unwrap(), Put::Created, "{faults:?}");
        let stored = lock(&bucket).object.clone().unwrap();
        assert!(stored == content(), "{faults:?}: {} bytes", stored.len());
    }
}

#[tokio::test]
async fn an_upload_that_is_lost_is_given_up_at_once() {
    for fault in [Fault::Fails(410), Fault::Fails(404), Fault::Forgets] {
        let (server, bucket) = start(&[(1, fault)]);
        let error = upload(&server).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unreachable, "{fault:?}: {error}");
        assert!(error.detail.contains("starts again"), "{error}");
        cancelled(&bucket).await;
        assert_eq!(lock(&bucket).object, None, "{fault:?}");
        assert_eq!(lock(&bucket).pieces, 2, "{fault:?}");
    }
    let (server, _) = start(&[(1, Fault::Fails(403))]);
    assert_eq!(upload(&server).await.unwrap_err().kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn whoever_was_first_stays() {
    // Before the end, and at the very end, when only the condition can tell.
    for piece in [1, 3] {
        let (server, bucket) = start(&[(piece, Fault::IsOvertaken)]);
        assert_eq!(upload(&server).await.unwrap(), Put::Exists, "{piece}");
        assert_eq!(lock(&bucket).object.as_deref(), Some(&b"theirs"[..]));
        cancelled(&bucket).await;
    }
    let (server, bucket) = start(&[]);
    lock(&bucket).object = Some(b"theirs".to_vec());
    assert_eq!(upload(&server).await.unwrap(), Put::Exists);
    assert_eq!(server.count("PUT"), 0, "nothing is sent in vain");
}

#[tokio::test]
async fn what_was_stored_wrong_does_not_stay() {
    let (server, bucket) = start(&[(1, Fault::KeepsTwice)]);
    let error = upload(&server).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    assert_eq!(lock(&bucket).object, None);
}

#[tokio::test]
async fn a_producer_that_fails_leaves_no_session() {
    let (server, bucket) = start(&[]);
    let error = store(&server).put_new("0009/a.ltx", stream(false), 0, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
    cancelled(&bucket).await;
    assert_eq!(lock(&bucket).object, None);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_no_session() {
    let (server, bucket) = start(&[]);
    let store = store(&server);
    let (sender, receiver) = mpsc::channel(1);
    let mut upload = store.put_new("0009/a.ltx", Body::Stream(receiver), 0, soon());
    tokio::select! {
        result = &mut upload => panic!("{result:?}"),
        () = async {
            while lock(&bucket).pieces == 0 {
                sender.send(Chunk::Data(vec![1; PART].into())).await.unwrap();
            }
        } => {}
    }
    drop(upload);
    cancelled(&bucket).await;
    assert_eq!(lock(&bucket).object, None);
}
