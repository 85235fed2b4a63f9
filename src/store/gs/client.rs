//! Sends requests with a token. In: a request. Out: the answer, whatever its status. One that is refused for its token alone
//! is sent again with a new one; it has done nothing. Never: retries anything else that was answered.

use super::address::is_plain;
use super::exchange::Exchange;
use super::source::{Source, source};
use super::token::{Failure, Tokens};
use crate::store::http::{self, failed};
use crate::store::{StoreErrorKind, StoreSettings};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

pub(in crate::store) struct Client {
    /// As errors call it.
    service: String,
    http: reqwest::Client,
    tokens: Tokens,
}

impl Client {
    /// The error is a text for the user.
    pub(super) async fn build(settings: &StoreSettings) -> Result<Client, String> {
        let source = source(settings, |file| file.exists());
        // Those who give tokens for a file's account are asked by https.
        let plain = settings.endpoint.as_deref().is_some_and(is_plain) && !matches!(source, Source::File(_));
        let http = http::client(settings.ca_file.as_deref(), plain).await?;
        let service = settings.endpoint.clone().unwrap_or_else(|| "Google Cloud Storage".to_owned());
        Ok(Client { service, tokens: Tokens::new(Exchange::new(source, &http)?), http })
    }

    /// `request` is asked for each time: a body is used up by sending it.
    pub(super) async fn send(&self, request: impl Fn(&reqwest::Client) -> RequestBuilder) -> Result<Response, Failure> {
        let Some(bearer) = self.tokens.bearer().await? else { return self.answer(request(&self.http)).await };
        let reply = self.answer(request(&self.http).bearer_auth(bearer.reveal())).await?;
        if reply.status() != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        self.tokens.refused(&bearer);
        match self.tokens.bearer().await {
            Ok(Some(other)) if other != bearer => self.answer(request(&self.http).bearer_auth(other.reveal())).await,
            Err((StoreErrorKind::Denied, detail)) => Err((StoreErrorKind::Denied, detail)),
            _ => Ok(reply),
        }
    }

    /// A connection that was kept may be closed by the other side just when it is used again. What only asks, or removes,
    /// is then sent once more, on another one.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.build().map_err(|error| self.failed(&error))?;
        let again = matches!(*request.method(), Method::GET | Method::DELETE).then(|| request.try_clone()).flatten();
        match (self.http.execute(request).await, again) {
            (Err(error), Some(again)) if error.is_request() && !error.is_connect() && !error.is_timeout() => {
                self.http.execute(again).await
            }
            (reply, _) => reply,
        }
        .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &reqwest::Error) -> Failure {
        let (kind, detail) = failed(error);
        (kind, format!("{}: {detail}", self.service))
    }
}
