//! Sends the requests of all services that speak HTTP. A kept connection may be dead without a word (NAT, a
//! load balancer, a pod that was replaced): when a small request gets no answer for a moment, it is sent once
//! more over a new connection, and the first answer counts. If the new connection answers first, the kept
//! connections are closed.
//!
//! An answer that cannot be the store's (a web page) is an error. Redirects are not followed, so credentials
//! go to the configured host alone.

use super::client::{client, tls};
use super::{failed, is_timeout};
use crate::store::failure::{self, Failure};
use crate::store::suspicion;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Request, Response, StatusCode};
use rustls::ClientConfig;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Connections on which nothing was answered for so long are not trusted.
const TRUSTED: Duration = Duration::from_secs(2);
/// How long a request waits for an answer before it is sent once more: over a trusted connection, over
/// another one.
const PATIENT: Duration = Duration::from_secs(3);
const QUICK: Duration = Duration::from_secs(1);
/// On top of that, what the content takes on a slow line.
const BYTES_PER_SECOND: u64 = 512 << 10;
/// Larger requests are sent once: they have tries of their own, and twice the bytes would hurt a slow line.
const LARGEST: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum TransportError {
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    /// The answer is not the store's: why.
    #[error("{0}")]
    Suspicious(String),
}

impl TransportError {
    pub(in crate::store) fn explain(&self) -> Failure {
        match self {
            TransportError::Request(error) => failed(error),
            TransportError::Suspicious(detail) => Failure::unreachable(detail),
        }
    }
}

pub(in crate::store) struct Transport {
    tls: ClientConfig,
    pool: RwLock<Pool>,
}

struct Pool {
    client: reqwest::Client,
    answered: Option<Instant>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// `plain`: nothing but http will be asked for. The error is a text for the user.
    pub(in crate::store) async fn new(ca_file: Option<&Path>, plain: bool) -> Result<Transport, String> {
        let tls = tls(ca_file, plain).await?;
        let pool = RwLock::new(Pool { client: client(tls.clone())?, answered: None });
        Ok(Transport { tls, pool })
    }

    /// To build requests with, and to send requests that are not repeated.
    pub(in crate::store) fn client(&self) -> reqwest::Client {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    pub(in crate::store) async fn execute(&self, request: Request) -> Result<Response, TransportError> {
        let reply = self.send(request).await?;
        self.pool.write().unwrap_or_else(PoisonError::into_inner).answered = Some(Instant::now());
        checked(reply)
    }

    async fn send(&self, request: Request) -> Result<Response, reqwest::Error> {
        let (client, idle) = {
            let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
            (pool.client.clone(), pool.answered.map(|at| at.elapsed()))
        };
        let second = patience(&request, idle).and_then(|wait| Some((request.try_clone()?, wait)));
        let mut first = std::pin::pin!(client.execute(request));
        let Some((again, wait)) = second else { return first.await };
        tokio::select! {
            biased;
            reply = &mut first => return reply,
            () = tokio::time::sleep(wait) => {}
        }
        let Ok(fresh) = self::client(self.tls.clone()) else { return first.await };
        let mut second = std::pin::pin!(fresh.execute(again));
        tokio::select! {
            biased;
            reply = &mut first => match reply {
                Err(error) if error.is_connect() => Err(error),
                Err(_) => second.await.inspect(|_| self.replace(&fresh)),
                reply => reply,
            },
            reply = &mut second => match reply {
                Ok(reply) => {
                    self.replace(&fresh);
                    Ok(reply)
                }
                Err(_) => first.await,
            },
        }
    }

    fn replace(&self, fresh: &reqwest::Client) {
        tracing::debug!("a connection that was kept is dead: going on over a new one");
        self.pool.write().unwrap_or_else(PoisonError::into_inner).client = fresh.clone();
    }
}

/// How long to wait for an answer before the request is sent once more; None: it is sent once.
fn patience(request: &Request, idle: Option<Duration>) -> Option<Duration> {
    let bytes = match request.body() {
        None => 0,
        Some(body) => body.as_bytes()?.len(),
    };
    let piece = request.headers().contains_key(CONTENT_RANGE);
    if piece || !may_repeat(request.method(), request.url().query().unwrap_or_default()) {
        return None;
    }
    wait(bytes, idle)
}

fn wait(bytes: usize, idle: Option<Duration>) -> Option<Duration> {
    let trusted = idle.is_none_or(|idle| idle < TRUSTED);
    let base = if trusted { PATIENT } else { QUICK };
    let content = Duration::from_millis(bytes as u64 * 1000 / BYTES_PER_SECOND);
    (bytes <= LARGEST).then_some(base + content)
}

/// Whether it does no harm when both are carried out. What begins or ends an upload in parts would leave one
/// open, or find it gone.
fn may_repeat(method: &Method, query: &str) -> bool {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match method.as_str() {
        "GET" | "HEAD" | "DELETE" | "PUT" => true,
        // Of many at once at S3; a whole object at Google.
        "POST" => has("delete") || query.split('&').any(|pair| pair == "uploadType=multipart"),
        _ => false,
    }
}

/// Headers that only services send. A test server may call everything HTML, but sends one of these.
const MARKS: [&str; 6] = [
    "etag",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-ms-request-id",
    "x-goog-generation",
    "x-guploader-uploadid",
];

fn checked(reply: Response) -> Result<Response, TransportError> {
    let header =
        |name| reply.headers().get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
    let marked = MARKS.iter().any(|name| reply.headers().contains_key(*name));
    let empty = reply.content_length() == Some(0) || reply.status() == StatusCode::NO_CONTENT;
    if reply.status().is_success() && suspicion::is_html(header(CONTENT_TYPE)) && !marked && !empty {
        return Err(TransportError::Suspicious(failure::not_the_stores_own(suspicion::HTML)));
    }
    if reply.status() == StatusCode::PARTIAL_CONTENT && !reply.headers().contains_key(CONTENT_RANGE) {
        return Err(TransportError::Suspicious(failure::not_the_stores_own(
            "a part came back that does not say which",
        )));
    }
    Ok(reply)
}

/// Whether the error is that the time was over.
pub(in crate::store) fn timed_out(error: &TransportError) -> bool {
    matches!(error, TransportError::Request(error) if is_timeout(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_come_twice_is_sent_twice() {
        for (method, query, expected) in [
            (Method::GET, "list-type=2", true),
            (Method::HEAD, "", true),
            (Method::PUT, "x-id=PutObject", true),
            (Method::PUT, "partNumber=1&uploadId=2", true),
            (Method::PUT, "comp=blocklist", true),
            (Method::DELETE, "", true),
            (Method::POST, "delete", true),
            (Method::POST, "delete=", true),
            (Method::POST, "uploads", false),
            (Method::POST, "uploadId=2", false),
            (Method::POST, "uploadType=multipart&ifGenerationMatch=0", true),
            (Method::POST, "uploadType=resumable&ifGenerationMatch=0", false),
            (Method::PATCH, "", false),
        ] {
            assert_eq!(may_repeat(&method, query), expected, "{method} {query}");
        }
    }

    #[test]
    fn the_wait_is_short_after_a_quiet_time_and_longer_for_more_bytes() {
        let seconds = Duration::from_secs;
        for (bytes, idle, expected) in [
            (0, None, Some(PATIENT)),
            (0, Some(seconds(1)), Some(PATIENT)),
            (0, Some(seconds(2)), Some(QUICK)),
            (256 << 10, Some(seconds(9)), Some(QUICK + Duration::from_millis(500))),
            (LARGEST, Some(seconds(9)), Some(QUICK + seconds(2))),
            (LARGEST + 1, None, None),
        ] {
            assert_eq!(wait(bytes, idle), expected, "{bytes} {idle:?}");
        }
    }
}
