//! Signs and sends one request, and reads why the service refused it. No URL gets into an error: it may hold
//! a signature.

use super::address::Account;
use super::cause;
use super::credentials::Credentials;
use crate::store::StoreErrorKind::{self, Invalid, Unreachable};
use crate::store::failure::{self, Failure};
use crate::store::http::{Transport, body, date, retry_after, with_hint};
use crate::store::{StoreClock, StoreSettings, suspicion};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, ETAG, HeaderMap};
use http::{Method, Request, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use reqwest::Response;
use std::sync::Arc;
use std::time::Duration;

/// What the service's answers are written for.
const VERSION: &str = "2023-11-03";
/// Of an error's body: more is no error of Azure's.
const ERROR: usize = 16 << 10;

pub(in crate::store) struct Service {
    account: Account,
    client: Transport,
    credentials: Credentials,
    clock: Arc<StoreClock>,
}

/// A request that was not met.
pub(super) struct Refusal {
    pub kind: StoreErrorKind,
    /// 0 when there was no answer.
    pub status: u16,
    /// Azure's own word for it.
    pub code: String,
    pub detail: String,
    pub retry_after: Option<Duration>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { retry_after: refusal.retry_after, ..Failure::new(refusal.kind, refusal.detail) }
    }
}

impl Refusal {
    /// `If-None-Match: *` was not met.
    pub(super) fn already_exists(&self) -> bool {
        cause::exists(self.status, &self.code)
    }

    /// There is no such blob; what else a 404 says is no answer about it.
    pub(super) fn is_absent(&self) -> bool {
        self.status == 404 && matches!(self.code.as_str(), "" | "BlobNotFound")
    }
}

pub(super) struct Call {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, url: String) -> Call {
        Call { method, url, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn put(url: String, body: Bytes) -> Call {
        Call { body, ..Call::new(Method::PUT, url) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }
}

impl Service {
    /// The error is a text for the user.
    pub(super) async fn build(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Service, String> {
        let account = Account::of(settings)?;
        let plain = account.is_plain() && Credentials::is_plain(&settings.abs);
        let client = Transport::new(settings.ca_file.as_deref(), plain).await?;
        let credentials = Credentials::of(&settings.abs, &client.client())?;
        Ok(Service { account, client, credentials, clock: Arc::clone(clock) })
    }

    /// `operation` is what the caller calls it; a 404 means something else to `get`. What was refused for its
    /// credential is sent once more if there is a newer one.
    pub(super) async fn send(&self, operation: &str, call: Call) -> Result<Response, Refusal> {
        let credential = self.credentials.current().await.map_err(unanswered)?;
        match self.send_with(&credential, operation, &call).await {
            Err(refusal) if matches!(refusal.status, 401 | 403) => {
                match self.credentials.instead_of(&credential).await {
                    Some(newer) => self.send_with(&newer, operation, &call).await,
                    None => Err(refusal),
                }
            }
            result => result,
        }
    }

    async fn send_with(
        &self,
        credential: &AzureCredential,
        operation: &str,
        call: &Call,
    ) -> Result<Response, Refusal> {
        let request = self.signed(call, credential).map_err(|detail| unanswered((Invalid, detail)))?;
        let reply = self.client.execute(request).await.map_err(|error| {
            let failure = error.explain().context(&self.account.endpoint);
            unanswered((failure.kind, failure.detail))
        })?;
        self.clock.record(date(&reply));
        if reply.status().is_success() {
            // Every answer of the service's has one of these.
            if !["x-ms-request-id", "x-ms-version"].iter().any(|name| reply.headers().contains_key(*name)) {
                return Err(unanswered((
                    Unreachable,
                    failure::not_the_stores_own("the answer has no x-ms-request-id"),
                )));
            }
            // Whatever we put is created.
            if call.method == Method::PUT && reply.status() != StatusCode::CREATED {
                let problem = format!("the answer is {}, not 201 Created", reply.status());
                return Err(unanswered((Unreachable, failure::not_the_stores_own(&problem))));
            }
            return Ok(reply);
        }
        Err(refusal(operation, reply, credential).await)
    }

    fn signed(&self, call: &Call, credential: &AzureCredential) -> Result<reqwest::Request, String> {
        let mut request =
            Request::builder().method(&call.method).uri(&call.url).header("x-ms-version", VERSION);
        if call.method == Method::PUT {
            request = request.header(CONTENT_LENGTH, call.body.len());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(HttpRequestBody::empty()).map_err(|error| error.to_string())?;
        let authorizer = AzureAuthorizer::new(credential, &self.account.name);
        authorizer.try_authorize(&mut request).map_err(|_| "the request could not be signed".to_owned())?;
        let (parts, _) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|_| "the request has no valid address".to_owned())?;
        let mut signed = reqwest::Request::new(parts.method, url);
        *signed.headers_mut() = parts.headers;
        if let Some(value) = signed.headers_mut().get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        *signed.body_mut() = Some(call.body.clone().into());
        Ok(signed)
    }
}

fn unanswered((kind, detail): (StoreErrorKind, String)) -> Refusal {
    Refusal { kind, status: 0, code: String::new(), detail, retry_after: None }
}

async fn refusal(operation: &str, reply: Response, credential: &AzureCredential) -> Refusal {
    let status = reply.status().as_u16();
    let retry_after = retry_after(&reply);
    let code = header(reply.headers(), "x-ms-error-code");
    let skew_s = skew_s(&header(reply.headers(), DATE.as_str()), jiff::Timestamp::now());
    let (kind, hint) = cause::classify(operation, status, &code, Some(credential), skew_s);
    let detail = [format!("HTTP {status}"), code.clone()].join(" ");
    let said = body(reply, ERROR).await.unwrap_or_default();
    let detail = match message(&String::from_utf8_lossy(&said)) {
        Some(message) => format!("{}: {message}", detail.trim_end()),
        None => detail.trim_end().to_owned(),
    };
    Refusal { kind, status, code, detail: with_hint(detail, &hint), retry_after }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Seconds that the other clock is ahead; 0 when it does not say.
fn skew_s(date: &str, now: jiff::Timestamp) -> i64 {
    let there = jiff::fmt::rfc2822::parse(date).map(|there| there.timestamp());
    there.map_or(0, |there| there.as_second().saturating_sub(now.as_second()))
}

/// The service names the ETag of what it has stored; a reply without one may mean that nothing was stored.
pub(super) fn stored(reply: &Response) -> Result<(), Failure> {
    let has_etag = reply.headers().get(ETAG).is_some_and(|tag| !tag.is_empty());
    if has_etag { Ok(()) } else { Err(Failure::suspicious(suspicion::NO_ETAG)) }
}

/// The first line of what Azure says; ids and times of the request follow.
fn message(xml: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(rename = "Message")]
        message: String,
    }
    let error: Error = quick_xml::de::from_str(xml).ok()?;
    error.message.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_an_error_is_told() {
        let xml = "\u{feff}<?xml \
            version=\"1.0\" encoding=\"utf-8\"?>\n<Error><Code>ServerBusy</Code><Message>The server is \
                   busy.\nRequestId:1\nTime:2026</Message><AuthenticationErrorDetail>x</AuthenticationErrorDetail></Error>";
        assert_eq!(message(xml).as_deref(), Some("The server is busy."));
        for other in ["", "<html></html>", "{}", "<Error><Code>x</Code></Error>"] {
            assert_eq!(message(other), None, "{other}");
        }
    }

    #[test]
    fn the_other_clock_is_read_from_the_answer() {
        let now: jiff::Timestamp = "2026-11-22T06:01:19Z".parse().unwrap();
        for (date, expected) in [
            ("Sun, 22 Nov 2026 06:01:19 GMT", 0),
            ("Sun, 22 Nov 2026 07:01:19 GMT", 3600),
            ("Sun, 22 Nov 2026 05:01:19 GMT", -3600),
            ("", 0),
            ("yesterday", 0),
        ] {
            assert_eq!(skew_s(date, now), expected, "{date}");
        }
    }
}
