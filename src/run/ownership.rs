//! The engine's part of the hand-over: stands between the task that asks the store (`handover::task`) and the
//! engine, which restores, replicates and flushes. Without `[handover]` every start and every end goes on at
//! once.

use super::catch_up::{CatchUp, Replicated, Waiting};
use super::messages::{DatabaseSummary, Report, StartFailure};
use super::orders;
use super::ownership_settings::{OwnershipSettings, host, positions};
use super::prepare::{Prepared, RunContext};
use crate::handover::client::Client;
use crate::handover::describe;
use crate::handover::protocol::{Identity, Phase, Rules};
use crate::handover::record::{End, Instance, Reason};
use crate::handover::task::{self, Command, Fenced, Task};
use crate::lifecycle::HandOver;
use crate::lineage::state_file;
use crate::model::proof::Restored;
use crate::model::{DbPath, Deadline, ReleaseReason};
use crate::observe::StatusRegistry;
use crate::observe::handover::{HandoverRequest, HandoverView, Order};
use crate::restore::RestoreSettings;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel, unbounded_channel};

/// Commands that the task has not taken yet.
const COMMANDS: usize = 16;
/// For the release of an instance that has not started its app.
const WITHDRAW: Duration = Duration::from_millis(600);
/// After a restore that failed the platform is in no hurry.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Between two polls of a waiting instance, with `poll = "never"`.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// A standby may wait for months, and each look at the replica is a listing.
const STANDBY_POLLS: u32 = 5;

/// What the engine must do now.
pub enum Step {
    Report(Report),
    /// Prepare all databases once more: the replica may have grown.
    Prepare,
    /// Everything is prepared, and the replica is this instance's.
    Start(Vec<Prepared>, Restored),
    /// There is no app: upload what a killed run has left on the disk.
    FlushLeftOver(Vec<Prepared>),
    /// The end of the last flush.
    Finished(Vec<DatabaseSummary>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was claimed yet.
    Begin,
    Asking,
    CatchingUp,
    Owner,
    /// The last flush.
    Ending,
    Retired,
}

struct LastFlush {
    summaries: Vec<DatabaseSummary>,
    by: Deadline,
}

/// None of `settings`: the hand-over is off, and nothing else here is used.
pub struct Ownership {
    settings: Option<OwnershipSettings>,
    /// This instance does not start while another one owns the replica, and asks for nothing.
    refuses: Option<OwnershipSettings>,
    registry: Arc<StatusRegistry>,
    stage: Stage,
    /// The owner is not asked before a request waits in a gate.
    awaits_traffic: bool,
    /// The previous owner was asked, and can start its app again.
    trial: bool,
    /// How many files were uploaded before the last look.
    looked_after: u64,
    /// Another writer has taken a replica over: what the task asks for then is happening already.
    fenced: bool,
    commands: Option<Sender<Command>>,
    happened: Option<UnboundedReceiver<task::Report>>,
    ready: Option<(Vec<Prepared>, Restored)>,
    /// The databases, as they were prepared before the replica was asked for.
    restored: Vec<Replicated>,
    restore: RestoreSettings,
    phase: Option<Phase>,
    /// They follow the replica while another instance has it.
    following: Option<Waiting>,
    /// A killed run has left something on the disk that must be uploaded without an app.
    left_over: bool,
    last_flush: Option<LastFlush>,
}

impl Ownership {
    pub fn new(settings: Option<OwnershipSettings>, registry: Arc<StatusRegistry>) -> Ownership {
        let (settings, refuses) = match settings {
            Some(settings) if !settings.handover.claims => (None, Some(settings)),
            settings => (settings, None),
        };
        Ownership {
            settings,
            refuses,
            registry,
            stage: Stage::Begin,
            awaits_traffic: false,
            trial: false,
            looked_after: 0,
            fenced: false,
            commands: None,
            happened: None,
            ready: None,
            restored: Vec::new(),
            restore: RestoreSettings::default(),
            phase: None,
            following: None,
            left_over: false,
            last_flush: None,
        }
    }

    /// The next report of the task; pending for ever without one.
    pub async fn next(&mut self) -> task::Report {
        match &mut self.happened {
            Some(happened) => match happened.recv().await {
                Some(report) => report,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Until when the release of the last flush is waited for.
    pub fn release_due(&self) -> Option<Instant> {
        self.last_flush.as_ref().map(|flush| flush.by.instant())
    }

    pub fn awaits_traffic(&self) -> bool {
        self.awaits_traffic
    }

    /// An owner that does not look by itself.
    pub fn looks_after_uploads(&self) -> bool {
        self.stage == Stage::Owner
            && self.settings.as_ref().is_some_and(|settings| settings.handover.poll.is_none())
    }

    /// `uploads`: files of this run so far.
    pub fn look_after(&mut self, uploads: u64) {
        if std::mem::replace(&mut self.looked_after, uploads) != uploads {
            self.send(Command::Look);
        }
    }

    pub fn look_for_traffic(&mut self) {
        if self.registry.snapshot().gates.iter().any(|gate| gate.accepted > 0) {
            self.awaits_traffic = false;
            self.send(Command::Traffic);
        }
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands
            && commands.try_send(command).is_err()
        {
            tracing::error!("hand-over: its task has ended unexpectedly. Restart litevisor");
        }
    }

    /// All databases are prepared: for the first time, or after the replica was released.
    pub fn prepared(&mut self, context: &RunContext, ready: Vec<Prepared>, proof: Restored) -> Option<Step> {
        let Some(settings) = self.settings.clone() else { return Some(Step::Start(ready, proof)) };
        if self.stage == Stage::Begin {
            let present = ready.iter().filter(|one| !one.left_out);
            let databases: Vec<_> = present.map(|one| (one.db.clone(), Arc::clone(&one.store))).collect();
            self.restore = context.settings.clone();
            self.restored = databases.clone();
            self.ready = Some((ready, proof));
            let beside = databases.first().map(|(db, _)| db.clone());
            return self.begin(context, &settings, databases, beside).err().map(failed);
        }
        if std::mem::take(&mut self.left_over) {
            return Some(Step::FlushLeftOver(ready));
        }
        self.ready = Some((ready, proof));
        self.send(Command::CaughtUp);
        None
    }

    /// The databases belong to a litevisor on this machine: it is asked like any other.
    pub fn busy(&mut self, context: &RunContext) -> Option<Step> {
        let settings = self.settings.clone()?;
        let opened = context.databases.iter().map(|database| {
            let settings = &database.settings;
            context.stores.open(&settings.replica).map(|store| (settings.path.clone(), store))
        });
        let databases =
            opened.collect::<Result<_, _>>().map_err(|error| StartFailure::Local(error.to_string()));
        // What the disk says of the last run is said by the one that runs.
        let begun = databases.and_then(|databases| self.begin(context, &settings, databases, None));
        Some(begun.err().map_or(Step::Report(Report::HandOver(HandOver::Waiting { standby: false })), failed))
    }

    /// Applies what the replica has grown by since.
    pub fn catch_up(&mut self) -> impl Future<Output = ()> + use<> {
        let (following, left_over) = (self.following.take(), self.left_over);
        // What a killed run has left is not in the replica yet.
        let restored = if left_over { Vec::new() } else { self.with_positions() };
        let settings = self.restore.clone();
        async move {
            match following {
                Some(following) if left_over => following.end().await,
                Some(following) => following.finish().await,
                None => CatchUp::new(restored, settings, None).finish().await,
            }
        }
    }

    /// Once in so many polls.
    fn follow(&mut self, polls: u32) {
        if self.following.as_ref().is_some_and(Waiting::is_following) {
            return;
        }
        let restored = self.with_positions();
        if !restored.is_empty() {
            let poll =
                self.settings.as_ref().and_then(|settings| settings.handover.poll).unwrap_or(FOLLOW_INTERVAL);
            let catch_up = CatchUp::new(restored, self.restore.clone(), Some(Arc::clone(&self.registry)));
            self.following = Some(catch_up.while_waiting(poll * polls, self.following.take()));
        }
    }

    /// The databases that the replica can be followed with.
    fn with_positions(&self) -> Vec<Replicated> {
        let has_position = |db: &DbPath| !positions(std::slice::from_ref(db)).is_empty();
        self.restored.iter().filter(|(db, _)| has_position(db)).cloned().collect()
    }

    /// The settings, until the store was asked.
    pub fn unchecked(&self) -> Option<OwnershipSettings> {
        self.settings.clone().or_else(|| self.refuses.clone()).filter(|_| self.stage == Stage::Begin)
    }

    /// Whether a database that is locked on this machine may be waited for.
    pub fn may_wait(&self) -> bool {
        self.settings.is_some() && self.stage == Stage::Begin
    }

    fn begin(
        &mut self,
        context: &RunContext,
        settings: &OwnershipSettings,
        databases: Vec<Replicated>,
        beside: Option<DbPath>,
    ) -> Result<(), StartFailure> {
        let OwnershipSettings { handover, places, chosen, revision, gated, early, grace, deletes } =
            settings.clone();
        let Some(records) = chosen.get().or(places.first()) else {
            return Err(StartFailure::Local("the hand-over has no replica for its records".into()));
        };
        let store = context.stores.open(records).map_err(|error| StartFailure::Local(error.to_string()))?;
        let names: Vec<DbPath> = databases.iter().map(|(db, _)| db.clone()).collect();
        let node_id = state_file::new_node_id();
        let instance = Instance { id: format!("{node_id:016x}"), host: host(), revision };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (commands, inbox) = channel(COMMANDS);
        let (told, happened) = unbounded_channel();
        let task = Task {
            client: Client::new(store),
            who: Identity {
                instance,
                positions: positions(&names),
                gated,
                heartbeat: handover.heartbeat,
                version,
            },
            node_id,
            rules: Rules {
                wait: Some(handover.wait),
                poll: handover.poll,
                trial: handover.trial,
                grace,
                courteous: early,
                standby: handover.standby,
            },
            beside,
            databases: databases
                .into_iter()
                .map(|(db, store)| Fenced { name: db.to_string(), store })
                .collect(),
            deletes,
            reports: Box::new(move |report| {
                let _ = told.send(report);
            }),
        };
        tokio::spawn(task::run(task, inbox));
        (self.commands, self.happened, self.stage) = (Some(commands), Some(happened), Stage::Asking);
        Ok(())
    }

    /// What a report of the task means for the engine.
    pub fn handle(&mut self, report: task::Report) -> Vec<Step> {
        let hand_over = |happened| Step::Report(Report::HandOver(happened));
        match report {
            task::Report::Phase { phase, epoch } => {
                let epoch = epoch.map(|epoch| epoch.get());
                let (state, detail) = (describe::name(&phase), describe::sentence(&phase));
                let standby = orders::standby(&phase);
                self.registry.set_handover(HandoverView { epoch, state, detail, standby });
                let steps = self.entered(&phase);
                self.phase = Some(phase);
                steps
            }
            task::Report::CatchUp { .. } if self.stage == Stage::Retired => {
                vec![hand_over(HandOver::SuccessorFailed)]
            }
            task::Report::CatchUp { .. } => {
                self.stage = Stage::CatchingUp;
                let mut steps = vec![hand_over(HandOver::CatchingUp { trial: self.trial })];
                if self.ready.is_some() {
                    // No other instance has had the replica since the databases were prepared.
                    self.send(Command::CaughtUp);
                } else {
                    steps.push(Step::Prepare);
                }
                steps
            }
            task::Report::Start { .. } => {
                self.stage = Stage::Owner;
                self.ready.take().map(|(ready, proof)| Step::Start(ready, proof)).into_iter().collect()
            }
            task::Report::StopApp if self.stage == Stage::Owner && !self.fenced => {
                vec![hand_over(HandOver::Asked)]
            }
            task::Report::StopApp => Vec::new(),
            task::Report::Flush => {
                (self.left_over, self.ready) = (true, None);
                vec![Step::Prepare]
            }
            task::Report::Finished(_) => self.finished(),
        }
    }

    fn entered(&mut self, phase: &Phase) -> Vec<Step> {
        let hand_over = |happened| vec![Step::Report(Report::HandOver(happened))];
        if matches!(
            phase,
            Phase::Waiting { .. }
                | Phase::HeldOff { .. }
                | Phase::Courteous { .. }
                | Phase::Standby(_)
                | Phase::Fencing
                | Phase::Recalling { .. }
        ) {
            // The replica grows meanwhile, and no file may be open when that is applied.
            self.ready = None;
        }
        match phase {
            Phase::Courteous { .. } | Phase::HeldOff { .. } | Phase::Waiting { .. } => self.follow(1),
            Phase::Standby(_) => self.follow(STANDBY_POLLS),
            Phase::Recalling { .. } | Phase::Retired { .. } | Phase::Done(_) => {
                self.following.iter_mut().for_each(Waiting::stop);
            }
            _ => {}
        }
        match phase {
            Phase::Looking => self.awaits_traffic = false,
            Phase::Claiming { claim, .. } => self.trial = claim.reason == Reason::Takeover,
            Phase::Fencing => self.trial = false,
            Phase::Waiting { .. } | Phase::HeldOff { .. } | Phase::Courteous { .. } | Phase::Standby(_)
                if self.stage == Stage::Asking =>
            {
                self.awaits_traffic = matches!(phase, Phase::Courteous { .. });
                return hand_over(HandOver::Waiting { standby: matches!(phase, Phase::Standby(_)) });
            }
            Phase::Retired { .. } | Phase::LetGo { .. } if self.stage == Stage::Ending => {
                let finished = self.finished();
                self.stage = Stage::Retired;
                return finished;
            }
            Phase::Retired { .. } if self.stage != Stage::Retired => {
                self.stage = Stage::Retired;
                self.ready = None;
                return hand_over(HandOver::PassedOn);
            }
            _ => {}
        }
        Vec::new()
    }

    /// What an operator asks for.
    pub fn order(&mut self, request: HandoverRequest) {
        let phase = self.phase.as_ref().filter(|_| self.settings.is_some());
        let answer = match (&self.settings, phase) {
            (None, _) => orders::off(),
            (Some(_), None) => orders::too_early(),
            (Some(_), Some(phase)) => orders::decide(request.order, phase),
        };
        if answer.code == 0 {
            tracing::info!("hand-over: an operator asks: {}", answer.message);
            self.send(match request.order {
                Order::Promote { force } => Command::Promote { force },
                Order::LetGo => Command::LetGo,
            });
        }
        let _ = request.reply.send(answer);
    }

    /// The release is written, or will not come.
    pub fn finished(&mut self) -> Vec<Step> {
        self.last_flush.take().map(|flush| Step::Finished(flush.summaries)).into_iter().collect()
    }

    /// Whether this instance hands the replica over and stays.
    pub fn resumes_later(&self, release: Option<ReleaseReason>) -> bool {
        self.settings.is_some() && matches!(release, None | Some(ReleaseReason::HandedOver))
    }

    /// The last flush has ended; `proven`: no process could write any more. None: the release follows.
    pub fn flushed(
        &mut self,
        summaries: Vec<DatabaseSummary>,
        release: ReleaseReason,
        (proven, by): (bool, Deadline),
    ) -> Option<Vec<DatabaseSummary>> {
        if self.commands.is_none() || self.stage != Stage::Owner {
            return Some(summaries);
        }
        self.stage = Stage::Ending;
        match release {
            ReleaseReason::FailedStart => self.send(Command::StartFailed),
            ReleaseReason::Stopped => self.send(Command::Stop),
            ReleaseReason::HandedOver => {}
        }
        let complete = proven && summaries.iter().all(|db| db.complete);
        let names: Vec<DbPath> = summaries.iter().map(|db| DbPath::new(&db.database)).collect();
        self.send(Command::Flushed(if complete { End::At(positions(&names)) } else { End::Unproven }));
        self.last_flush = Some(LastFlush { summaries, by });
        None
    }

    /// The databases that a killed run had left are uploaded.
    pub fn left_over_flushed(&self, summaries: &[DatabaseSummary]) {
        let names: Vec<DbPath> = summaries.iter().map(|db| DbPath::new(&db.database)).collect();
        let complete = summaries.iter().all(|db| db.complete);
        self.send(Command::Flushed(if complete { End::At(positions(&names)) } else { End::Unproven }));
    }

    pub fn fenced(&mut self) {
        self.fenced = true;
        self.send(Command::Fenced);
    }

    /// The app is not started: gives the claim back, within the time of an abandoned restore.
    pub async fn withdraw(&mut self) {
        self.end(WITHDRAW).await;
    }

    /// The same after a restore that failed.
    pub async fn give_back(&mut self) {
        self.end(GIVE_BACK).await;
    }

    async fn end(&mut self, within: Duration) {
        if self.commands.is_none() {
            return;
        }
        self.send(Command::Stop);
        let following = self.following.take();
        let over = async {
            if let Some(following) = following {
                following.end().await;
            }
            while !matches!(self.next().await, task::Report::Finished(_)) {}
        };
        if tokio::time::timeout(within, over).await.is_err() {
            tracing::warn!(
                "hand-over: the claim could not be released in time; the next instance waits (handover.wait)"
            );
        }
        (self.commands, self.happened) = (None, None);
    }

    /// The app is started again after the next instance has failed.
    pub fn resume(&mut self) {
        self.stage = Stage::CatchingUp;
        self.trial = false;
    }
}

fn failed(failure: StartFailure) -> Step {
    Step::Report(Report::Restored(Err(failure)))
}
