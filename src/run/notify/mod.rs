//! Tells people and services (`[notify]`, `[heartbeat]`), in a thread of its own that looks at the status
//! registry. The app, the replication and the start wait for nothing here; the end waits at most `END`.

mod events;

use super::messages::DatabaseSummary;
use super::ownership_settings::host;
use crate::config::{Config, HeartbeatSettings, NotifySettings};
use crate::model::{Deadline, Moment, Secret, threads};
use crate::observe::StatusRegistry;
use crate::store::{WebClient, WebError};
use events::{Notification, Watcher, is_well};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

/// Between two looks at the state of the run.
const LOOK: Duration = Duration::from_secs(1);
/// Of one request.
const REQUEST: Duration = Duration::from_secs(10);
/// A notification that is not taken within this time is given up.
const LIFE: Duration = Duration::from_secs(300);
/// Between two tries: doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Notifications that wait for their delivery, and requests at once.
const QUEUE: usize = 64;
const AT_ONCE: usize = 4;
/// What the end of the program waits for undelivered notifications.
const END: Duration = Duration::from_secs(2);
/// Then for the log line about those that were not delivered.
const LAST_WORD: Duration = Duration::from_millis(1500);
/// An unoptimised build needs about 2 MiB for the futures of a request. Only the pages that are used cost
/// memory.
const STACK: usize = 8 << 20;

/// The thread.
pub(super) struct Notifier {
    end: oneshot::Sender<(Vec<DatabaseSummary>, Deadline)>,
    over: mpsc::Receiver<()>,
}

impl Notifier {
    /// None: nothing is configured. If the thread cannot be started, the log says so.
    pub(super) fn start(config: &Config, registry: &Arc<StatusRegistry>) -> Option<Notifier> {
        let (notify, heartbeat) = (config.notify.clone(), config.heartbeat.clone());
        if notify.is_none() && heartbeat.is_none() {
            return None;
        }
        let registry = Arc::clone(registry);
        let (end, ended) = oneshot::channel();
        let (done, over) = mpsc::channel();
        let life = move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build() {
                Ok(runtime) => {
                    runtime.block_on(live(notify, heartbeat, &registry, ended));
                    runtime.shutdown_background();
                }
                Err(error) => tracing::error!("no notifications: {}", threads::with_limit(&error)),
            }
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new().name("notify".into()).stack_size(STACK).spawn(life);
        thread
            .inspect_err(|error| tracing::error!("no notifications: {}", threads::with_limit(error)))
            .ok()?;
        Some(Notifier { end, over })
    }

    /// Tells what the last flush has left, and waits for the delivery, at most `END`.
    pub(super) fn finish(self, databases: Vec<DatabaseSummary>) {
        let by = Deadline::after(END);
        if self.end.send((databases, by)).is_ok() {
            // The thread says what was not delivered.
            let _ = self.over.recv_timeout(by.left() + LAST_WORD);
        }
    }
}

async fn live(
    notify: Option<NotifySettings>,
    heartbeat: Option<HeartbeatSettings>,
    registry: &Arc<StatusRegistry>,
    mut ended: oneshot::Receiver<(Vec<DatabaseSummary>, Deadline)>,
) {
    let client = match WebClient::new().await {
        Ok(client) => Arc::new(client),
        Err(error) => return tracing::error!("no notifications: {error}"),
    };
    if let Some(settings) = heartbeat {
        tokio::spawn(beat(Arc::clone(&client), settings, Arc::clone(registry)));
    }
    let Some(NotifySettings { url, events, after }) = notify else {
        let _ = ended.await;
        return;
    };
    let mut watcher = Watcher::new(events, after);
    let mut delivery = Delivery {
        client,
        url: Arc::new(url),
        turns: Arc::new(Semaphore::new(AT_ONCE)),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            end = &mut ended => {
                let Ok((databases, by)) = end else { return };
                let snapshot = registry.snapshot();
                let told = watcher.look(&snapshot).into_iter().chain(watcher.ended(&databases, &snapshot));
                told.for_each(|one| delivery.begin(one));
                return delivery.finish(by).await;
            }
            () = tokio::time::sleep(LOOK) => {
                watcher.look(&registry.snapshot()).into_iter().for_each(|one| delivery.begin(one));
            }
        }
        while delivery.tasks.try_join_next().is_some() {}
    }
}

struct Delivery {
    client: Arc<WebClient>,
    url: Arc<Secret>,
    turns: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Delivery {
    fn begin(&mut self, one: Notification) {
        let event = one.event.name();
        if self.tasks.len() >= QUEUE {
            return tracing::error!(db = one.db, event, "not told: {QUEUE} notifications wait already");
        }
        let (client, url, turns) = (Arc::clone(&self.client), Arc::clone(&self.url), Arc::clone(&self.turns));
        self.tasks.spawn(async move {
            let text = one.json(&host(), Moment::now()).to_string();
            match deliver(&client, &url, (event, &text), &turns).await {
                Ok(()) => tracing::debug!(db = one.db, event, "told"),
                Err(error) => tracing::error!(db = one.db, event, "not told (notify.url): {error}"),
            }
        });
    }

    async fn finish(mut self, by: Deadline) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(by.instant().into(), all).await.is_err() {
            tracing::error!("{} notifications were not told before the end (notify.url)", self.tasks.len());
        }
    }
}

/// The first failure is logged at once: the last one may come five minutes later, or never when the program
/// ends before.
async fn deliver(
    client: &WebClient,
    url: &Secret,
    (event, text): (&str, &str),
    turns: &Semaphore,
) -> Result<(), WebError> {
    let until = Instant::now() + LIFE;
    let mut pause = PAUSE;
    loop {
        let turn = turns.acquire().await;
        let sent = client.send(url, Some(text.to_owned()), Deadline::after(REQUEST)).await;
        drop(turn);
        match sent {
            Err(error) if error.may_heal && Instant::now() + pause < until => {
                if pause == PAUSE {
                    tracing::warn!(
                        event,
                        "the notification is not taken (notify.url), trying again: {error}"
                    );
                }
                tokio::time::sleep(pause).await;
            }
            sent => return sent,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A request for each look at which everything is well. A look that is not is repeated soon.
async fn beat(client: Arc<WebClient>, settings: HeartbeatSettings, registry: Arc<StatusRegistry>) {
    let HeartbeatSettings { url, interval } = settings;
    let mut failing = false;
    loop {
        if !is_well(&registry.snapshot(), interval) {
            tokio::time::sleep(LOOK.min(interval)).await;
            continue;
        }
        let begun = Instant::now();
        let sent = client.send(&url, None, Deadline::after(REQUEST.min(interval))).await;
        match &sent {
            Ok(()) if failing => tracing::info!("the heartbeat is taken again"),
            Ok(()) => {}
            Err(error) if failing => tracing::debug!("the heartbeat is not taken: {error}"),
            Err(error) => tracing::warn!("the heartbeat is not taken (heartbeat.url): {error}"),
        }
        failing = sent.is_err();
        tokio::time::sleep(interval.saturating_sub(begun.elapsed())).await;
    }
}
