//! Listens to an app that speaks sd_notify(3) (`ready = "notify"`), in a thread of its own for each of the
//! app's lives. A new life has a new socket: what the processes of an earlier one have sent does not count.

use crate::model::log_throttle::LogThrottle;
use crate::observe::StatusRegistry;
use crate::supervise::notify_message::LONGEST;
use crate::supervise::{NotifyMessage, NotifyOwner, NotifySocket, Waker};
use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An app that sends more waits for its next messages to be read.
const AT_ONCE: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// The thread reads one message at a time.
const STACK: usize = 128 << 10;

/// What the app has said in its present life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) ready: bool,
    /// The last `WATCHDOG=1`.
    pub(super) alive: Option<Instant>,
    /// Empty: none.
    pub(super) status: String,
}

/// Ends the listening when it is dropped.
pub(super) struct AppVoice {
    socket: Arc<NotifySocket>,
    heard: Arc<Mutex<Heard>>,
    ended: Arc<AtomicBool>,
    /// The main thread knows that the app is ready.
    told: bool,
}

impl AppVoice {
    /// Before the app's start, so that no message is too early.
    pub(super) fn open() -> io::Result<AppVoice> {
        let socket = Arc::new(NotifySocket::bind()?);
        Ok(AppVoice { socket, heard: Arc::default(), ended: Arc::default(), told: false })
    }

    pub(super) fn address(&self) -> OsString {
        self.socket.address()
    }

    /// To this process of the app, and its descendants. The waker wakes the main thread once the app is
    /// ready.
    pub(super) fn listen(&self, registry: &Arc<StatusRegistry>, app: NotifyOwner, waker: Waker) {
        registry.app_silent(app.pid, "the app has not said READY=1 yet (ready = \"notify\")".into());
        let (socket, heard, ended) =
            (Arc::clone(&self.socket), Arc::clone(&self.heard), Arc::clone(&self.ended));
        let registry = Arc::clone(registry);
        let thread = std::thread::Builder::new().name("app-voice".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            listen(&socket, app, &ended, |message| {
                if take(&mut lock(&heard), message) {
                    registry.app_answers(app.pid);
                    tracing::info!("the app says that it is ready");
                    waker.wake();
                }
            });
        });
        if let Err(error) = started {
            tracing::error!("the app counts as not ready: cannot start a thread that listens to it: {error}");
        }
    }

    pub(super) fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }

    /// True once.
    pub(super) fn has_become_ready(&mut self) -> bool {
        !self.told && {
            self.told = lock(&self.heard).ready;
            self.told
        }
    }
}

impl Drop for AppVoice {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.socket.shut();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True: the app has become ready.
fn take(heard: &mut Heard, NotifyMessage { ready, watchdog, status }: NotifyMessage) -> bool {
    if watchdog {
        heard.alive = Some(Instant::now());
    }
    heard.status = status.unwrap_or_else(|| std::mem::take(&mut heard.status));
    ready && !std::mem::replace(&mut heard.ready, true)
}

fn listen(socket: &NotifySocket, app: NotifyOwner, ended: &AtomicBool, mut take: impl FnMut(NotifyMessage)) {
    let mut buffer = [0; LONGEST];
    let mut strangers = LogThrottle::default();
    let (mut since, mut count) = (Instant::now(), 0);
    while !ended.load(Ordering::Acquire) {
        match socket.receive(&mut buffer) {
            Ok(Some((datagram, sender))) if app.sent(sender) => take(NotifyMessage::parse(datagram)),
            Ok(Some((_, sender))) => {
                if strangers.due("") {
                    let (pid, uid) = (sender.pid, sender.uid);
                    tracing::warn!(
                        pid,
                        uid,
                        "ignored: a message for the app's NOTIFY_SOCKET that is not the app's"
                    );
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if !ended.load(Ordering::Acquire) {
                    tracing::error!("what the app says (ready = \"notify\") is not heard any more: {error}");
                }
                return;
            }
        }
        count += 1;
        if count >= AT_ONCE {
            std::thread::sleep(PAUSE.saturating_sub(since.elapsed()));
            (since, count) = (Instant::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_news_once_and_the_rest_is_the_last() {
        let mut heard = Heard::default();
        let say = |heard: &mut Heard, text: &str| take(heard, NotifyMessage::parse(text.as_bytes()));
        assert!(!say(&mut heard, "STATUS=loading"));
        assert!(say(&mut heard, "READY=1"));
        assert!(!say(&mut heard, "READY=1\nSTATUS=loaded\nWATCHDOG=1"));
        assert!(!say(&mut heard, "X=1"));
        assert_eq!((heard.ready, heard.status.as_str(), heard.alive.is_some()), (true, "loaded", true));
    }
}
