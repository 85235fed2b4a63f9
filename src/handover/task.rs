//! Runs the protocol of one instance: keeps its clock, makes its requests, and exchanges commands and reports
//! with the engine. A store that is away is logged now and then; an owner goes on meanwhile.

use super::beats::Beats;
use super::client::{self, Client, HandoverError};
use super::fence::{self, FenceError};
use super::last_life;
use super::protocol::{Action, Event, Identity, LastLife, Outcome, Phase, Protocol, Reply, Request, Rules};
use super::record::{End, Positions};
use super::{describe, owner::Epoch};
use crate::model::log_throttle::LogThrottle;
use crate::model::{DbPath, Deadline};
use crate::store::Store;
use futures_util::future::try_join_all;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// For one request.
const REQUEST: Duration = Duration::from_secs(10);
/// For the fences of all databases.
const FENCE: Duration = Duration::from_secs(60);

/// For the deletion of old records.
const TIDY: Duration = Duration::from_secs(60);

/// From the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The local files are at the newest position: the answer to `Report::CatchUp`.
    CaughtUp,
    /// The app cannot be started, has failed or is not ready within the trial. Answered by `Report::StopApp`.
    StartFailed,
    /// The app is gone and the last flush has ended: after `StopApp`, `Flush`, `StartFailed` and `Stop`.
    Flushed(End),
    /// Another writer has taken the next TXID.
    Fenced,
    /// The first request waits for the app.
    Traffic,
    /// A stop signal, or the app's own end: the app, if there is one, is being stopped without a `StopApp`.
    Stop,
    /// Something was uploaded: a good moment to look, where `poll` is "never".
    Look,
    /// An operator wants this instance to take over. `force`: without waiting for the owner's answer.
    Promote { force: bool },
    /// An operator wants this owner to release the replica. Answered by `StopApp`.
    LetGo,
}

/// To the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a few in a life")]
pub enum Report {
    /// For status, log and metrics. Comes before what the phase demands.
    Phase { phase: Phase, epoch: Option<Epoch> },
    /// Bring the local files to the newest position; then `CaughtUp`. `to` (None: it is not known) is behind
    /// or at it.
    CatchUp { to: Option<Positions> },
    /// The app may be started.
    Start { epoch: Epoch },
    /// Stop the app with its budget, and flush; then `Flushed`.
    StopApp,
    /// There is no app: upload what a killed run has left on the disk; then `Flushed`.
    Flush,
    /// The last report.
    Finished(Outcome),
}

/// A database and its replica, to be fenced.
#[derive(Clone)]
pub struct Fenced {
    /// As `Positions` names it.
    pub name: String,
    pub store: Arc<dyn Store>,
}

pub struct Task {
    pub client: Client,
    pub who: Identity,
    /// Of this run; in the header of the fences.
    pub node_id: u64,
    pub rules: Rules,
    /// The database beside which is recorded what the last run did. None: nothing is remembered.
    pub beside: Option<DbPath>,
    pub databases: Vec<Fenced>,
    /// Whether litevisor may delete objects.
    pub deletes: bool,
    pub reports: Box<dyn Fn(Report) + Send + Sync>,
}

type Asking = Pin<Box<dyn Future<Output = (u64, Result<Reply, RequestError>)> + Send>>;

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Handover(#[from] HandoverError),
    #[error(transparent)]
    Fence(#[from] FenceError),
}

/// Runs until the protocol or the engine has ended.
pub async fn run(task: Task, mut commands: mpsc::Receiver<Command>) {
    let last = task.remembered().await;
    let mut running = Running {
        beats: Beats::new(task.client.clone(), task.who.heartbeat),
        protocol: Protocol::new(task.who.clone(), task.rules.clone(), last),
        began: Instant::now(),
        asking: None,
        request: "",
        throttle: LogThrottle::default(),
        is_away: false,
        tidied: None,
        task,
    };
    let mut event = Some(Event::Tick);
    while let Some(next) = event {
        if running.step(next).await {
            return;
        }
        event = running.next(&mut commands).await;
    }
}

struct Running {
    task: Task,
    protocol: Protocol,
    beats: Beats,
    began: Instant,
    asking: Option<Asking>,
    /// What `asking` does, in words.
    request: &'static str,
    throttle: LogThrottle,
    /// The last request has failed.
    is_away: bool,
    /// The epoch in which old records were deleted.
    tidied: Option<Epoch>,
}

impl Running {
    /// None: the engine is gone.
    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Event> {
        let wake = self.protocol.wakes_at().map(|at| tokio::time::Instant::from_std(self.began + at));
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match &mut self.asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        let (serial, result) = tokio::select! {
            command = commands.recv() => return command.map(event),
            () = sleep => return Some(Event::Tick),
            never = self.beats.run() => match never {},
            answered = answer => answered,
        };
        self.asking = None;
        Some(Event::Answered { serial, reply: self.reply(result) })
    }

    fn reply(&mut self, result: Result<Reply, RequestError>) -> Reply {
        let replica = self.task.client.url();
        match result {
            Ok(reply) => {
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(replica, "the hand-over reaches the store again");
                }
                reply
            }
            Err(error) => {
                self.is_away = true;
                let text = error.to_string();
                if self.throttle.due(&text) {
                    tracing::warn!(replica, error = text, "hand-over: cannot {}; trying again", self.request);
                }
                Reply::Failed
            }
        }
    }

    /// True: the protocol has ended.
    async fn step(&mut self, event: Event) -> bool {
        let before = self.protocol.phase().clone();
        let actions = self.protocol.step(event, self.began.elapsed());
        self.tidy();
        self.beats.hold(self.protocol.holds());
        let phase = self.protocol.phase();
        let is_told = match (phase, &before) {
            (Phase::Standby(owner), Phase::Standby(before)) => owner.is_same(before),
            _ => *phase == before,
        };
        if !is_told {
            self.tell(&before, phase);
            (self.task.reports)(Report::Phase { phase: phase.clone(), epoch: self.protocol.epoch() });
        }
        let mut ended = false;
        for action in actions {
            match action {
                Action::Ask { serial, request } => {
                    self.request = client::describe(&request);
                    self.asking = Some(self.task.ask(serial, request));
                }
                Action::Remember(last) => self.task.remember(last).await,
                Action::CatchUp { to } => (self.task.reports)(Report::CatchUp { to }),
                Action::Start => {
                    let epoch = self.protocol.epoch().unwrap_or(Epoch::FIRST);
                    (self.task.reports)(Report::Start { epoch });
                }
                Action::StopApp => (self.task.reports)(Report::StopApp),
                Action::Flush => (self.task.reports)(Report::Flush),
                Action::Finish(outcome) => {
                    (self.task.reports)(Report::Finished(outcome));
                    ended = true;
                }
            }
        }
        ended
    }

    /// Once for each epoch, beside everything else. What fails is left to the next owner.
    fn tidy(&mut self) {
        let settled = self.protocol.settled().filter(|_| self.task.deletes && !self.is_away);
        let Some(own) = settled.filter(|own| self.tidied != Some(*own)) else { return };
        self.tidied = Some(own);
        let client = self.task.client.clone();
        tokio::spawn(async move {
            let replica = client.url();
            match client.delete_outdated(own, Deadline::after(TIDY)).await {
                Ok(0) => {}
                Ok(deleted) => tracing::debug!(replica, deleted, "hand-over: deleted old owner records"),
                Err(error) => tracing::debug!(replica, "hand-over: cannot delete old owner records: {error}"),
            }
        });
    }

    /// One line for each phase that an operator cares about.
    fn tell(&self, before: &Phase, phase: &Phase) {
        if describe::name(before) == describe::name(phase) {
            return;
        }
        let epoch = self.protocol.epoch().map(|epoch| epoch.to_string());
        let (name, text) = (describe::name(phase), describe::sentence(phase));
        match phase {
            Phase::Looking
            | Phase::Claiming { .. }
            | Phase::Releasing { .. }
            | Phase::Done(_)
            | Phase::Judging => {
                tracing::debug!(phase = name, epoch, "hand-over: {text}");
            }
            Phase::Fencing | Phase::HeldOff { .. } => {
                tracing::warn!(phase = name, epoch, "hand-over: {text}")
            }
            _ => tracing::info!(phase = name, epoch, "hand-over: {text}"),
        }
    }
}

fn event(command: Command) -> Event {
    match command {
        Command::CaughtUp => Event::CaughtUp,
        Command::StartFailed => Event::StartFailed,
        Command::Flushed(end) => Event::Flushed(end),
        Command::Fenced => Event::Fenced,
        Command::Stop => Event::Stop,
        Command::Traffic => Event::Traffic,
        Command::Look => Event::Look,
        Command::Promote { force } => Event::Promote { force },
        Command::LetGo => Event::LetGo,
    }
}

impl Task {
    fn ask(&self, serial: u64, request: Request) -> Asking {
        let client = self.client.clone();
        let (databases, node_id) = (self.databases.clone(), self.node_id);
        Box::pin(async move { (serial, perform(client, request, databases, node_id).await) })
    }

    async fn remembered(&self) -> Option<LastLife> {
        let (beside, replica) = (self.beside.clone()?, self.client.url().to_owned());
        match tokio::task::spawn_blocking(move || last_life::load(&beside, &replica)).await {
            Ok(Ok(last)) => last,
            Ok(Err(error)) => {
                tracing::warn!("hand-over: {error}");
                None
            }
            Err(_) => None,
        }
    }

    async fn remember(&self, last: LastLife) {
        let Some(beside) = self.beside.clone() else { return };
        let replica = self.client.url().to_owned();
        let stored = tokio::task::spawn_blocking(move || last_life::store(&beside, &replica, &last)).await;
        if let Ok(Err(error)) = stored {
            tracing::warn!("hand-over: {error}; a restart on this machine may wait for its own last run");
        }
    }
}

async fn perform(
    client: Client,
    request: Request,
    databases: Vec<Fenced>,
    node_id: u64,
) -> Result<Reply, RequestError> {
    let by = Deadline::after(REQUEST);
    Ok(match request {
        Request::Look => Reply::Looked(client.look(by).await?),
        Request::Watch(watch) => Reply::Watched(client.watch(watch, by).await?),
        Request::Claim(claim) => Reply::Claimed { ours: client.claim(&claim, by).await? },
        Request::Answer(answer) => {
            client.answer(&answer, by).await?;
            Reply::Written
        }
        Request::Release(release) => {
            client.release(&release, by).await?;
            Reply::Written
        }
        Request::Fence => Reply::Fenced(fence_all(databases, node_id).await?),
    })
}

/// A replica without any position is left out. Its first upload decides, whose name is created once:
/// whichever instance comes second is refused before it acknowledges anything, as by a fence.
async fn fence_all(databases: Vec<Fenced>, node_id: u64) -> Result<Positions, FenceError> {
    let by = Deadline::after(FENCE);
    let fences = databases.into_iter().map(|Fenced { name, store }| async move {
        let position = fence::fence(&*store, node_id, by).await?;
        Ok::<_, FenceError>(position.map(|position| (name, position)))
    });
    Ok(try_join_all(fences).await?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
