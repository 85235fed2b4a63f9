//! One connection: from the client to the app bytes are copied at once; from the app to the client each chunk
//! waits until what it might acknowledge is in the replica.
//!
//! The order is the promise: the look comes *after* the read. An app commits before it answers, and SQLite
//! has written the wal-index before the commit returns, so a look that follows the read of the answer sees
//! the commit. The end of the stream and a reset are chunks, too. Nothing is known of any protocol.
//!
//! One look serves all connections that were read before it: a connection that has read a small chunk lets
//! the others that are ready read theirs before it asks for the look.

use super::decide::{Decision, Proof, Prospect, Reason, decide};
use super::held::{Held, LIMIT};
use super::shared::{ReadAfter, Shared, Uploaded};
use super::statistics::Counted;
use super::stream::Stream;
use super::{Life, Over};
use crate::model::Ticket;
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// Up to so many bytes are copied for a look that others share; to copy more costs more than a look.
const SMALL: usize = 8 << 10;

thread_local! {
    /// Shared by all connections of the thread: an idle one has no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have ended their streams.
    Complete,
    /// One side has reset it; so was the other.
    Reset,
    Closed(Reason),
}

/// Resets both sockets when it is dropped, unless it is `Complete`.
pub struct Connection {
    client: Stream,
    app: Stream,
    shared: Arc<Shared>,
    counted: Counted,
    /// What the client has sent and the app does not take yet.
    request: Vec<u8>,
    request_state: RequestState,
    /// What was read, and waits for its look until the next poll.
    unseen: Option<(Vec<u8>, ReadAfter)>,
    held: Held,
    waiting: Option<Box<Waiting>>,
    answer_state: AnswerState,
    ended: Option<Ended>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestState {
    Open,
    /// The client's end is on its way to the app.
    Ended,
    /// The app takes nothing any more.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AnswerState {
    Open,
    Ended,
    WasReset,
    /// The client has everything, the end included.
    Complete,
}

/// The proof that the first mark needs.
struct Waiting {
    ticket: Ticket,
    uploaded: Uploaded,
    limit: Pin<Box<Sleep>>,
}

impl Connection {
    /// `greeting` goes to the app before anything of the client.
    pub fn new(
        client: Stream,
        app: Stream,
        greeting: Vec<u8>,
        counted: Counted,
        shared: Arc<Shared>,
    ) -> Connection {
        Connection {
            client,
            app,
            shared,
            counted,
            request: greeting,
            request_state: RequestState::Open,
            unseen: None,
            held: Held::default(),
            waiting: None,
            answer_state: AnswerState::Open,
            ended: None,
        }
    }

    pub fn client(&self) -> &Stream {
        &self.client
    }

    /// Does what can be done now. Ready when the connection has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>, life: Life) -> Poll<Ended> {
        let ended = BUFFER.with_borrow_mut(|buffer| {
            self.poll_request(cx, buffer)
                .or_else(|| self.poll_answer(cx, buffer, life))
                .or_else(|| self.complete(life))
        });
        self.counted.update(&self.held);
        self.ended = ended;
        ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// When the app is gone, what the client still sends has no receiver.
    fn complete(&self, life: Life) -> Option<Ended> {
        let request_over = self.request_state != RequestState::Open && self.request.is_empty();
        let over = self.answer_state == AnswerState::Complete && (request_over || life.is_ending());
        over.then_some(Ended::Complete)
    }

    /// Client → app.
    fn poll_request(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<Ended> {
        loop {
            while !self.request.is_empty() {
                match self.app.poll_write(cx, &self.request) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(count)) => drop(self.request.drain(..count)),
                    Poll::Ready(Err(_)) => self.refuse(),
                }
                if self.request.is_empty() {
                    self.request = Vec::new();
                    self.end_request(cx);
                }
            }
            if self.request_state != RequestState::Open {
                return None;
            }
            let count = match self.client.poll_read(cx, buffer) {
                Poll::Pending => return None,
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(_)) => return Some(Ended::Reset),
            };
            if count == 0 {
                self.request_state = RequestState::Ended;
                self.end_request(cx);
                return None;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            match self.app.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => {
                    self.request.extend_from_slice(bytes.get(count..).unwrap_or_default())
                }
                Poll::Pending => self.request.extend_from_slice(bytes),
                Poll::Ready(Err(_)) => self.refuse(),
            }
        }
    }

    fn end_request(&mut self, cx: &mut Context<'_>) {
        if self.request_state == RequestState::Ended && self.request.is_empty() {
            self.app.end(cx);
        }
    }

    /// The app has reset the connection. What it had sent before can still be read.
    fn refuse(&mut self) {
        self.request = Vec::new();
        self.request_state = RequestState::Refused;
    }

    /// App → client.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buffer: &mut [u8], life: Life) -> Option<Ended> {
        if let Some((bytes, read)) = self.unseen.take()
            && let Some(ended) = self.take(cx, &bytes, read)
        {
            return Some(ended);
        }
        loop {
            if let Some(ended) = self.write_held(cx) {
                return Some(ended);
            }
            match self.decide(cx, life) {
                Some(Decision::Pass | Decision::PassUnproven) => continue,
                Some(Decision::Close(reason)) => return Some(Ended::Closed(reason)),
                Some(Decision::Hold) | None => {}
            }
            if self.held.is_empty() && self.answer_state != AnswerState::Open {
                return self.end_answer(cx);
            }
            let room = self.held.room(self.shared.statistics.held_bytes()).min(buffer.len());
            if self.answer_state != AnswerState::Open || room == 0 {
                return None;
            }
            let read = match self.app.poll_read(cx, buffer.get_mut(..room).unwrap_or_default()) {
                Poll::Pending => return None,
                Poll::Ready(read) => read,
            };
            let read_after = self.shared.has_read();
            match read {
                // A refused write has taken the error that this read would have shown.
                Ok(0) if self.request_state == RequestState::Refused => {
                    self.answer_state = AnswerState::WasReset
                }
                Ok(0) => self.answer_state = AnswerState::Ended,
                Ok(_) => {}
                Err(_) => self.answer_state = AnswerState::WasReset,
            }
            let bytes = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
            if (1..=SMALL).contains(&bytes.len()) && self.shared.statistics.connections() > 1 {
                self.unseen = Some((bytes.to_vec(), read_after));
                // Behind those that are ready now.
                cx.waker().wake_by_ref();
                return None;
            }
            if let Some(ended) = self.take(cx, bytes, read_after) {
                return Some(ended);
            }
        }
    }

    /// What the app has sent goes to the client, or is held.
    fn take(&mut self, cx: &mut Context<'_>, bytes: &[u8], read: ReadAfter) -> Option<Ended> {
        // After the read, and never before it.
        let ticket = self.shared.look(read);
        let mut rest = bytes;
        if ticket.is_none() {
            // Everything is in the replica: also what was committed before.
            while self.held.first_mark().is_some() {
                self.release();
            }
            if self.held.is_empty() && !bytes.is_empty() {
                match self.client.poll_write(cx, bytes) {
                    Poll::Ready(Ok(count)) => {
                        self.held.passed(count);
                        rest = bytes.get(count..).unwrap_or_default();
                    }
                    Poll::Ready(Err(_)) => return Some(Ended::Reset),
                    Poll::Pending => {}
                }
            }
        }
        self.held.push(rest, ticket, Instant::now());
        None
    }

    fn write_held(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        while !self.held.writable().is_empty() {
            match self.client.poll_write(cx, self.held.writable()) {
                Poll::Ready(Ok(count)) => self.held.written(count),
                Poll::Ready(Err(_)) => return Some(Ended::Reset),
                Poll::Pending => return None,
            }
        }
        None
    }

    /// What happens to the bytes of the first mark. None: nothing is held.
    fn decide(&mut self, cx: &mut Context<'_>, life: Life) -> Option<Decision> {
        let mark = self.held.first_mark()?;
        let timeout = self.shared.settings.timeout;
        let waiting = match &mut self.waiting {
            Some(waiting) if waiting.ticket == mark.ticket => waiting,
            slot => slot.insert(Box::new(Waiting {
                ticket: mark.ticket,
                uploaded: self.shared.uploaded(mark.ticket),
                limit: Box::pin(tokio::time::sleep_until((mark.since + timeout).into())),
            })),
        };
        let proof = match waiting.uploaded.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Proof::Durable,
            Poll::Ready(Err(_)) => Proof::Fenced,
            Poll::Pending => Proof::Missing,
        };
        let prospect = match life {
            Life::Over(Over { complete: false, .. }) => Prospect::Over,
            _ => self.shared.prospect(),
        };
        let timed_out = waiting.limit.as_mut().poll(cx).is_ready();
        let held = if timed_out { timeout } else { mark.since.elapsed() };
        let decision = decide(proof, held, timeout, prospect, self.shared.settings.on_failure);
        match decision {
            Decision::Pass => self.release(),
            Decision::PassUnproven => {
                self.shared.lapse(mark.ticket);
                self.release();
            }
            Decision::Hold | Decision::Close(_) => {}
        }
        Some(decision)
    }

    fn release(&mut self) {
        self.waiting = None;
        self.held
            .release_first()
            .into_iter()
            .for_each(|mark| self.shared.statistics.released(mark.since.elapsed()));
    }

    /// The app's end reaches the client as it was.
    fn end_answer(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        match self.answer_state {
            AnswerState::WasReset => return Some(Ended::Reset),
            AnswerState::Ended => {
                self.client.end(cx);
                self.answer_state = AnswerState::Complete;
            }
            AnswerState::Open | AnswerState::Complete => {}
        }
        None
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.ended != Some(Ended::Complete) {
            self.client.reset_on_close();
            self.app.reset_on_close();
        }
    }
}

const _: () = assert!(CHUNK <= LIMIT);
