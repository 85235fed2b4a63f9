//! Handles the HTTP requests of the status service: paths, permissions, answers. Only a sync, a restore and
//! an order to the hand-over make it wait.

use super::address::Key;
use super::handover::{HandoverAnswer, HandoverRequest, Order, parse_promote};
use super::lag_history::LagHistory;
use super::query::{self, Query};
use super::request_guard::{self, RefusedRequest};
use super::restore::{self, RestoreAnswer, RestoreRequest};
use super::status_registry::StatusRegistry;
use super::sync::{SyncAnswer, SyncRequest, Synced};
use super::sync_queue::{SyncOutcome, SyncQueue};
use super::{health, metrics, page, report};
use crate::model::{Deadline, Moment, Secret};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The header in which a client names the supervisor that it wants.
pub const KEY: &str = "litevisor-key";
/// The most syncs that wait at once.
const MAX_WAITING_SYNCS: usize = 16;
/// The engine answers a sync at its deadline. If no answer has come this much later, the engine has failed.
const ENGINE_MARGIN: Duration = Duration::from_secs(2);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Socket,
    Network,
}

/// Answers requests, from the status registry and through the engine.
pub struct StatusHandler {
    registry: Arc<StatusRegistry>,
    syncs: mpsc::UnboundedSender<SyncRequest>,
    restores: mpsc::UnboundedSender<RestoreRequest>,
    orders: mpsc::UnboundedSender<HandoverRequest>,
    waiting: Semaphore,
    /// For requests over the network.
    waiting_outside: Semaphore,
    queue: SyncQueue,
    token: Option<Secret>,
    key: Key,
    max_lag: Option<Duration>,
    lags: LagHistory,
}

/// The settings for requests over the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub token: Option<Secret>,
    /// The shortest time between two syncs.
    pub spacing: Duration,
}

/// What clients ask of the engine.
pub struct Requests {
    pub syncs: mpsc::UnboundedSender<SyncRequest>,
    pub restores: mpsc::UnboundedSender<RestoreRequest>,
    pub orders: mpsc::UnboundedSender<HandoverRequest>,
}

impl StatusHandler {
    pub fn new(
        registry: Arc<StatusRegistry>,
        Requests { syncs, restores, orders }: Requests,
        key: Key,
        max_lag: Option<Duration>,
        Network { token, spacing }: Network,
    ) -> StatusHandler {
        let queue = SyncQueue::new(spacing, syncs.clone());
        let [waiting, waiting_outside] =
            [Semaphore::new(MAX_WAITING_SYNCS), Semaphore::new(MAX_WAITING_SYNCS)];
        let lags = LagHistory::default();
        StatusHandler {
            registry,
            syncs,
            restores,
            orders,
            waiting,
            waiting_outside,
            queue,
            token,
            key,
            max_lag,
            lags,
        }
    }

    /// Notes the lags of now, `passed` after the last time.
    pub fn sample_lags(&self, passed: Duration) {
        let snapshot = self.registry.snapshot();
        let replicated = snapshot.databases.iter().filter(|view| view.status.is_some());
        self.lags.sample(replicated.map(|view| (view.db.clone(), health::lag(view, snapshot.now))), passed);
    }

    /// `extend` is called with the time that the answer may take.
    pub async fn handle<B>(
        &self,
        request: &Request<B>,
        listener: Listener,
        extend: impl Fn(Duration),
    ) -> Response<Full<Bytes>> {
        let wanted = request.headers().get(KEY);
        if wanted.is_some_and(|key| key.as_bytes() != self.key.as_str().as_bytes()) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this litevisor has other databases\n");
        }
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), listener) {
            ("/" | "/healthz" | "/readyz" | "/metrics", _) | ("/status", Listener::Socket) if !read => {
                not_allowed("GET, HEAD")
            }
            ("/", _) => self.page(),
            ("/healthz", _) => self.healthz(),
            ("/readyz", _) => self.readyz(),
            ("/metrics", _) => {
                let text = metrics::text(&self.registry.snapshot(), self.max_lag);
                response(StatusCode::OK, metrics::CONTENT_TYPE, text)
            }
            ("/status", Listener::Socket) => {
                json(StatusCode::OK, &report::status(&self.registry.snapshot(), self.max_lag))
            }
            ("/restore", Listener::Socket) if request.method() != Method::POST => not_allowed("POST"),
            ("/restore", Listener::Socket) => {
                extend(query::LONGEST);
                self.restore(request.uri().query().unwrap_or_default()).await
            }
            ("/promote" | "/handover", Listener::Socket) if request.method() != Method::POST => {
                not_allowed("POST")
            }
            ("/promote", Listener::Socket) => {
                self.order(parse_promote(request.uri().query().unwrap_or_default())).await
            }
            ("/handover", Listener::Socket) => self.order(Ok(Order::LetGo)).await,
            ("/sync", _) if request.method() != Method::POST => not_allowed("POST"),
            ("/sync", _) => {
                if let Some(refusal) = self.refusal(request.headers(), listener) {
                    return refusal;
                }
                match query::parse(request.uri().query().unwrap_or_default()) {
                    Ok(query) => {
                        extend(query.timeout + ENGINE_MARGIN);
                        self.sync(query, listener).await
                    }
                    Err(message) => json(StatusCode::BAD_REQUEST, &json!({ "error": message })),
                }
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "not found; available: GET /, /healthz, /readyz, /metrics and POST /sync\n",
            ),
        }
    }

    fn page(&self) -> Response<Full<Bytes>> {
        let html = page::html(&self.registry.snapshot(), self.max_lag, |db| self.lags.of(db), Moment::now());
        let mut response = response(StatusCode::OK, HTML, html);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn healthz(&self) -> Response<Full<Bytes>> {
        if health::alive(&self.registry.snapshot()) {
            text(StatusCode::OK, "ok\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "the engine has ended: nothing is replicated any more\n")
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let snapshot = self.registry.snapshot();
        let reasons = health::unready(&snapshot, self.max_lag);
        let lines = |first: &str, rest: &[String]| {
            let rest: String = rest.iter().map(|line| format!("{}\n", line.replace('\n', " "))).collect();
            format!("{first}\n{rest}")
        };
        if reasons.is_empty() {
            text(StatusCode::OK, &lines(health::ready_line(&snapshot), &health::notes(&snapshot)))
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, &lines("not ready", &reasons))
        }
    }

    /// Every client that reaches the port may ask for a sync, except a web page in a browser.
    fn refusal(&self, headers: &HeaderMap, listener: Listener) -> Option<Response<Full<Bytes>>> {
        let refused =
            request_guard::check(headers, self.token.as_ref()).filter(|_| listener == Listener::Network)?;
        let message = json!({ "error": refused.message() });
        if refused != RefusedRequest::Token {
            return Some(json(StatusCode::FORBIDDEN, &message));
        }
        let mut response = json(StatusCode::UNAUTHORIZED, &message);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    async fn sync(&self, Query { db, timeout }: Query, listener: Listener) -> Response<Full<Bytes>> {
        let waiting = if listener == Listener::Socket { &self.waiting } else { &self.waiting_outside };
        let Ok(_place) = waiting.try_acquire() else { return unavailable("too many syncs wait already") };
        let outcome = match listener {
            Listener::Socket => self.sync_now(db.clone(), timeout).await,
            Listener::Network => self.queue.sync(db.clone(), Instant::now() + timeout, ENGINE_MARGIN).await,
        };
        match outcome {
            SyncOutcome::Answered(SyncAnswer::Done(databases)) => {
                json(synced_status(&databases), &report::synced(&databases, &self.registry.snapshot()))
            }
            SyncOutcome::Answered(SyncAnswer::Unknown) => {
                let db = db.unwrap_or_else(|| "a read-only copy (follow.enabled)".to_owned());
                json(StatusCode::NOT_FOUND, &json!({ "error": format!("{db} is not replicated here") }))
            }
            SyncOutcome::Answered(SyncAnswer::NotYet) => {
                unavailable(&health::not_begun(&self.registry.snapshot()))
            }
            SyncOutcome::EngineGone => unavailable("the engine has ended: nothing is replicated any more"),
            SyncOutcome::TooOften(wait) => too_often(wait),
            SyncOutcome::Late => {
                let message = json!({ "complete": false, "error": "the engine does not answer in time" });
                json(StatusCode::GATEWAY_TIMEOUT, &message)
            }
        }
    }

    /// Only over the socket: it stops the app.
    async fn restore(&self, query: &str) -> Response<Full<Bytes>> {
        let (db, target) = match restore::parse(query) {
            Ok(parsed) => parsed,
            Err(message) => return json(StatusCode::BAD_REQUEST, &json!({ "error": message })),
        };
        let (reply, answer) = oneshot::channel();
        let asked = self.restores.send(RestoreRequest { db, target, reply }).is_ok();
        let Some(RestoreAnswer { code, message }) = answer.await.ok().filter(|_| asked) else {
            return unavailable("litevisor is stopping");
        };
        let status = if code == 0 { StatusCode::OK } else { StatusCode::CONFLICT };
        json(status, &json!({ "code": code, "message": message }))
    }

    /// Only over the socket, for the same reason. The answer says whether the order is carried out, not when
    /// it is done.
    async fn order(&self, order: Result<Order, String>) -> Response<Full<Bytes>> {
        let order = match order {
            Ok(order) => order,
            Err(message) => return json(StatusCode::BAD_REQUEST, &json!({ "error": message })),
        };
        let (reply, answer) = oneshot::channel();
        let asked = self.orders.send(HandoverRequest { order, reply }).is_ok();
        let answer = tokio::time::timeout(ENGINE_MARGIN, answer).await;
        let Ok(Some(HandoverAnswer { code, message })) = answer.map(|answer| answer.ok().filter(|_| asked))
        else {
            return unavailable("the engine does not answer: litevisor is stopping");
        };
        let status = if code == 0 { StatusCode::OK } else { StatusCode::CONFLICT };
        json(status, &json!({ "code": code, "message": message }))
    }

    async fn sync_now(&self, db: Option<String>, timeout: Duration) -> SyncOutcome {
        let (reply, answer) = oneshot::channel();
        let request = SyncRequest { db, by: Deadline::after(timeout), reply };
        if self.syncs.send(request).is_err() {
            return SyncOutcome::EngineGone;
        }
        match tokio::time::timeout(timeout + ENGINE_MARGIN, answer).await {
            Ok(answer) => answer.map_or(SyncOutcome::EngineGone, SyncOutcome::Answered),
            Err(_) => SyncOutcome::Late,
        }
    }
}

fn unavailable(message: &str) -> Response<Full<Bytes>> {
    json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": message }))
}

fn too_often(wait: Duration) -> Response<Full<Bytes>> {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let message =
        format!("another sync over the network has just begun: the next one may begin in {seconds} s");
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, &json!({ "complete": false, "error": message }));
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

fn synced_status(databases: &[Synced]) -> StatusCode {
    match databases.iter().filter(|db| !db.complete).collect::<Vec<_>>().as_slice() {
        [] => StatusCode::OK,
        missing if missing.iter().all(|db| db.absent) => StatusCode::NOT_FOUND,
        _ => StatusCode::GATEWAY_TIMEOUT,
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
    use crate::observe::status_registry::Phase;
    use http_body_util::BodyExt;

    fn handler() -> (Arc<StatusRegistry>, StatusHandler, mpsc::UnboundedReceiver<SyncRequest>) {
        let (syncs, asked) = mpsc::unbounded_channel();
        let (registry, (restores, _)) = (Arc::new(StatusRegistry::default()), mpsc::unbounded_channel());
        let requests = Requests { syncs, restores, orders: mpsc::unbounded_channel().0 };
        let handler =
            StatusHandler::new(Arc::clone(&registry), requests, Key::of(None), None, Network::default());
        (registry, handler, asked)
    }

    async fn ask(handler: &StatusHandler, method: Method, uri: &str, listener: Listener) -> (u16, String) {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let response = handler.handle(&request, listener, |_| {}).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_door_and_method() {
        let (registry, handler, _asked) = handler();
        registry.enter(Phase::Running);
        let (get, post) = (Method::GET, Method::POST);
        for (method, uri, listener, status) in [
            (&get, "/healthz", Listener::Network, 200),
            (&Method::HEAD, "/healthz", Listener::Network, 200),
            (&post, "/healthz", Listener::Network, 405),
            (&get, "/readyz?x=1", Listener::Socket, 200),
            (&get, "/metrics", Listener::Network, 200),
            (&Method::DELETE, "/metrics", Listener::Network, 405),
            (&get, "/status", Listener::Socket, 200),
            (&get, "/status", Listener::Network, 404),
            (&get, "/sync", Listener::Socket, 405),
            (&post, "/sync?timeout=x", Listener::Socket, 400),
            (&get, "/restore", Listener::Socket, 405),
            (&post, "/restore?db=", Listener::Socket, 400),
            (&post, "/restore?db=/d/a.db", Listener::Socket, 503),
            (&post, "/restore?db=/d/a.db", Listener::Network, 404),
            (&get, "/promote", Listener::Socket, 405),
            (&post, "/promote?force", Listener::Socket, 400),
            (&post, "/promote?force=true", Listener::Socket, 503),
            (&post, "/promote", Listener::Network, 404),
            (&get, "/handover", Listener::Socket, 405),
            (&post, "/handover", Listener::Socket, 503),
            (&post, "/handover", Listener::Network, 404),
            (&get, "/", Listener::Network, 200),
            (&post, "/", Listener::Network, 405),
            (&get, "//", Listener::Network, 404),
            (&get, "/metrics/", Listener::Network, 404),
        ] {
            assert_eq!(
                ask(&handler, method.clone(), uri, listener).await.0,
                status,
                "{method} {uri} {listener:?}"
            );
        }
        registry.enter(Phase::Stopping);
        assert_eq!(
            ask(&handler, get, "/readyz", Listener::Network).await,
            (503, "not ready\nstopping\n".to_owned())
        );
    }

    #[tokio::test]
    async fn a_web_page_makes_nobody_sync() {
        let (_, mut handler, _asked) = handler();
        for (token, listener, status) in [
            (None, Listener::Network, 403),
            (Some("t"), Listener::Network, 401),
            (Some("t"), Listener::Socket, 400),
        ] {
            handler.token = token.map(Secret::new);
            let request =
                Request::builder().method(Method::POST).uri("/sync?timeout=x").header("host", "evil.example");
            let response = handler.handle(&request.body(()).unwrap(), listener, |_| {}).await;
            assert_eq!(response.status().as_u16(), status, "{token:?} {listener:?}");
        }
    }

    #[tokio::test]
    async fn another_supervisors_client_is_sent_on() {
        let (_, handler, _asked) = handler();
        for (key, status) in [(Key::of(None), 200), (Key::of(Some("/other.db".as_ref())), 421)] {
            let request = Request::builder().uri("/status").header(KEY, key.as_str()).body(()).unwrap();
            assert_eq!(handler.handle(&request, Listener::Socket, |_| {}).await.status().as_u16(), status);
        }
    }

    #[tokio::test]
    async fn what_a_sync_comes_to() {
        let synced = |complete| Synced {
            database: "/d/a.db".into(),
            complete,
            fenced: false,
            absent: false,
            committed: "8".into(),
            uploaded: "7".into(),
            missing: (!complete).then(|| "TXID 8".into()),
        };
        let absent = || Synced { absent: true, ..synced(false) };
        for (answer, status, part) in [
            (Some(SyncAnswer::Done(vec![synced(true)])), 200, "\"complete\":true"),
            (Some(SyncAnswer::Done(vec![synced(true), synced(false)])), 504, "\"missing\":\"TXID 8\""),
            (Some(SyncAnswer::Done(vec![synced(true), absent()])), 404, "\"absent\":true"),
            (Some(SyncAnswer::Done(vec![synced(false), absent()])), 504, "\"absent\":true"),
            (Some(SyncAnswer::Unknown), 404, "/d/a b.db is not replicated here"),
            (Some(SyncAnswer::NotYet), 503, "has not begun"),
            (None, 503, "engine has ended"),
        ] {
            let (_, handler, mut asked) = handler();
            let engine = async {
                let request = asked.recv().await.unwrap();
                assert_eq!(request.db.as_deref(), Some("/d/a b.db"));
                if let Some(answer) = answer {
                    let _ = request.reply.send(answer);
                }
            };
            let ask = ask(&handler, Method::POST, "/sync?db=/d/a%20b.db&timeout=20s", Listener::Network);
            let ((code, body), ()) = tokio::join!(ask, engine);
            assert_eq!(code, status, "{body}");
            assert!(body.contains(part), "{body}");
        }
        let (_, handler, asked) = handler();
        drop(asked);
        assert_eq!(ask(&handler, Method::POST, "/sync", Listener::Socket).await.0, 503);
    }
}
