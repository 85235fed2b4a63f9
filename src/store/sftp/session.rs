//! One SFTP session: requests of many callers on one channel, each answered by its number. Waiting for a
//! reply has no limit here; the caller sets a deadline.

use super::cause::Fault;
use super::wire::{self, Attributes, DirectoryEntry, Extensions, Incoming, Reply, Request};
use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

/// Blocks of content on their way, of all callers together: 4 MiB.
const BLOCKS: usize = 128;
/// Without a caller for this long the connection is closed: while nothing is written, nothing is sent.
const IDLE: Duration = Duration::from_secs(120);
/// After so long without a reply the connection is tested before it is used.
const TRUSTED: Duration = Duration::from_secs(2);
/// How long a connection may take to prove that it lives.
const PROBE: Duration = Duration::from_millis(1500);
/// If a request is older than this and nothing has been received since, the server is gone or stuck.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Session {
    pub extensions: Extensions,
    /// Whether a rename replaces what is there; found out when it matters.
    pub rename_replaces: tokio::sync::OnceCell<bool>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    blocks: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// The two ends of the channel that a session is made of, and what keeps the connection below it alive.
pub(super) struct Channel<K> {
    pub read: ChannelReadHalf,
    pub write: ChannelWriteHalf<Msg>,
    pub incoming: Incoming,
    pub keeps: K,
    /// What the layer below said about its end.
    pub end_reason: Arc<Mutex<Option<Fault>>>,
    pub address: String,
}

struct Shared(Mutex<State>);

struct State {
    ended: Option<Fault>,
    number: u32,
    waiting: HashMap<u32, Waiting>,
    last_reply_at: Instant,
}

struct Waiting {
    since: Instant,
    answer: oneshot::Sender<Reply>,
    /// Released when the reply has arrived, even if the caller has gone.
    _block: Option<OwnedSemaphorePermit>,
}

/// A reply that has not arrived. It may be dropped.
pub(super) struct PendingReply {
    reply: oneshot::Receiver<Reply>,
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn start<K: Send + 'static>(channel: Channel<K>, extensions: Extensions) -> Arc<Session> {
        let (outgoing, packets) = mpsc::unbounded_channel();
        let state = State { ended: None, number: 0, waiting: HashMap::new(), last_reply_at: Instant::now() };
        let shared = Arc::new(Shared(Mutex::new(state)));
        let blocks = Arc::new(Semaphore::new(BLOCKS));
        let rename_replaces = tokio::sync::OnceCell::new();
        let session = Arc::new(Session { extensions, rename_replaces, outgoing, blocks, shared });
        let Channel { read, write, incoming, keeps, end_reason, address } = channel;
        let sender = tokio::spawn(transmit(packets, write, keeps));
        let reader = Reader { incoming, end_reason, address, session: Arc::downgrade(&session) };
        let ends = Ends(Arc::clone(&session.shared), sender.abort_handle());
        tokio::spawn(async move {
            let why = reader.run(read, &ends.0).await;
            ends.0.end(why);
        });
        session
    }

    /// Sends a request.
    pub(super) fn request(&self, request: &Request<'_>) -> PendingReply {
        self.send(request, None)
    }

    /// Sends a request that moves content, when there is room for one more.
    pub(super) async fn request_block(&self, request: &Request<'_>) -> PendingReply {
        // The semaphore is never closed.
        let block = Arc::clone(&self.blocks).acquire_owned().await.ok();
        self.send(request, block)
    }

    fn send(&self, request: &Request<'_>, block: Option<OwnedSemaphorePermit>) -> PendingReply {
        let (sender, reply) = oneshot::channel();
        let mut state = self.shared.lock();
        if state.ended.is_none() {
            let id = state.number;
            state.number = id.wrapping_add(1);
            state.waiting.insert(id, Waiting { since: Instant::now(), answer: sender, _block: block });
            // If the sender task has ended, the reader is about to end, too, and sets the reason.
            let _ = self.outgoing.send(request.packet(id));
        }
        PendingReply { reply, shared: Arc::clone(&self.shared) }
    }

    pub(super) fn is_open(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// Whether the server still answers. After a recent reply that is assumed; a connection that idled may be
    /// dead without a word (NAT, a load balancer), so it is asked first. One that does not answer is ended.
    pub(super) async fn answers(&self) -> bool {
        if self.shared.lock().last_reply_at.elapsed() < TRUSTED {
            return true;
        }
        let test = self.request(&Request::Stat(".")).attributes();
        match tokio::time::timeout(PROBE, test).await {
            // A refusal is an answer, too.
            Ok(_) => self.is_open(),
            Err(_) => {
                self.shared.end(Fault::lost("the connection is dead; connecting anew"));
                false
            }
        }
    }

    /// To be called when a call has timed out: a dead connection must not be used for the next one.
    pub(super) fn end_if_silent(&self) {
        let state = self.shared.lock();
        let oldest = state.waiting.values().map(|waiting| waiting.since).min();
        let silent = oldest.is_some_and(|since| since.max(state.last_reply_at).elapsed() > SILENCE);
        drop(state);
        if silent {
            self.shared.end(Fault::lost("the server has fallen silent; connecting anew"));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all that wait for a reply. The first reason stays.
    fn end(&self, why: Fault) {
        let mut state = self.lock();
        state.ended.get_or_insert(why);
        state.waiting.clear();
    }

    /// Hands a reply over. Returns it when its asker has gone.
    fn hand_over(&self, id: u32, reply: Reply) -> Option<Reply> {
        let mut state = self.lock();
        state.last_reply_at = Instant::now();
        let waiting = state.waiting.remove(&id)?;
        waiting.answer.send(reply).err()
    }
}

/// Ends the session when the reader ends, also with the runtime, so that no caller waits for ever.
struct Ends(Arc<Shared>, AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(Fault::lost("the connection ended"));
        self.1.abort();
    }
}

/// Dropping it with `keeps` ends the connection below.
async fn transmit<K>(mut packets: mpsc::UnboundedReceiver<Vec<u8>>, write: ChannelWriteHalf<Msg>, keeps: K) {
    while let Some(packet) = packets.recv().await {
        if write.data_bytes(packet).await.is_err() {
            break;
        }
    }
    let _ = write.close().await;
    drop(keeps);
}

struct Reader {
    incoming: Incoming,
    end_reason: Arc<Mutex<Option<Fault>>>,
    address: String,
    session: Weak<Session>,
}

impl Reader {
    /// Reads to the end and returns why it ended.
    async fn run(mut self, mut read: ChannelReadHalf, shared: &Shared) -> Fault {
        loop {
            match tokio::time::timeout(IDLE, read.wait()).await {
                // One is the owner's; every call under way has its own.
                Err(_) if self.session.strong_count() <= 1 => return Fault::lost("the connection was idle"),
                Ok(Some(ChannelMsg::Data { data })) => {
                    self.incoming.push(&data);
                    if let Err(why) = self.take_apart(shared) {
                        return why;
                    }
                }
                Ok(None | Some(ChannelMsg::Eof | ChannelMsg::Close)) => {
                    let end_reason = self.end_reason.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let closed = || Fault::lost(format!("{} closed the connection", self.address));
                    return end_reason.unwrap_or_else(closed);
                }
                _ if !shared.lock().is_open() => return Fault::lost("the connection was given up"),
                _ => {}
            }
        }
    }

    fn take_apart(&mut self, shared: &Shared) -> Result<(), Fault> {
        let nonsense = |what: &str| Fault::lost(format!("{} sends {what}", self.address));
        while let Some(packet) = self.incoming.next().map_err(nonsense)? {
            let (id, reply) = wire::reply(packet).ok_or_else(|| nonsense("a reply that makes no sense"))?;
            // A caller that stopped waiting must not leave a file open over there.
            if let (Some(Reply::Handle(handle)), Some(session)) =
                (shared.hand_over(id, reply), self.session.upgrade())
            {
                drop(session.request(&Request::Close(&handle)));
            }
        }
        Ok(())
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.ended.is_none()
    }
}

impl PendingReply {
    /// A reply of the kind that is wanted. A connection that a reply shows to be of no use is not used again.
    async fn take<T>(self, wanted: impl FnOnce(Reply) -> Option<T>) -> Result<T, Fault> {
        let useless = match self.reply.await {
            Ok(Reply::Status { code: wire::NO_CONNECTION | wire::CONNECTION_LOST, message }) => {
                Fault::lost(format!("the server has lost its own connection: \"{message}\""))
            }
            Ok(Reply::Status { code, message }) if code != wire::OK => {
                return Err(Fault::Refused { code, message });
            }
            Ok(reply) => match wanted(reply) {
                Some(wanted) => return Ok(wanted),
                None => NOT_ASKED,
            },
            Err(_) => {
                return Err(self
                    .shared
                    .lock()
                    .ended
                    .clone()
                    .unwrap_or_else(|| Fault::lost("the connection ended")));
            }
        };
        self.shared.end(useless.clone());
        Err(useless)
    }

    pub(super) async fn done(self) -> Result<(), Fault> {
        self.take(|reply| matches!(reply, Reply::Status { .. }).then_some(())).await
    }

    pub(super) async fn handle(self) -> Result<Bytes, Fault> {
        self.take(|reply| if let Reply::Handle(handle) = reply { Some(handle) } else { None }).await
    }

    pub(super) async fn data(self) -> Result<Bytes, Fault> {
        self.take(|reply| if let Reply::Data(data) = reply { Some(data) } else { None }).await
    }

    pub(super) async fn attributes(self) -> Result<Attributes, Fault> {
        self.take(|reply| if let Reply::Attributes(attributes) = reply { Some(attributes) } else { None })
            .await
    }

    pub(super) async fn names(self) -> Result<Vec<DirectoryEntry>, Fault> {
        self.take(|reply| if let Reply::Names(names) = reply { Some(names) } else { None }).await
    }

    pub(super) async fn extended(self) -> Result<Bytes, Fault> {
        self.take(|reply| if let Reply::Extended(bytes) = reply { Some(bytes) } else { None }).await
    }
}

const NOT_ASKED: Fault = Fault::Nonsense("it is of another kind than the request");
