//! A directory of an SFTP server. Files appear whole or not at all.

mod cause;
mod connect;
mod connection;
mod identity;
mod session;
mod temp;
mod transfer;
mod trust;
mod walk;
mod wire;

use super::bucket::{Dialect, NewObject};
use super::download::{Download, Got};
use super::failure::Failure;
use super::layout::Layout;
use super::paging::{Listing, PageRequest};
use super::{Put, StoreClock, StoreSettings};
use crate::model::Deadline;
use bytes::Bytes;
use cause::Fault;
pub(super) use connection::Connection;
use session::Session;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use temp::Temp;
use wire::Request;

/// Removals that are sent before the first is answered.
const REMOVALS: usize = 64;
/// What is written at once.
const PART: usize = 256 << 10;

pub(super) struct Sftp {
    root: String,
    /// Paths of temporary files that killed runs left behind: found by a listing, removed by the next create.
    stale: Mutex<Vec<String>>,
}

impl Sftp {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root.trim_end_matches('/'))
    }

    async fn create_new(&self, session: &Arc<Session>, mut object: NewObject) -> Result<Put, Fault> {
        let mut temp = Temp::create(session, &self.path(&object.name)).await?;
        temp.write(&object.first).await?;
        while let Some(part) = object.rest.next().await.map_err(Fault::Invalid)? {
            temp.write(&part).await?;
        }
        let put = temp.publish_new(unix_seconds(object.timestamp_ms)).await?;
        for path in self.stale.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // No caller waits for the answer: the next listing finds what is left.
            drop(session.request(&Request::Remove(&path)));
        }
        Ok(put)
    }

    async fn replace(&self, session: &Arc<Session>, name: &str, content: &[u8]) -> Result<(), Fault> {
        let mut temp = Temp::create(session, &self.path(name)).await?;
        temp.write(content).await?;
        temp.publish_over().await
    }

    async fn walk(&self, session: &Arc<Session>, page: PageRequest<'_>) -> Result<Listing, Fault> {
        if page.by_directory {
            return Ok(Listing::complete(Vec::new(), walk::directories(session, &self.root).await?));
        }
        let tree = walk::walk(session, &self.root, page.prefix).await?;
        if !tree.stale.is_empty() {
            *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = tree.stale;
        }
        Ok(Listing::complete(tree.entries, Vec::new()))
    }
}

/// As SFTP has it: whole seconds, from 1970 to 2106.
fn unix_seconds(timestamp_ms: i64) -> u32 {
    let seconds = timestamp_ms.div_euclid(1000);
    u32::try_from(seconds).unwrap_or(if seconds < 0 { 0 } else { u32::MAX })
}

impl Dialect for Sftp {
    type Client = Connection;
    const LAYOUT: Layout = Layout::Directory;
    const LISTS_FROM: bool = false;
    const DELETES: (usize, usize) = (usize::MAX, 1);

    fn new(settings: &StoreSettings) -> Result<Sftp, String> {
        let sftp = &settings.sftp;
        if sftp.user.is_empty() {
            return Err("the user is missing: write sftp://USER@HOST/PATH".to_owned());
        }
        if settings.path.is_empty() {
            return Err("the path is missing: write sftp://USER@HOST/PATH".to_owned());
        }
        sftp.host_key.as_deref().map(trust::Expected::parse).transpose()?;
        Ok(Sftp { root: settings.path.clone(), stale: Mutex::default() })
    }

    fn root(_: &str) -> String {
        String::new()
    }

    async fn connect(settings: &StoreSettings, _: &Arc<StoreClock>) -> Result<Connection, String> {
        Ok(Connection::new(settings.sftp.clone()))
    }

    /// A connection that has fallen silent is not kept for the next call.
    fn timed_out(connection: &Connection) {
        connection.end_if_silent();
    }

    fn part_size(&self) -> usize {
        PART
    }

    async fn list(&self, connection: &Arc<Connection>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        Ok(self.walk(&connection.session().await?, page).await?)
    }

    async fn get(
        &self,
        connection: &Arc<Connection>,
        name: &str,
        download: Download<'_>,
    ) -> Result<Got, Failure> {
        transfer::read(&connection.session().await?, &self.path(name), download).await?;
        Ok(Got::Content)
    }

    async fn create(
        &self,
        connection: &Arc<Connection>,
        object: NewObject,
        _: Deadline,
    ) -> Result<Put, Failure> {
        Ok(self.create_new(&connection.session().await?, object).await?)
    }

    /// A server without hard links may replace a file by a rename.
    async fn creates_exclusively(&self, connection: &Arc<Connection>) -> Result<bool, Failure> {
        Ok(connection.session().await?.extensions.link)
    }

    async fn put(&self, connection: &Arc<Connection>, name: &str, content: Bytes) -> Result<(), Failure> {
        Ok(self.replace(&connection.session().await?, name, &content).await?)
    }

    async fn delete(&self, connection: &Arc<Connection>, names: &[String]) -> Result<(), Failure> {
        let session = connection.session().await?;
        let mut names = names.iter();
        let mut sent = VecDeque::new();
        loop {
            while sent.len() < REMOVALS
                && let Some(name) = names.next()
            {
                sent.push_back((name, session.request(&Request::Remove(&self.path(name)))));
            }
            let Some((name, answer)) = sent.pop_front() else { return Ok(()) };
            match answer.done().await {
                Err(fault) if !fault.is(wire::ABSENT) => return Err(Failure::from(fault).deleting(name)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_seconds_within_bounds() {
        for (ms, seconds) in
            [(1_795_327_279_453, 1_795_327_279), (0, 0), (-1, 0), (i64::MAX, u32::MAX), (999, 0)]
        {
            assert_eq!(unix_seconds(ms), seconds);
        }
    }
}
