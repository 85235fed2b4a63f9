//! The SDK's HTTP client: sends its requests over the transport that all services share. Replies that are not
//! downloads are limited in length and checked for their end.

use super::key_source_reply::{LastReply, Outcome};
use crate::store::failure;
use crate::store::http::{Transport, TransportError, timed_out};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;
use std::time::Duration;

/// A page of a listing has up to 1000 names of up to 1 KiB, and what XML makes of them.
const ANSWER: usize = 8 << 20;
/// Of an answer that is no success.
const ERROR: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(super) struct SdkHttpClient {
    transport: Arc<Transport>,
    /// For services of the machine itself, which are plain http: through no proxy.
    local: Option<reqwest::Client>,
    last_reply: Option<Arc<LastReply>>,
    limit: Option<Duration>,
}

/// For programs that look at a bucket beside the store: plain http, over the same transport.
pub async fn plain_http_client() -> Result<SharedHttpClient, String> {
    Ok(SdkHttpClient::to_store(Arc::new(Transport::new(None, true).await?)))
}

impl SdkHttpClient {
    pub(super) fn to_store(transport: Arc<Transport>) -> SharedHttpClient {
        SharedHttpClient::new(SdkHttpClient { transport, local: None, last_reply: None, limit: None })
    }

    /// For the services that give out keys; their last reply is kept in `last_reply`.
    pub(super) fn to_credentials(
        transport: Arc<Transport>,
        local: reqwest::Client,
        last_reply: Arc<LastReply>,
    ) -> SharedHttpClient {
        SharedHttpClient::new(SdkHttpClient {
            transport,
            local: Some(local),
            last_reply: Some(last_reply),
            limit: None,
        })
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let is_download = request.method() == "GET" && request.uri().contains("x-id=GetObject");
        let address = request.uri().split('?').next().unwrap_or_default().to_owned();
        let sent = self.send(request);
        let sent = match self.limit {
            None => sent.await,
            Some(limit) => match tokio::time::timeout(limit, sent).await {
                Ok(sent) => sent,
                Err(_) => Err(ConnectorError::timeout(format!("no answer within {limit:?}").into())),
            },
        };
        let reply = match sent {
            Ok(reply) => reply,
            Err(error) => {
                self.note(&address, || Outcome::Nothing(crate::store::chain::chain(&error)));
                return Err(error);
            }
        };
        let success = reply.status().is_success();
        let (parts, body) = http::Response::from(reply).into_parts();
        let body = body.map_err(|error| std::io::Error::other(crate::store::http::failed(&error).detail));
        let body = match (success, is_download) {
            (true, true) => SdkBody::from_body_1_x(body),
            (true, false) => SdkBody::from(whole(body).await?),
            (false, _) => SdkBody::from(collected(Limited::new(body, ERROR)).await),
        };
        self.note(&address, || {
            Outcome::Answered(parts.status.as_u16(), super::key_source_reply::code(body.bytes()))
        });
        HttpResponse::try_from(http::Response::from_parts(parts, body))
            .map_err(|error| ConnectorError::user(error.into()))
    }

    async fn send(&self, request: HttpRequest) -> Result<reqwest::Response, ConnectorError> {
        let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
        let request = request.try_into_http1x().map_err(|error| user(error.into()))?;
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect().await.map_err(user)?.to_bytes();
        let is_local = parts.uri.scheme_str() == Some("http");
        let request = reqwest::Request::try_from(http::Request::from_parts(parts, body));
        let request = request.map_err(|error| user(error.into()))?;
        // What was signed is what is sent.
        if request.url().path() != path {
            return Err(user("the name of the object cannot be part of an address".into()));
        }
        match &self.local {
            Some(local) if is_local => local.execute(request).await.map_err(TransportError::from),
            _ => self.transport.execute(request).await,
        }
        .map_err(|error| match error {
            error if timed_out(&error) => ConnectorError::timeout(error.into()),
            error => ConnectorError::io(error.into()),
        })
    }

    fn note(&self, address: &str, outcome: impl FnOnce() -> Outcome) {
        if let Some(last_reply) = &self.last_reply {
            last_reply.note(address, outcome());
        }
    }
}

impl HttpConnector for SdkHttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().exchange(request))
    }
}

impl HttpClient for SdkHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let connect = settings.connect_timeout().unwrap_or_default();
        let limit = settings.read_timeout().map(|read| read + connect);
        SharedHttpConnector::new(SdkHttpClient { limit, ..self.clone() })
    }
}

/// Reads an answer to its end: the SDK takes XML that was cut off for XML that says less.
async fn whole(
    body: impl hyper::body::Body<Data = Bytes, Error = std::io::Error>,
) -> Result<Bytes, ConnectorError> {
    let text = Limited::new(body, ANSWER).collect().await.map_err(ConnectorError::io)?.to_bytes();
    if is_complete(&text) {
        return Ok(text);
    }
    let error = TransportError::Suspicious(failure::not_the_stores_own("the answer was cut off"));
    Err(ConnectorError::io(error.into()))
}

/// XML ends with the tag that it began with. Other texts have no end that could be seen.
fn is_complete(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let text = text.trim().trim_start_matches('\u{feff}');
    let root = match text.strip_prefix("<?xml") {
        Some(rest) => match rest.split_once("?>") {
            Some((_, root)) => root.trim_start(),
            None => return false,
        },
        None => text,
    };
    let Some(root) = root.strip_prefix('<') else { return root.is_empty() == text.is_empty() };
    let name = root.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next().unwrap_or_default();
    root.ends_with(&format!("</{name}>")) || root.ends_with("/>") && !root.contains('<')
}

/// What came of an error's text before it broke off or became too long.
async fn collected(mut body: impl hyper::body::Body<Data = Bytes> + Unpin) -> Bytes {
    let mut text = bytes::BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
    }
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_that_was_cut_off_is_noticed() {
        const WHOLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
            xmlns=\"x\"><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>";
        assert!(is_complete(WHOLE.as_bytes()) && is_complete(format!("  {WHOLE}\n").as_bytes()));
        for end in 1..WHOLE.len() {
            assert!(!is_complete(&WHOLE.as_bytes()[..end]), "{}", &WHOLE[..end]);
        }
        for (text, expected) in [
            ("", true),
            ("{}", true),
            ("session", true),
            ("<a/>", true),
            ("<a b=\"c\"/>", true),
            ("<a><b/>", false),
        ] {
            assert_eq!(is_complete(text.as_bytes()), expected, "{text}");
        }
    }
}
