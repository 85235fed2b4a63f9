//! What is asked of one database's task: flushes. Owns the queue of those that wait; they are answered in
//! order, once everything that was committed when they came is in the replica.

use super::status::Status;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

/// What the replica is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The app writes, and no flush was requested.
    Writing,
    /// A sync, or the flush before the app is told to stop.
    Flush,
    /// The last flush of this run.
    Last,
}

pub enum Message {
    Flush(Request),
    /// What is committed is to be uploaded at once, not at the next `sync_interval`. It stops and answers
    /// nothing.
    UploadNow,
    /// The replica's newest state is not proven: it gets a new snapshot at a position of its own. The keys of
    /// damaged files.
    Renew(Vec<String>),
}

pub struct Request {
    /// No one writes any more: answer, then end.
    pub last: bool,
    /// It may come as often as anybody likes: what is under way goes on, and a pause is cut short only now
    /// and then.
    pub patient: bool,
    pub reply: oneshot::Sender<Status>,
}

pub struct Mailbox {
    inbox: mpsc::UnboundedReceiver<Message>,
    waiting: Vec<Request>,
    upload_now: bool,
    renew: Option<Vec<String>>,
    closed: bool,
    /// How many of those that wait are counted for an answer.
    counted: usize,
}

/// An upload that has been under way for this long when a flush is asked for is begun anew: its connection
/// may be dead.
const STUCK: Duration = Duration::from_secs(2);

/// What is asked patiently leaves a pause at least this long.
const SHORTEST: Duration = Duration::from_secs(1);

fn is_patient(message: Option<&Message>) -> bool {
    message.is_some_and(|message| match message {
        Message::Flush(request) => request.patient,
        Message::UploadNow | Message::Renew(_) => true,
    })
}

impl Mailbox {
    pub fn new(inbox: mpsc::UnboundedReceiver<Message>) -> Mailbox {
        Mailbox { inbox, waiting: Vec::new(), upload_now: false, renew: None, closed: false, counted: 0 }
    }

    /// The handle is gone: no request can come any more.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Whether a request waits that has little time: the app is stopped, or about to be.
    pub fn hurried(&self) -> bool {
        self.waiting.iter().any(|request| !request.patient && !request.reply.is_closed())
    }

    /// Requests that came before now.
    pub fn asked(&mut self) -> usize {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(Some(message));
        }
        self.counted = 0;
        self.forget_gone();
        self.counted = self.waiting.len();
        self.counted
    }

    /// Whether an upload was asked for since the last call.
    pub fn upload_now(&mut self) -> bool {
        std::mem::take(&mut self.upload_now)
    }

    /// The damaged files, if a new snapshot was asked for since the last call.
    pub fn renew(&mut self) -> Option<Vec<String>> {
        self.renew.take()
    }

    /// What those that are counted wait for.
    pub fn occasion(&self) -> Occasion {
        let mut counted = self.waiting.iter().take(self.counted).peekable();
        match (counted.peek().is_some(), counted.any(|request| request.last)) {
            (false, _) => Occasion::Writing,
            (true, false) => Occasion::Flush,
            (true, true) => Occasion::Last,
        }
    }

    /// Whether one of those that wait is the last: the app has ended.
    pub fn asked_last(&self) -> bool {
        self.waiting.iter().any(|request| request.last)
    }

    /// Answers the first `count` requests. True: one of them was the last.
    pub fn answer(&mut self, count: usize, status: &Status) -> bool {
        let mut last = false;
        self.counted = 0;
        for request in self.waiting.drain(..count.min(self.waiting.len())) {
            last |= request.last;
            let _ = request.reply.send(status.clone());
        }
        last
    }

    /// Leaves the first `count` requests without an answer: what they ask for cannot be done. True: one was
    /// the last.
    pub fn refuse(&mut self, count: usize) -> bool {
        self.counted = 0;
        self.waiting.drain(..count.min(self.waiting.len())).fold(false, |last, request| last | request.last)
    }

    /// Until something changed, a request comes, or `until`.
    pub async fn wait(&mut self, changed: &Notify, until: Instant) {
        tokio::select! {
            () = changed.notified() => {}
            message = self.inbox.recv(), if !self.closed => self.take(message),
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    /// Runs `work`. None: a request came while it had been under way for too long, and `may_stop` allows to
    /// stop it.
    pub async fn during<T>(&mut self, may_stop: bool, work: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                message = self.inbox.recv(), if !self.closed => {
                    let patient = is_patient(message.as_ref());
                    self.take(message);
                    if self.closed || (may_stop && !patient && begun.elapsed() > STUCK) {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits, but no longer than until a request comes.
    pub async fn pause(&mut self, span: Duration) {
        let begun = Instant::now();
        let mut end = begun + span;
        loop {
            tokio::select! {
                message = self.inbox.recv(), if !self.closed => {
                    end = if is_patient(message.as_ref()) { end.min(begun + SHORTEST) } else { begun };
                    self.take(message);
                }
                () = tokio::time::sleep_until(end.into()) => return,
            }
        }
    }

    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::UploadNow) => self.upload_now = true,
            Some(Message::Renew(damaged)) => self.renew.get_or_insert_default().extend(damaged),
            Some(Message::Flush(request)) => {
                self.forget_gone();
                self.waiting.push(request);
            }
            None => self.closed = true,
        }
    }

    /// Those whose asker has given up, but for those that are counted.
    fn forget_gone(&mut self) {
        let mut index = 0;
        let counted = self.counted;
        self.waiting.retain(|request| {
            index += 1;
            index <= counted || request.last || !request.reply.is_closed()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> (mpsc::UnboundedSender<Message>, Mailbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (sender, Mailbox::new(inbox))
    }

    fn ask(to: &mpsc::UnboundedSender<Message>, patient: bool) -> oneshot::Receiver<Status> {
        let (reply, answer) = oneshot::channel();
        to.send(Message::Flush(Request { last: false, patient, reply })).unwrap();
        answer
    }

    #[tokio::test]
    async fn those_who_gave_up_are_forgotten_and_nobody_is_answered_too_early() {
        let (sender, mut mailbox) = mailbox();
        let (gone, stays) = (ask(&sender, true), ask(&sender, true));
        drop(gone);
        assert_eq!(mailbox.asked(), 1);
        drop(stays);
        // They come while what the first asked for is under way.
        let mut late = ask(&sender, true);
        for _ in 0..100 {
            drop(ask(&sender, true));
        }
        for _ in 0..101 {
            let message = mailbox.inbox.recv().await;
            mailbox.take(message);
        }
        assert!(mailbox.waiting.len() <= 3, "{}", mailbox.waiting.len());
        mailbox.answer(1, &Status::default());
        assert!(late.try_recv().is_err(), "it asked after the look began");
        let count = mailbox.asked();
        mailbox.answer(count, &Status::default());
        assert!(late.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_sync_neither_stops_an_upload_nor_hammers_the_store() {
        let (sender, mut mailbox) = mailbox();
        let span = Duration::from_secs(10);
        let _asked: Vec<_> = (0..3).map(|_| ask(&sender, true)).collect();
        let begun = Instant::now();
        mailbox.pause(span).await;
        assert!(begun.elapsed() >= SHORTEST && begun.elapsed() < span);
        let _stop = ask(&sender, false);
        let begun = Instant::now();
        mailbox.pause(span).await;
        assert!(begun.elapsed() < span);
    }
}
