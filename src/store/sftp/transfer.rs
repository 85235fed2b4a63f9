//! Reads and writes a file in blocks. Many blocks are requested at once: one at a time would wait for the
//! network after each.

use super::cause::Fault;
use super::session::{PendingReply, Session};
use super::wire::{self, Request};
use crate::store::download::Download;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// What every server takes in one request.
const BLOCK: u32 = 32 << 10;
/// Blocks of one transfer under way.
const AHEAD: usize = 64;

/// An open file of the server, closed when dropped.
pub(super) struct Open {
    session: Arc<Session>,
    handle: Option<Bytes>,
}

impl Open {
    pub(super) fn new(session: &Arc<Session>, handle: Bytes) -> Open {
        Open { session: Arc::clone(session), handle: Some(handle) }
    }

    pub(super) fn handle(&self) -> &[u8] {
        self.handle.as_deref().unwrap_or_default()
    }

    /// Closes the file. The reply matters: some servers report a full disk only here.
    pub(super) fn close(mut self) -> PendingReply {
        let handle = self.handle.take().unwrap_or_default();
        self.session.request(&Request::Close(&handle))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            drop(self.session.request(&Request::Close(&handle)));
        }
    }
}

/// A block that was asked for.
struct Due {
    at: u64,
    length: u32,
    answer: PendingReply,
}

/// Reads a file, or a range of it.
pub(super) async fn read(
    session: &Arc<Session>,
    path: &str,
    mut download: Download<'_>,
) -> Result<(), Fault> {
    let handle = session.request(&Request::Open { path, flags: wire::READ, mode: 0 }).handle().await?;
    let file = Open::new(session, handle);
    let range = download.range().cloned().unwrap_or(0..u64::MAX);
    let wanted =
        |at: u64, end: u64| u32::try_from(end.saturating_sub(at)).map_or(BLOCK, |left| left.min(BLOCK));
    let request = async |at, length| Due {
        at,
        length,
        answer: session.request_block(&Request::Read { handle: file.handle(), at, length }).await,
    };
    // The first block is asked for together with the size: small files need no more.
    let size = session.request(&Request::HandleStat(file.handle()));
    let mut first = request(range.start, wanted(range.start, range.end)).await;
    let attributes = size.attributes().await?;
    if kind(attributes.mode) == Some(Kind::Directory) {
        return Err(Fault::Refused { code: wire::ABSENT, message: "a directory is there".to_owned() });
    }
    let end = attributes.size.map_or(range.end, |size| size.min(range.end));
    if end <= range.start {
        return Ok(());
    }
    first.length = first.length.min(wanted(range.start, end));
    let mut next = range.start.saturating_add(u64::from(first.length));
    let mut due = VecDeque::from([first]);
    while let Some(block) = due.pop_front() {
        while due.len() < AHEAD && next < end {
            let length = wanted(next, end);
            due.push_back(request(next, length).await);
            next = next.saturating_add(u64::from(length));
        }
        match block.answer.data().await {
            Ok(piece) if piece.is_empty() => return Err(Fault::Nonsense("it has no content")),
            Ok(mut piece) => {
                piece.truncate(block.length as usize);
                let got = piece.len() as u32;
                if got < block.length {
                    // A server may answer with less than was asked for.
                    due.push_front(request(block.at.saturating_add(got.into()), block.length - got).await);
                }
                download.piece(piece);
            }
            Err(fault) if fault.is(wire::END) && attributes.size.is_none() => return Ok(()),
            Err(fault) if fault.is(wire::END) => {
                return Err(Fault::Invalid("the file became shorter while it was read"));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Writes that are under way.
#[derive(Default)]
pub(super) struct Writes {
    at: u64,
    due: VecDeque<PendingReply>,
}

impl Writes {
    /// Sends `bytes`. A later call may return the error.
    pub(super) async fn send(&mut self, session: &Session, file: &Open, bytes: &[u8]) -> Result<(), Fault> {
        for data in bytes.chunks(BLOCK as usize) {
            if self.due.len() >= AHEAD
                && let Some(oldest) = self.due.pop_front()
            {
                oldest.done().await?;
            }
            let request = Request::Write { handle: file.handle(), at: self.at, data };
            self.due.push_back(session.request_block(&request).await);
            self.at += data.len() as u64;
        }
        Ok(())
    }

    /// Waits for the replies to everything that was sent.
    pub(super) async fn settle(&mut self) -> Result<(), Fault> {
        while let Some(oldest) = self.due.pop_front() {
            oldest.done().await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What a mode says about the type; None when it says nothing.
pub(super) fn kind(mode: Option<u32>) -> Option<Kind> {
    Some(match mode? & 0o170_000 {
        0 => return None,
        0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Link,
        _ => Kind::Other,
    })
}
