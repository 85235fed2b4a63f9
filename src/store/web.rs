//! Short requests to URLs that the user names, which are no store's: webhooks, and services that wait for a
//! sign of life.

#[cfg(feature = "http")]
use super::http::{reason, web_client};
use crate::model::{Deadline, Secret};
#[cfg(feature = "http")]
use reqwest::{Method, StatusCode, Url};
#[cfg(feature = "http")]
use tokio::time::timeout_at;

/// Why a request was not taken. The text does not show the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct WebError {
    pub text: String,
    /// The same request may be taken later.
    pub may_heal: bool,
}

/// One connection pool. To be used on one runtime.
pub struct WebClient {
    #[cfg(feature = "http")]
    client: reqwest::Client,
}

#[cfg(not(feature = "http"))]
impl WebClient {
    pub async fn new() -> Result<WebClient, String> {
        Err("this litevisor was built without HTTP (cargo feature `http`); use a full build".into())
    }

    pub async fn send(&self, _: &Secret, _: Option<String>, _: Deadline) -> Result<(), WebError> {
        Err(WebError { text: "there is no HTTP".into(), may_heal: false })
    }
}

#[cfg(feature = "http")]
impl WebClient {
    /// Reads the certificates of the system. The error is a text for the user.
    pub async fn new() -> Result<WebClient, String> {
        Ok(WebClient { client: web_client().await? })
    }

    /// POST of a JSON text; without one: GET. `Ok`: the answer was a status from 200 to 299.
    pub async fn send(&self, url: &Secret, json: Option<String>, by: Deadline) -> Result<(), WebError> {
        let url =
            Url::parse(url.reveal()).map_err(|error| fatal(format!("the URL cannot be used: {error}")))?;
        let method = if json.is_some() { Method::POST } else { Method::GET };
        let mut request = self.client.request(method, url);
        if let Some(json) = json {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(json);
        }
        match timeout_at(by.instant().into(), request.send()).await {
            Err(_) => Err(healing("no answer in time")),
            Ok(Err(error)) => Err(healing(reason(&error))),
            Ok(Ok(reply)) => judge(reply.status()),
        }
    }
}

#[cfg(feature = "http")]
fn judge(status: StatusCode) -> Result<(), WebError> {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    match status {
        _ if status.is_success() => Ok(()),
        _ if status.is_redirection() => {
            Err(fatal(format!("status {}: give the URL that it leads to", status.as_u16())))
        }
        _ => Err(WebError {
            text: format!("status {}", status.as_u16()),
            may_heal: later || status.is_server_error(),
        }),
    }
}

#[cfg(feature = "http")]
fn healing(text: impl Into<String>) -> WebError {
    WebError { text: text.into(), may_heal: true }
}

#[cfg(feature = "http")]
fn fatal(text: String) -> WebError {
    WebError { text, may_heal: false }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again() {
        for (status, taken, may_heal) in [
            (200, true, false),
            (204, true, false),
            (301, false, false),
            (400, false, false),
            (404, false, false),
            (408, false, true),
            (429, false, true),
            (500, false, true),
            (503, false, true),
        ] {
            let judged = judge(StatusCode::from_u16(status).unwrap());
            assert_eq!(
                (judged.is_ok(), judged.is_err_and(|error| error.may_heal)),
                (taken, may_heal),
                "{status}"
            );
        }
    }
}
