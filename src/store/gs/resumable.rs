//! One resumable upload: a session, pieces in order, a conditional end. After a broken connection a piece is
//! sent again from the byte up to which the service has it. The session's state is never queried: some
//! emulators take that for the end of the upload. A session that is not finished is cancelled, whatever ends
//! it.

use super::cause::{explain, explain_piece};
use super::progress::{Stored, Sum, content_range, kept, taken};
use super::related::description;
use super::{ANSWER, CREATE, Client, Gs};
use crate::model::Deadline;
use crate::store::Put;
use crate::store::failure::Failure;
use crate::store::http::body;
use crate::store::limit::{SHORT_TRY, part_try, repeat};
use crate::store::parts::Parts;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use std::sync::Arc;
use std::time::Duration;

const CANCEL: Duration = Duration::from_secs(10);

pub(super) struct Target<'a> {
    pub(super) dialect: &'a Gs,
    pub(super) client: &'a Arc<Client>,
    pub(super) name: String,
}

/// What came of one try.
enum Sent {
    /// The service has so many bytes of the whole.
    Kept(u64),
    Done(Stored),
    Exists,
    /// The session is gone: only a new upload shows whether this one was completed.
    Gone(Failure),
}

impl Target<'_> {
    pub(super) async fn upload(
        &self,
        first: Bytes,
        mut source: Parts,
        timestamp: &str,
        by: Deadline,
    ) -> Result<Put, Failure> {
        if self.exists(by).await? {
            return Ok(Put::Exists);
        }
        let Some(url) = repeat(by, SHORT_TRY, || self.start(timestamp)).await? else {
            return Ok(Put::Exists);
        };
        let mut session = Session { client: Arc::clone(self.client), url: Some(url.clone()) };
        let mut sum = Sum::new();
        let mut part = first;
        loop {
            let is_last = source.is_done();
            // If the service ignores the condition of such an upload, this is the last moment to find another
            // object.
            if is_last && self.exists(by).await? {
                return Ok(Put::Exists);
            }
            let from = sum.bytes();
            sum.add(&part);
            let next = async { source.next().await.map_err(Failure::invalid) };
            let (sent, next) = tokio::try_join!(self.send(&url, from, part, is_last, by), next)?;
            match (sent, next) {
                (None, Some(next)) => part = next,
                (None, None) => {
                    return Err(Failure::unreachable("the service did not take the last piece for the last"));
                }
                // Finished: there is nothing left to give up.
                (Some(Sent::Done(stored)), None) => {
                    session.url = None;
                    return self.checked(&sum, stored, by).await;
                }
                (Some(Sent::Exists), _) => return Ok(Put::Exists),
                (Some(Sent::Gone(failure)), _) => return Err(failure),
                (Some(_), _) => return Err(Failure::unreachable("the service ended the upload early")),
            }
        }
    }

    async fn exists(&self, by: Deadline) -> Result<bool, Failure> {
        let once = || async {
            let reply = self.client.send(|http| http.get(self.dialect.address.presence(&self.name))).await?;
            match reply.status().as_u16() {
                404 => Ok(false),
                200..=299 => match named(&body(reply, ANSWER).await?) {
                    true => Ok(true),
                    false => Err(Failure::suspicious("the answer names no object")),
                },
                status => Err(explain(CREATE, status, &body(reply, ANSWER).await?)),
            }
        };
        repeat(by, SHORT_TRY, once).await
    }

    /// The session's URL; None when the object is there already.
    async fn start(&self, timestamp: &str) -> Result<Option<String>, Failure> {
        let url = self.dialect.address.upload("resumable", true);
        let request = |http: &reqwest::Client| {
            let described = http.post(url.as_str()).header(CONTENT_TYPE, "application/json; charset=UTF-8");
            described.body(description(&self.name, Some(timestamp)))
        };
        let reply = self.client.send(request).await?;
        match reply.status().as_u16() {
            412 => Ok(None),
            200..=299 => {
                let location = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let session = location.and_then(|location| self.dialect.address.session(location));
                session.map(Some).ok_or_else(|| Failure::suspicious("the reply names no session"))
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
    ) -> Result<Option<Sent>, Failure> {
        let per_try = part_try(part.len());
        while !part.is_empty() {
            let sent = repeat(by, per_try, || self.send_once(url, from, part.clone(), is_last)).await?;
            let Sent::Kept(kept) = sent else { return Ok(Some(sent)) };
            let lost = || Failure::unreachable("the service has lost pieces of the upload; it starts again");
            let taken = taken(from, part.len() as u64, kept).ok_or_else(lost)?;
            (from, part) = (kept, part.slice(usize::try_from(taken).unwrap_or(usize::MAX).min(part.len())..));
        }
        Ok(None)
    }

    async fn send_once(&self, url: &str, from: u64, part: Bytes, is_last: bool) -> Result<Sent, Failure> {
        let range = content_range(from, part.len() as u64, is_last)
            .ok_or_else(|| Failure::invalid("an empty piece"))?;
        let request = |http: &reqwest::Client| http.put(url).header(CONTENT_RANGE, &range).body(part.clone());
        let reply = self.client.send(request).await?;
        match reply.status().as_u16() {
            308 => {
                let range = reply.headers().get(RANGE).map(|value| value.to_str().unwrap_or_default());
                let kept = kept(range).ok_or_else(|| Failure::invalid("the reply's range makes no sense"))?;
                // Read to its end, so that the connection can be used again.
                let _ = body(reply, ANSWER).await;
                let nothing = || Failure::unreachable("the service took nothing of a piece");
                if kept == from { Err(nothing()) } else { Ok(Sent::Kept(kept)) }
            }
            412 => Ok(Sent::Exists),
            200..=299 => {
                Ok(Sent::Done(serde_json::from_slice(&body(reply, ANSWER).await?).unwrap_or_default()))
            }
            status @ (404 | 410) => Ok(Sent::Gone(explain_piece(status, &body(reply, ANSWER).await?))),
            status => Err(explain(CREATE, status, &body(reply, ANSWER).await?)),
        }
    }

    /// A service that took a piece twice has stored something else: that is removed, and only that.
    async fn checked(&self, sum: &Sum, stored: Stored, by: Deadline) -> Result<Put, Failure> {
        if !stored.describes_object() {
            return Err(Failure::suspicious("the answer does not describe what was stored"));
        }
        if sum.agrees(&stored) {
            return Ok(Put::Created);
        }
        if let Some(generation) = stored.generation {
            let url = self.dialect.address.generation(&self.name, &generation);
            let remove = || async { self.client.send(|http| http.delete(url.as_str())).await.map(drop) };
            repeat(by, SHORT_TRY, remove).await?;
        }
        Err(Failure::unreachable(
            "the service stored something else than what was sent; it was removed again",
        ))
    }
}

/// The answer to the question whether an object is there.
fn named(answer: &[u8]) -> bool {
    let object: Option<serde_json::Value> = serde_json::from_slice(answer).ok();
    object.is_some_and(|object| object.get("name").is_some_and(serde_json::Value::is_string))
}

/// An upload that is not finished.
struct Session {
    client: Arc<Client>,
    url: Option<String>,
}

impl Drop for Session {
    /// Cancels the session, so that the service drops the pieces; otherwise it keeps them for a week.
    fn drop(&mut self) {
        let (Some(url), Ok(runtime)) = (self.url.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let client = Arc::clone(&self.client);
        runtime.spawn(tokio::time::timeout(CANCEL, async move {
            let _ = client.send(|http| http.delete(url.as_str()).header(CONTENT_LENGTH, 0)).await;
        }));
    }
}
