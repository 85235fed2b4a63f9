//! One upload in pieces: a session, pieces in order, a conditional end. In: parts. Out: the object, or nothing at all. A
//! piece that was broken off is sent again from where the service has it (it forgives what it has already). Its state is
//! never asked for: some emulators take the question for the end. Never: leaves the session open, whatever ends the work.

use super::cause::{explain, explain_piece};
use super::progress::{Stored, Sum, content_range, kept, taken};
use super::related::description;
use super::token::Failure;
use super::{ANSWER, CREATE, Client, GsStore};
use crate::model::Deadline;
use crate::store::http::body;
use crate::store::link::Link;
use crate::store::parts::Parts;
use crate::store::{Put, StoreError, StoreErrorKind, limit::within, retry};
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use std::sync::Arc;
use std::time::Duration;

/// A piece that moves slower than this is tried again on a new connection.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
const SHORT_TRY: Duration = Duration::from_secs(30);
const CANCEL: Duration = Duration::from_secs(10);

pub(super) struct Target<'a> {
    pub(super) store: &'a GsStore,
    pub(super) client: &'a Client,
    pub(super) name: String,
    pub(super) subject: String,
}

/// What came of one try.
enum Sent {
    /// The service has so many bytes of the whole.
    Kept(u64),
    Done(Stored),
    Exists,
    /// The session is no more: only a whole new upload can tell what became of this one.
    Gone(Failure),
}

impl Target<'_> {
    pub(super) async fn upload(
        &self,
        first: Bytes,
        mut source: Parts,
        stamp: &str,
        by: Deadline,
    ) -> Result<Put, StoreError> {
        if self.exists(by).await? {
            return Ok(Put::Exists);
        }
        let Some(url) = self.tried(by, SHORT_TRY, || self.start(stamp)).await? else { return Ok(Put::Exists) };
        let mut session = Session { link: Arc::clone(&self.store.link), url: Some(url.clone()) };
        let (mut sum, mut part) = (Sum::new(), first);
        loop {
            let is_last = source.is_done();
            // Where the service does not mind the condition of such an upload, this is the last moment to look.
            if is_last && self.exists(by).await? {
                return Ok(Put::Exists);
            }
            let from = sum.bytes();
            sum.add(&part);
            let next = async { source.next().await.map_err(|detail| self.invalid(detail)) };
            let (sent, next) = tokio::try_join!(self.send(&url, from, part, is_last, by), next)?;
            match (sent, next) {
                (None, Some(next)) => part = next,
                (None, None) => return Err(self.unreachable("the service did not take the last piece for the last")),
                // Finished: there is nothing left to give up.
                (Some(Sent::Done(stored)), None) => {
                    session.url = None;
                    return self.checked(&sum, stored, by).await;
                }
                (Some(Sent::Exists), _) => return Ok(Put::Exists),
                (Some(Sent::Gone(failure)), _) => return Err(self.failed(failure)),
                (Some(_), _) => return Err(self.unreachable("the service ended the upload early")),
            }
        }
    }

    async fn exists(&self, by: Deadline) -> Result<bool, StoreError> {
        let look = || async {
            let reply = self.client.send(|http| http.get(self.store.address.presence(&self.name))).await?;
            match reply.status().as_u16() {
                404 => Ok(false),
                200..=299 => Ok(true),
                status => Err(explain(CREATE, status, &body(reply, ANSWER).await?)),
            }
        };
        self.tried(by, SHORT_TRY, look).await
    }

    /// The session's URL; None when the object is there already.
    async fn start(&self, stamp: &str) -> Result<Option<String>, Failure> {
        let url = self.store.address.upload("resumable", true);
        let request = |http: &reqwest::Client| {
            let described = http.post(url.as_str()).header(CONTENT_TYPE, "application/json; charset=UTF-8");
            described.body(description(&self.name, Some(stamp)))
        };
        let reply = self.client.send(request).await?;
        match reply.status().as_u16() {
            412 => Ok(None),
            200..=299 => {
                let location = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let session = location.and_then(|location| self.store.address.session(location));
                session.map(Some).ok_or((StoreErrorKind::Invalid, "the reply names no session".to_owned()))
            }
            status => Err(explain(CREATE, status, &body(reply, ANSWER).await?)),
        }
    }

    /// One part. None: it is kept, and there is more to send.
    async fn send(
        &self,
        url: &str,
        mut from: u64,
        mut part: Bytes,
        is_last: bool,
        by: Deadline,
    ) -> Result<Option<Sent>, StoreError> {
        let slowest = Duration::from_secs(part.len() as u64 / SLOWEST_BYTES_PER_SECOND).max(SHORT_TRY);
        while !part.is_empty() {
            let sent = self.tried(by, slowest, || self.send_once(url, from, part.clone(), is_last)).await?;
            let Sent::Kept(kept) = sent else { return Ok(Some(sent)) };
            let lost = || self.unreachable("the service has lost pieces of the upload; it starts again");
            let taken = taken(from, part.len() as u64, kept).ok_or_else(lost)?;
            (from, part) = (kept, part.slice(usize::try_from(taken).unwrap_or(usize::MAX).min(part.len())..));
        }
        Ok(None)
    }

    async fn send_once(&self, url: &str, from: u64, part: Bytes, is_last: bool) -> Result<Sent, Failure> {
        let range = content_range(from, part.len() as u64, is_last)
            .ok_or_else(|| (StoreErrorKind::Invalid, "an empty piece".to_owned()))?;
        let request = |http: &reqwest::Client| http.put(url).header(CONTENT_RANGE, &range).body(part.clone());
        let reply = self.client.send(request).await?;
        match reply.status().as_u16() {
            308 => {
                let range = reply.headers().get(RANGE).map(|value| value.to_str().unwrap_or_default());
                let kept =
                    kept(range).ok_or((StoreErrorKind::Invalid, "the reply's range makes no sense".to_owned()))?;
                // Read to its end, so that the connection can be used again.
                let _ = body(reply, ANSWER).await;
                let nothing = || (StoreErrorKind::Unreachable, "the service took nothing of a piece".to_owned());
                if kept == from { Err(nothing()) } else { Ok(Sent::Kept(kept)) }
            }
            412 => Ok(Sent::Exists),
            200..=299 => Ok(Sent::Done(serde_json::from_slice(&body(reply, ANSWER).await?).unwrap_or_default())),
            status @ (404 | 410) => Ok(Sent::Gone(explain_piece(status, &body(reply, ANSWER).await?))),
            status => Err(explain(CREATE, status, &body(reply, ANSWER).await?)),
        }
    }

    /// A service that took a piece twice has stored something else: that is removed, and only that.
    async fn checked(&self, sum: &Sum, stored: Stored, by: Deadline) -> Result<Put, StoreError> {
        if sum.agrees(&stored) {
            return Ok(Put::Created);
        }
        if let Some(generation) = stored.generation {
            let url = self.store.address.generation(&self.name, &generation);
            let remove = || async { self.client.send(|http| http.delete(url.as_str())).await.map(drop) };
            self.tried(by, SHORT_TRY, remove).await?;
        }
        Err(self.unreachable("the service stored something else than what was sent; it was removed again"))
    }

    /// A stream cannot be replayed, so its requests are repeated for as long as the deadline allows.
    async fn tried<T, Work>(&self, by: Deadline, span: Duration, work: impl Fn() -> Work) -> Result<T, StoreError>
    where
        Work: Future<Output = Result<T, Failure>>,
    {
        let once = |by| {
            let work = work();
            within(by, CREATE, &self.subject, async { work.await.map_err(|failure| self.failed(failure)) })
        };
        retry::run(by, span, |_, _| {}, once).await
    }

    fn failed(&self, (kind, detail): Failure) -> StoreError {
        StoreError::new(kind, CREATE, &self.subject, detail)
    }

    fn invalid(&self, detail: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Invalid, CREATE, &self.subject, detail)
    }

    fn unreachable(&self, detail: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Unreachable, CREATE, &self.subject, detail)
    }
}

/// An upload that is not finished.
struct Session {
    link: Arc<Link<Client>>,
    url: Option<String>,
}

impl Drop for Session {
    /// Whatever ended the work, also a caller that stops waiting: the service may forget the pieces. By itself it does so
    /// after a week.
    fn drop(&mut self) {
        let (Some(url), Ok(runtime)) = (self.url.take(), tokio::runtime::Handle::try_current()) else { return };
        let link = Arc::clone(&self.link);
        runtime.spawn(tokio::time::timeout(CANCEL, async move {
            if let Some(client) = link.client.get() {
                let _ = client.send(|http| http.delete(url.as_str()).header(CONTENT_LENGTH, 0)).await;
            }
        }));
    }
}
