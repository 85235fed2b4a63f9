//! Requests and their answers. In: method, path, query, and through which door somebody came. Out: a response that is
//! complete in memory. Waits for nothing but a sync, and for that no longer than it was asked to.

use super::address::Key;
use super::board::Board;
use super::query::{self, Query};
use super::sync::{SyncAnswer, SyncRequest};
use super::{health, metrics, report};
use crate::model::Deadline;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A client that asks for one supervisor of several says so with this header.
pub const KEY: &str = "litevisor-key";
/// Syncs that are waited for at once.
const SYNCS: usize = 16;
/// The engine answers a sync at its deadline; a moment more, and something is wrong with the engine.
const ENGINE: Duration = Duration::from_secs(2);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Through which door somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Socket,
    Network,
}

/// What the answers are made of.
pub struct Desk {
    board: Arc<Board>,
    syncs: mpsc::UnboundedSender<SyncRequest>,
    waiting: Semaphore,
    key: Key,
    max_lag: Option<Duration>,
}

impl Desk {
    pub fn new(
        board: Arc<Board>,
        syncs: mpsc::UnboundedSender<SyncRequest>,
        key: Key,
        max_lag: Option<Duration>,
    ) -> Desk {
        Desk { board, syncs, waiting: Semaphore::new(SYNCS), key, max_lag }
    }

    /// `longer`: called with the time that the answer may take.
    pub async fn answer<B>(
        &self,
        request: &Request<B>,
        door: Door,
        longer: impl Fn(Duration),
    ) -> Response<Full<Bytes>> {
        let wanted = request.headers().get(KEY);
        if wanted.is_some_and(|key| key.as_bytes() != self.key.as_str().as_bytes()) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this litevisor has other databases\n");
        }
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), door) {
            ("/healthz" | "/readyz" | "/metrics", _) | ("/status", Door::Socket) if !read => not_allowed("GET, HEAD"),
            ("/healthz", _) => self.alive(),
            ("/readyz", _) => self.ready(),
            ("/metrics", _) => {
                let text = metrics::text(&self.board.snapshot(), self.max_lag);
                response(StatusCode::OK, metrics::CONTENT_TYPE, text)
            }
            ("/status", Door::Socket) => json(StatusCode::OK, &report::status(&self.board.snapshot(), self.max_lag)),
            ("/sync", _) if request.method() != Method::POST => not_allowed("POST"),
            ("/sync", _) => match query::parse(request.uri().query().unwrap_or_default()) {
                Ok(query) => {
                    longer(query.timeout + ENGINE);
                    self.sync(query).await
                }
                Err(told) => json(StatusCode::BAD_REQUEST, &json!({ "error": told })),
            },
            _ => text(StatusCode::NOT_FOUND, "here are GET /healthz, /readyz, /metrics and POST /sync\n"),
        }
    }

    fn alive(&self) -> Response<Full<Bytes>> {
        if health::alive(&self.board.snapshot()) {
            text(StatusCode::OK, "ok\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "the engine has ended: nothing is replicated any more\n")
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let snapshot = self.board.snapshot();
        let reasons = health::unready(&snapshot, self.max_lag);
        let lines = |first: &str, rest: &[String]| {
            let rest: String = rest.iter().map(|line| format!("{}\n", line.replace('\n', " "))).collect();
            format!("{first}\n{rest}")
        };
        if reasons.is_empty() {
            text(StatusCode::OK, &lines("ready", &health::notes(&snapshot)))
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, &lines("not ready", &reasons))
        }
    }

    async fn sync(&self, Query { db, timeout }: Query) -> Response<Full<Bytes>> {
        let unavailable = |told: &str| json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": told }));
        let Ok(_turn) = self.waiting.try_acquire() else { return unavailable("too many syncs are waited for") };
        let (reply, answer) = oneshot::channel();
        let request = SyncRequest { db: db.clone(), by: Deadline::after(timeout), reply };
        if self.syncs.send(request).is_err() {
            return unavailable("the engine has ended: nothing is replicated any more");
        }
        match tokio::time::timeout(timeout + ENGINE, answer).await {
            Ok(Ok(SyncAnswer::Done(databases))) => {
                let complete = databases.iter().all(|db| db.complete);
                let status = if complete { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
                json(status, &report::synced(&databases))
            }
            Ok(Ok(SyncAnswer::Unknown)) => {
                let db = db.unwrap_or_default();
                json(StatusCode::NOT_FOUND, &json!({ "error": format!("{db} is not replicated here") }))
            }
            Ok(Ok(SyncAnswer::NotYet)) => unavailable("replication has not begun: the databases are being restored"),
            Ok(Err(_)) => unavailable("the engine has ended: nothing is replicated any more"),
            Err(_) => json(StatusCode::GATEWAY_TIMEOUT, &json!({ "error": "the engine does not answer" })),
        }
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    response(status, TEXT, body.to_owned())
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    response(status, JSON, format!("{value}\n"))
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {methods}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::board::Phase;
    use crate::observe::sync::Synced;
    use http_body_util::BodyExt;

    fn desk() -> (Arc<Board>, Desk, mpsc::UnboundedReceiver<SyncRequest>) {
        let (syncs, asked) = mpsc::unbounded_channel();
        let board = Arc::new(Board::default());
        (Arc::clone(&board), Desk::new(board, syncs, Key::of(None), None), asked)
    }

    async fn ask(desk: &Desk, method: Method, uri: &str, door: Door) -> (u16, String) {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let response = desk.answer(&request, door, |_| {}).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_door_and_method() {
        let (board, desk, _asked) = desk();
        board.enter(Phase::Running);
        let (get, post) = (Method::GET, Method::POST);
        for (method, uri, door, status) in [
            (&get, "/healthz", Door::Network, 200),
            (&Method::HEAD, "/healthz", Door::Network, 200),
            (&post, "/healthz", Door::Network, 405),
            (&get, "/readyz?x=1", Door::Socket, 200),
            (&get, "/metrics", Door::Network, 200),
            (&Method::DELETE, "/metrics", Door::Network, 405),
            (&get, "/status", Door::Socket, 200),
            (&get, "/status", Door::Network, 404),
            (&get, "/sync", Door::Socket, 405),
            (&post, "/sync?timeout=x", Door::Socket, 400),
            (&get, "/", Door::Network, 404),
            (&get, "/metrics/", Door::Network, 404),
        ] {
            assert_eq!(ask(&desk, method.clone(), uri, door).await.0, status, "{method} {uri} {door:?}");
        }
        board.enter(Phase::Stopping);
        assert_eq!(ask(&desk, get, "/readyz", Door::Network).await, (503, "not ready\nstopping\n".to_owned()));
    }

    #[tokio::test]
    async fn another_supervisors_client_is_sent_on() {
        let (_, desk, _asked) = desk();
        for (key, status) in [(Key::of(None), 200), (Key::of(Some("/other.db".as_ref())), 421)] {
            let request = Request::builder().uri("/status").header(KEY, key.as_str()).body(()).unwrap();
            assert_eq!(desk.answer(&request, Door::Socket, |_| {}).await.status().as_u16(), status);
        }
    }

    #[tokio::test]
    async fn what_a_sync_comes_to() {
        let synced = |complete| Synced {
            database: "/d/a.db".into(),
            complete,
            fenced: false,
            committed: "8".into(),
            uploaded: "7".into(),
            missing: (!complete).then(|| "TXID 8".into()),
        };
        for (answer, status, part) in [
            (Some(SyncAnswer::Done(vec![synced(true)])), 200, "\"complete\":true"),
            (Some(SyncAnswer::Done(vec![synced(true), synced(false)])), 504, "\"missing\":\"TXID 8\""),
            (Some(SyncAnswer::Unknown), 404, "/d/a b.db is not replicated here"),
            (Some(SyncAnswer::NotYet), 503, "has not begun"),
            (None, 503, "engine has ended"),
        ] {
            let (_, desk, mut asked) = desk();
            let engine = async {
                let request = asked.recv().await.unwrap();
                assert_eq!(request.db.as_deref(), Some("/d/a b.db"));
                if let Some(answer) = answer {
                    let _ = request.reply.send(answer);
                }
            };
            let ask = ask(&desk, Method::POST, "/sync?db=/d/a%20b.db&timeout=20s", Door::Network);
            let ((code, body), ()) = tokio::join!(ask, engine);
            assert_eq!(code, status, "{body}");
            assert!(body.contains(part), "{body}");
        }
        let (_, desk, asked) = desk();
        drop(asked);
        assert_eq!(ask(&desk, Method::POST, "/sync", Door::Socket).await.0, 503);
    }
}
