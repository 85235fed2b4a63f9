//! Sends requests with a token. A request that is refused for its token alone has done nothing and is sent
//! again with a new token.

use super::address::is_plain;
use super::exchange::Exchange;
use super::source::{Source, source};
use super::token::Tokens;
use crate::store::failure::Failure;
use crate::store::http::{self, Transport, TransportError};
use crate::store::{StoreClock, StoreErrorKind, StoreSettings};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use std::sync::Arc;

pub(in crate::store) struct Client {
    /// As errors call it.
    service: String,
    http: Transport,
    tokens: Tokens,
    clock: Arc<StoreClock>,
}

impl Client {
    /// The error is a text for the user.
    pub(super) async fn build(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Client, String> {
        let source = source(settings, |file| file.exists());
        // The token service of a credentials file is asked by https.
        let plain = settings.endpoint.as_deref().is_some_and(is_plain) && !matches!(source, Source::File(_));
        let http = Transport::new(settings.ca_file.as_deref(), plain).await?;
        let service = settings.endpoint.clone().unwrap_or_else(|| "Google Cloud Storage".to_owned());
        let tokens = Tokens::new(Exchange::new(source, &http.client())?);
        Ok(Client { service, tokens, http, clock: Arc::clone(clock) })
    }

    /// `request` is asked for each time: a body is used up by sending it.
    pub(super) async fn send(
        &self,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let http = self.http.client();
        let Some(bearer) = self.tokens.bearer().await? else { return self.send_once(request(&http)).await };
        let reply = self.send_once(request(&http).bearer_auth(bearer.reveal())).await?;
        if reply.status() != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        self.tokens.refused(&bearer);
        match self.tokens.bearer().await {
            Ok(Some(other)) if other != bearer => {
                self.send_once(request(&http).bearer_auth(other.reveal())).await
            }
            Err(failure) if failure.kind == StoreErrorKind::Denied => Err(failure),
            _ => Ok(reply),
        }
    }

    /// A connection that was kept may be closed by the other side just when it is used again. What only asks,
    /// or removes, is then sent once more, on another one.
    async fn send_once(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.build().map_err(|error| self.failed(&error.into()))?;
        let again =
            matches!(*request.method(), Method::GET | Method::DELETE).then(|| request.try_clone()).flatten();
        match (self.http.execute(request).await, again) {
            (Err(TransportError::Request(error)), Some(again))
                if error.is_request() && !error.is_connect() && !error.is_timeout() =>
            {
                self.http.execute(again).await
            }
            (reply, _) => reply,
        }
        .inspect(|reply| self.clock.record(http::date(reply)))
        .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &TransportError) -> Failure {
        error.explain().context(&self.service)
    }
}
