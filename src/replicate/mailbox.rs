//! What is asked of one database's task: flushes. Owns the queue of those that wait; they are answered in order, once
//! everything that was committed when they came is in the replica.

use super::status::Status;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

pub struct Request {
    /// No one writes any more: answer, then end.
    pub last: bool,
    pub reply: oneshot::Sender<Status>,
}

pub struct Mailbox {
    inbox: mpsc::UnboundedReceiver<Request>,
    waiting: Vec<Request>,
    closed: bool,
}

/// An upload that has been under way for this long when a flush is asked for is begun anew: its connection may be dead.
const STUCK: Duration = Duration::from_secs(2);

impl Mailbox {
    pub fn new(inbox: mpsc::UnboundedReceiver<Request>) -> Mailbox {
        Mailbox { inbox, waiting: Vec::new(), closed: false }
    }

    /// Nobody can ask any more: the handle is gone.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Requests that came before now.
    pub fn asked(&mut self) -> usize {
        while let Ok(request) = self.inbox.try_recv() {
            self.waiting.push(request);
        }
        self.waiting.len()
    }

    /// Answers the first `count` requests. True: one of them was the last.
    pub fn answer(&mut self, count: usize, status: &Status) -> bool {
        let mut last = false;
        for request in self.waiting.drain(..count.min(self.waiting.len())) {
            last |= request.last;
            let _ = request.reply.send(status.clone());
        }
        last
    }

    /// Leaves the first `count` requests without an answer: what they ask for cannot be done. True: one was the last.
    pub fn refuse(&mut self, count: usize) -> bool {
        self.waiting.drain(..count.min(self.waiting.len())).fold(false, |last, request| last | request.last)
    }

    /// Until something changed, somebody asks, or `until`.
    pub async fn wait(&mut self, changed: &Notify, until: Instant) {
        tokio::select! {
            () = changed.notified() => {}
            request = self.inbox.recv(), if !self.closed => self.take(request),
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    /// Runs `work`. None: somebody asked while it had been under way for too long, and `may_stop` allows to stop it.
    pub async fn during<T>(&mut self, may_stop: bool, work: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                request = self.inbox.recv(), if !self.closed => {
                    self.take(request);
                    if self.closed || (may_stop && begun.elapsed() > STUCK) {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits, but no longer than until somebody asks.
    pub async fn pause(&mut self, span: Duration) {
        tokio::select! {
            request = self.inbox.recv(), if !self.closed => self.take(request),
            () = tokio::time::sleep(span) => {}
        }
    }

    fn take(&mut self, request: Option<Request>) {
        match request {
            Some(request) => self.waiting.push(request),
            None => self.closed = true,
        }
    }
}
