//! A directory of an SFTP server as a store. Owns: how keys map to paths, and deadlines. In: keys, bytes. Out: files that
//! appear whole or not at all. Never: connects before the first request, or follows a key out of the root.

mod cause;
mod connect;
mod identity;
mod line;
mod session;
mod temp;
mod transfer;
mod trust;
mod walk;
mod wire;

use super::layout::Layout;
use super::link::{self, Link};
use super::{Body, Chunk, Object, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use super::{key, limit::within};
use crate::model::Deadline;
use bytes::Bytes;
use cause::Fault;
use line::Line;
use session::Session;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use temp::Temp;
use wire::Ask;

pub(super) type Links = link::Links<Line>;

/// Removals under way at once.
const REMOVALS: usize = 64;

pub(super) struct SftpStore {
    url: String,
    root: String,
    link: Arc<Link<Line>>,
    /// Left behind by runs that were killed; seen by a listing, removed by whoever writes.
    stale: Mutex<Vec<String>>,
}

impl SftpStore {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, links: &Links) -> Result<SftpStore, String> {
        let sftp = &settings.sftp;
        if sftp.user.is_empty() {
            return Err("the user is missing: write sftp://USER@HOST/PATH".to_owned());
        }
        if settings.path.is_empty() {
            return Err("the path is missing: write sftp://USER@HOST/PATH".to_owned());
        }
        sftp.host_key.as_deref().map(trust::Expected::parse).transpose()?;
        Ok(SftpStore {
            url: settings.url.trim_end_matches('/').to_owned(),
            root: settings.path.clone(),
            link: links.to(settings),
            stale: Mutex::default(),
        })
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    fn path(&self, key: &str) -> Result<String, Fault> {
        if key::is_object(key) {
            return Ok(format!("{}/{key}", self.root.trim_end_matches('/')));
        }
        Err(Fault::Invalid("not a valid key"))
    }

    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let line = self.link.client.get_or_init(|| async { Line::default() }).await;
        line.session(&self.link.settings.sftp).await
    }

    /// Holds `work` to the deadline. A connection that has fallen silent is not kept for the next call.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        subject: &str,
        work: impl Future<Output = Result<T, Fault>>,
        by: Deadline,
    ) -> Result<T, StoreError> {
        let work = async { work.await.map_err(|fault| fault.explain(operation, subject)) };
        let result = within(by, operation, subject, work).await;
        if let (Err(StoreError { kind: StoreErrorKind::TimedOut, .. }), Some(line)) = (&result, self.link.client.get())
        {
            line.end_if_silent();
        }
        result
    }

    async fn walk(&self, prefix: &str) -> Result<Vec<Object>, Fault> {
        if !key::is_prefix(prefix) {
            return Err(Fault::Invalid("not a valid prefix"));
        }
        let found = walk::walk(&self.session().await?, &self.root, prefix).await?;
        if !found.stale.is_empty() {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = found.stale;
        }
        Ok(found.objects)
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        take: &(dyn Fn(Bytes) + Send + Sync),
    ) -> Result<(), Fault> {
        let path = self.path(key)?;
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(Fault::Invalid("the range asked for is empty"));
        }
        transfer::read(&self.session().await?, &path, range, take).await
    }

    async fn read_whole(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Fault> {
        let pieces = Mutex::new(Vec::new());
        self.read(key, range, &|piece| pieces.lock().unwrap_or_else(PoisonError::into_inner).push(piece)).await?;
        let mut pieces = pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(if pieces.len() == 1 { pieces.pop().unwrap_or_default() } else { pieces.concat().into() })
    }

    async fn write_new(&self, key: &str, body: Body, timestamp_ms: i64) -> Result<Put, Fault> {
        let path = self.path(key)?;
        let session = self.session().await?;
        let mut temp = Temp::create(&session, &path).await?;
        match body {
            Body::Whole(bytes) => temp.write(&bytes).await?,
            Body::Stream(mut chunks) => loop {
                match chunks.recv().await {
                    Some(Chunk::Data(bytes)) => temp.write(&bytes).await?,
                    Some(Chunk::End) => break,
                    None => return Err(Fault::Invalid(super::PRODUCER_GONE)),
                }
            },
        }
        let put = temp.publish_new(unix_seconds(timestamp_ms)).await?;
        self.sweep(&session);
        Ok(put)
    }

    /// Nobody waits for it: what is left is seen again.
    fn sweep(&self, session: &Session) {
        for path in self.stale.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(session.ask(&Ask::Remove(&path)));
        }
    }

    async fn replace(&self, key: &str, body: Bytes) -> Result<(), Fault> {
        let path = self.path(key)?;
        let mut temp = Temp::create(&self.session().await?, &path).await?;
        temp.write(&body).await?;
        temp.publish_over().await
    }

    async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        let failed = |key: &String, fault: Fault| fault.explain("delete", &self.subject(key));
        let paths = keys.iter().map(|key| Ok((key, self.path(key).map_err(|fault| failed(key, fault))?)));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        if paths.is_empty() {
            return Ok(());
        }
        let session = self.session().await.map_err(|fault| fault.explain("delete in", &self.url))?;
        let (mut todo, mut due) = (paths.into_iter(), VecDeque::new());
        loop {
            while due.len() < REMOVALS
                && let Some((key, path)) = todo.next()
            {
                due.push_back((key, session.ask(&Ask::Remove(&path))));
            }
            let Some((key, answer)) = due.pop_front() else { return Ok(()) };
            match answer.done().await {
                Err(fault) if !fault.is(wire::ABSENT) => return Err(failed(key, fault)),
                _ => {}
            }
        }
    }
}

/// As SFTP has it: whole seconds, from 1970 to 2106.
fn unix_seconds(timestamp_ms: i64) -> u32 {
    let seconds = timestamp_ms.div_euclid(1000);
    u32::try_from(seconds).unwrap_or(if seconds < 0 { 0 } else { u32::MAX })
}

impl Store for SftpStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn layout(&self) -> Layout {
        Layout::Directory
    }

    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>> {
        let work = self.link.in_turn(self.walk(prefix));
        Box::pin(async move { self.bounded("list", &self.subject(prefix), work, by).await })
    }

    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        let work = async { walk::directories(&self.session().await?, &self.root).await };
        let work = self.link.in_turn(work);
        Box::pin(async move { self.bounded("list", &self.subject(""), work, by).await })
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes> {
        let work = self.link.in_turn(self.read_whole(key, range));
        Box::pin(async move { self.bounded("get", &self.subject(key), work, by).await })
    }

    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: &'a (dyn Fn(Bytes) + Send + Sync),
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        let work = self.link.in_turn(self.read(key, range, take));
        Box::pin(async move { self.bounded("get", &self.subject(key), work, by).await })
    }

    fn put_new<'a>(&'a self, key: &'a str, body: Body, timestamp_ms: i64, by: Deadline) -> StoreFuture<'a, Put> {
        Box::pin(async move {
            let subject = self.subject(key);
            match body {
                // It waits for its producer: it would keep the turn of many small ones.
                Body::Stream(_) => self.bounded("create", &subject, self.write_new(key, body, timestamp_ms), by).await,
                Body::Whole(_) => {
                    let work = self.link.in_turn(self.write_new(key, body, timestamp_ms));
                    self.bounded("create", &subject, work, by).await
                }
            }
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()> {
        let work = self.link.in_turn(self.replace(key, body));
        Box::pin(async move { self.bounded("put", &self.subject(key), work, by).await })
    }

    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async move { within(by, "delete in", &self.url, self.link.in_turn(self.remove(keys))).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_seconds_within_bounds() {
        for (ms, seconds) in [(1_795_327_279_453, 1_795_327_279), (0, 0), (-1, 0), (i64::MAX, u32::MAX), (999, 0)] {
            assert_eq!(unix_seconds(ms), seconds);
        }
    }
}
