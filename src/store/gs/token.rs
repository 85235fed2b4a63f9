//! Holds the current token: renews it before it expires and drops it when the service refuses it. A slow
//! renewal does not stop requests while the old token is valid.

use super::exchange::{Exchange, Token};
use crate::model::Secret;
use crate::store::failure::Failure;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A renewal that is not through by then: the old one is used, and later it is tried again.
const RENEWAL: Duration = Duration::from_secs(5);
const NEXT_TRY: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq)]
enum TokenState {
    Use(Secret),
    /// Good for now.
    Renew(Secret),
    Fetch,
}

fn token_state(token: Option<&Token>, now: Instant) -> TokenState {
    match token {
        Some(token) if now < token.renew_at => TokenState::Use(token.bearer.clone()),
        Some(token) if now < token.expires_at => TokenState::Renew(token.bearer.clone()),
        _ => TokenState::Fetch,
    }
}

pub(super) struct Tokens {
    /// None: nothing is asked for.
    exchange: Option<Exchange>,
    kept: Mutex<Option<Token>>,
    /// One asks, the others wait for the answer.
    turn: tokio::sync::Mutex<()>,
}

impl Tokens {
    pub(super) fn new(exchange: Option<Exchange>) -> Tokens {
        Tokens { exchange, kept: Mutex::default(), turn: tokio::sync::Mutex::const_new(()) }
    }

    /// None when requests need no token.
    pub(super) async fn bearer(&self) -> Result<Option<Secret>, Failure> {
        let Some(exchange) = &self.exchange else { return Ok(None) };
        match self.token_state() {
            TokenState::Use(bearer) => Ok(Some(bearer)),
            TokenState::Renew(old) => Ok(Some(self.renewed(exchange).await.unwrap_or(old))),
            TokenState::Fetch => self.fetched(exchange).await.map(Some),
        }
    }

    /// The service does not take it (any more).
    pub(super) fn refused(&self, bearer: &Secret) {
        let mut kept = self.kept();
        if kept.as_ref().is_some_and(|token| token.bearer == *bearer) {
            *kept = None;
        }
    }

    async fn fetched(&self, exchange: &Exchange) -> Result<Secret, Failure> {
        let _turn = self.turn.lock().await;
        // Another task may have got a token meanwhile.
        if let TokenState::Use(bearer) | TokenState::Renew(bearer) = self.token_state() {
            return Ok(bearer);
        }
        let token = exchange.token().await?;
        Ok(self.keep(token))
    }

    /// None if another task is renewing it, or the renewal failed.
    async fn renewed(&self, exchange: &Exchange) -> Option<Secret> {
        let _turn = self.turn.try_lock().ok()?;
        // Set before the exchange: if this call is dropped, the next try comes later, too.
        if let Some(token) = self.kept().as_mut() {
            token.renew_at = Instant::now().checked_add(NEXT_TRY).unwrap_or(token.renew_at);
        }
        let token = tokio::time::timeout(RENEWAL, exchange.token()).await.ok()?.ok()?;
        Some(self.keep(token))
    }

    fn keep(&self, token: Token) -> Secret {
        let bearer = token.bearer.clone();
        *self.kept() = Some(token);
        bearer
    }

    fn token_state(&self) -> TokenState {
        token_state(self.kept().as_ref(), Instant::now())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_its_end() {
        let now = Instant::now();
        let bearer = || Secret::new("t");
        for (life, used_for) in [(3600, 3375), (500, 275), (300, 150), (2, 1)] {
            let token = Token::new(bearer(), Duration::from_secs(life), now);
            let at = |seconds| token_state(Some(&token), now + Duration::from_secs(seconds));
            assert_eq!(at(0), TokenState::Use(bearer()), "{life}");
            assert_eq!(at(used_for - 1), TokenState::Use(bearer()), "{life}");
            assert_eq!(at(used_for), TokenState::Renew(bearer()), "{life}");
            assert_eq!(at(life - 1), TokenState::Renew(bearer()), "{life}");
            assert_eq!(at(life), TokenState::Fetch, "{life}");
        }
        assert_eq!(token_state(None, now), TokenState::Fetch);
        assert_eq!(token_state(Some(&Token::new(bearer(), Duration::ZERO, now)), now), TokenState::Fetch);
    }

    #[tokio::test]
    async fn an_emulator_needs_none() {
        assert_eq!(Tokens::new(None).bearer().await.unwrap(), None);
    }
}
