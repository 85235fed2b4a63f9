//! The state machine of one instance: pure. An event goes in, the phase changes, actions come out. `answers`
//! handles what the store replied, `standby` is for instances that stand by and for an operator's requests,
//! this file is everything else.
//!
//! Each phase needs at most one request (`request`); it is repeated until an answer comes, and an answer
//! counts only for the phase that asked. So a reply that is lost or late, and a store that is away, need no
//! rule of their own.
//!
//! Why no two instances write: an instance starts its app only after its predecessor's release, or after it
//! has taken the next TXID itself (the fence). Afterwards it looks once more whether it was asked, so that
//! one that was frozen meanwhile does not start.

mod answers;
mod messages;
mod standby;

pub use messages::{Action, Beat, Event, Reply, Request, Seen, Watch, Watched};
pub use standby::{MISSES, Owner};

use super::owner::Epoch;
use super::record::{Answer, Claim, End, How, Instance, Positions, Reason, Release};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Of this process's monotonic clock.
pub type Now = Duration;

/// Between two tries of a request that failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long an owner that does not answer is waited for before it is fenced. None: for ever.
    pub wait: Option<Duration>,
    /// Between two looks. None: an owner looks only when it is told to (`Event::Look`), and when it stops.
    pub poll: Option<Duration>,
    /// An app that ends sooner after its start has failed to start.
    pub trial: Duration,
    /// How long the app's stop and the last flush may take.
    pub grace: Duration,
    /// Requests that come before the app is started wait for it (an early gate): the owner is asked when the
    /// first one has come, or after `wait`. So no client meets an owner that has stopped already.
    pub courteous: bool,
    /// No owner is asked: this instance takes over when there is none, when its heartbeat stops, or when it
    /// is promoted.
    pub standby: bool,
}

/// This run of litevisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub instance: Instance,
    /// What the local files hold after the restore.
    pub positions: Positions,
    pub gated: bool,
    /// Between two heartbeats of this instance. None: it writes none.
    pub heartbeat: Option<Duration>,
    pub version: String,
}

/// What this machine's disk says of its last run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLife {
    /// The last epoch that was claimed.
    pub confirmed: Option<Life>,
    /// The claim that was on its way then: it may have arrived.
    pub tentative: Option<Life>,
    /// The last epoch in which the app was started.
    pub home: Option<Epoch>,
}

/// One epoch, as its claimer knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub instance: Instance,
    pub epoch: Epoch,
    pub from: Option<Epoch>,
    pub released: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Looking,
    /// Another instance owns the replica, and the traffic goes there still.
    Courteous {
        newest: Epoch,
        until: Option<Now>,
    },
    /// Another instance owns the replica, and is left alone.
    Standby(Owner),
    /// A deploy has failed to start: its predecessor gets the time to serve again, and is asked for nothing
    /// while it does.
    HeldOff {
        newest: Epoch,
        /// None: until the predecessor is gone.
        until: Option<Now>,
    },
    Claiming {
        claim: Claim,
        /// None: there is no owner to wait for.
        wait_for: Option<Epoch>,
    },
    Waiting {
        predecessor: Epoch,
        until: Option<Now>,
        answered: bool,
    },
    Fencing,
    CatchingUp {
        /// None: to the newest position.
        to: Option<Positions>,
    },
    /// The last run on this machine was asked: had it released?
    Recalling {
        newest: Epoch,
    },
    /// The last look before the start.
    Confirming,
    Owner {
        trial_until: Now,
    },
    /// The app is being stopped, and the last flush runs.
    Stopping {
        how: How,
        then: Then,
    },
    Releasing {
        release: Release,
        then: Then,
    },
    /// Fenced: did the other instance ask, or is it a writer without hand-over?
    Judging,
    /// Released on an operator's request: for whichever instance comes.
    LetGo {
        until: Option<Now>,
    },
    Retired {
        newest: Epoch,
        /// Whose release is looked for: `newest`, or one that `newest` and others have handed the question on
        /// to.
        cursor: Epoch,
    },
    Done(Outcome),
}

/// After the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Retire,
    Judge,
    LetGo,
    End(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal, in whatever phase, or by the app's own end.
    Stopped,
    StartFailed,
    /// By a writer that did not ask.
    Fenced,
}

pub struct Protocol {
    who: Identity,
    rules: Rules,
    last: Option<LastLife>,
    phase: Phase,
    /// The last epoch that was claimed here.
    mine: Option<Epoch>,
    /// For `Remember`: by this run, or the one before it.
    life: Option<Life>,
    reason: Reason,
    /// Whom `mine` takes over from.
    from: Option<Epoch>,
    /// The last epoch in which the app was started.
    home: Option<Epoch>,
    /// Where the fence of `mine` stands.
    fence: Option<Positions>,
    /// The next epoch is claimed.
    asked: bool,
    answered: bool,
    /// A stop signal came while a claim was on its way.
    stopped: bool,
    /// No instance has answered the failed start of this epoch in time.
    unanswered: Option<Epoch>,
    /// The first request has come.
    traffic: bool,
    /// An operator wants this instance to take over.
    promoted: bool,
    /// Without waiting for the owner's answer.
    forced: bool,
    /// The owner's heartbeat has stopped: it had its time to answer.
    unheard: bool,
    /// A retired standby stands by again then.
    retired_until: Option<Now>,
    serial: u64,
    /// The request that is on its way, and when it was sent.
    pending: Option<(u64, Now)>,
    /// A request that was sent after the trial was answered: whatever ended the app within it would be known.
    has_stood: bool,
    next_at: Option<Now>,
}

impl Protocol {
    pub fn new(who: Identity, rules: Rules, last: Option<LastLife>) -> Protocol {
        Protocol {
            who,
            rules,
            life: last.as_ref().and_then(|last| last.confirmed.clone()),
            last,
            phase: Phase::Looking,
            mine: None,
            reason: Reason::Start,
            from: None,
            home: None,
            fence: None,
            asked: false,
            answered: false,
            stopped: false,
            unanswered: None,
            traffic: false,
            promoted: false,
            forced: false,
            unheard: false,
            retired_until: None,
            serial: 0,
            pending: None,
            has_stood: false,
            next_at: Some(Duration::ZERO),
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The last epoch that was claimed here.
    pub fn epoch(&self) -> Option<Epoch> {
        self.mine
    }

    /// When the next `Tick` is due; None: an event comes first.
    pub fn wakes_at(&self) -> Option<Now> {
        if self.pending.is_some() { None } else { self.next_at.filter(|_| self.request().is_some()) }
    }

    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Answered { serial, reply } => {
                if let Some((_, sent)) = self.pending.take_if(|(pending, _)| *pending == serial) {
                    self.has_stood =
                        matches!(self.phase, Phase::Owner { trial_until } if sent >= trial_until);
                    self.answered(reply, now, &mut actions);
                }
            }
            Event::CaughtUp => self.caught_up(now),
            Event::StartFailed => self.start_failed(now, &mut actions),
            Event::Flushed(end) => self.flushed(end, now),
            Event::Fenced => self.fenced(now, &mut actions),
            Event::Stop => self.stop(now, &mut actions),
            Event::Traffic => {
                self.traffic = true;
                if matches!(self.phase, Phase::Courteous { .. }) {
                    self.enter(Phase::Looking, now);
                }
            }
            Event::Promote { force } => self.promote(force, now),
            Event::LetGo => self.let_go(now, &mut actions),
            Event::Look => {
                if matches!(self.phase, Phase::Owner { .. }) {
                    self.next_at = Some(now);
                }
            }
        }
        self.ask(now, &mut actions);
        actions
    }

    fn ask(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.pending.is_some() || self.next_at.is_none_or(|at| at > now) {
            return;
        }
        if let Some(request) = self.request() {
            self.serial += 1;
            self.pending = Some((self.serial, now));
            actions.push(Action::Ask { serial: self.serial, request });
        }
    }

    /// What the phase needs to know or to write.
    fn request(&self) -> Option<Request> {
        let asked = Watch { claim_of: self.mine.map(Epoch::next), ..Watch::default() };
        Some(match &self.phase {
            Phase::Looking => Request::Look,
            Phase::HeldOff { newest, .. } | Phase::Courteous { newest, .. } => Request::Watch(Watch {
                release_of: Some(*newest),
                claim_of: Some(newest.next()),
                ..Watch::default()
            }),
            Phase::Standby(owner) => Request::Watch(Watch {
                release_of: Some(owner.epoch),
                claim_of: Some(owner.epoch.next()),
                beat_of: owner.request(),
                ..Watch::default()
            }),
            Phase::Claiming { claim, .. } => Request::Claim(claim.clone()),
            Phase::Waiting { predecessor, .. } => Request::Watch(Watch {
                release_of: Some(*predecessor),
                answer_of: Some(*predecessor),
                ..asked
            }),
            Phase::Fencing => Request::Fence,
            Phase::Recalling { .. } => Request::Watch(Watch { release_of: self.mine, ..Watch::default() }),
            Phase::CatchingUp { .. }
            | Phase::Confirming
            | Phase::Owner { .. }
            | Phase::Judging
            | Phase::LetGo { .. } => Request::Watch(asked),
            Phase::Stopping { .. } if !self.asked => Request::Watch(asked),
            Phase::Stopping { .. } if self.answered => return None,
            Phase::Stopping { .. } => {
                Request::Answer(Answer { epoch: self.mine.unwrap_or(Epoch::FIRST), within: self.rules.grace })
            }
            Phase::Releasing { release, .. } => Request::Release(release.clone()),
            Phase::Retired { newest, cursor } => Request::Watch(Watch {
                release_of: Some(*cursor),
                claim_of: Some(newest.next()),
                ..Watch::default()
            }),
            Phase::Done(_) => return None,
        })
    }

    /// Enters a phase, and asks at once. The reply to what the phase before has asked does not count any
    /// more.
    fn enter(&mut self, phase: Phase, now: Now) {
        if matches!(phase, Phase::Retired { .. }) {
            let trial = self.rules.trial.saturating_add(self.rules.wait.unwrap_or_default());
            self.retired_until = now.checked_add(trial);
        }
        self.phase = phase;
        self.pending = None;
        self.next_at = Some(now);
    }

    fn done(&mut self, outcome: Outcome, now: Now, actions: &mut Vec<Action>) {
        self.enter(Phase::Done(outcome), now);
        actions.push(Action::Finish(outcome));
    }

    fn caught_up(&mut self, now: Now) {
        if matches!(self.phase, Phase::CatchingUp { .. }) {
            self.enter(Phase::Confirming, now);
        }
    }

    fn start_failed(&mut self, now: Now, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Owner { .. }) {
            let how = self.failed();
            self.enter(Phase::Stopping { how, then: Then::End(Outcome::StartFailed) }, now);
            actions.push(Action::StopApp);
        }
    }

    fn failed(&self) -> How {
        if self.reason == Reason::Resume { How::FailedResume } else { How::FailedStart }
    }

    fn flushed(&mut self, end: End, now: Now) {
        if let Phase::Stopping { how, then } = self.phase {
            let end = if how == How::Fenced { End::Unproven } else { end };
            self.release(how, end, then, now);
        }
    }

    fn fenced(&mut self, now: Now, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Owner { .. } => {
                self.enter(Phase::Stopping { how: How::Fenced, then: Then::Judge }, now);
                actions.push(Action::StopApp);
            }
            Phase::Stopping { then, .. } => {
                let then = if then == Then::LetGo { Then::Judge } else { then };
                self.phase = Phase::Stopping { how: How::Fenced, then };
            }
            _ => {}
        }
    }

    fn stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        let end = Then::End(Outcome::Stopped);
        match &mut self.phase {
            Phase::Looking
            | Phase::HeldOff { .. }
            | Phase::Courteous { .. }
            | Phase::Standby(_)
            | Phase::Recalling { .. }
            | Phase::LetGo { .. }
            | Phase::Retired { .. }
            | Phase::Judging => {
                self.done(Outcome::Stopped, now, actions);
            }
            Phase::Claiming { .. } => self.stopped = true,
            Phase::Waiting { .. } | Phase::Fencing | Phase::CatchingUp { .. } | Phase::Confirming => {
                self.withdraw(end, now);
            }
            Phase::Owner { trial_until } => {
                let cancelled = now < *trial_until && self.reason != Reason::Resume;
                let how = if cancelled { How::Cancelled } else { How::Stopped };
                self.enter(Phase::Stopping { how, then: end }, now);
            }
            Phase::Stopping { then, .. } | Phase::Releasing { then, .. } => {
                if !matches!(then, Then::End(_)) {
                    *then = end;
                }
            }
            Phase::Done(_) => {}
        }
    }

    /// Releases without having started the app.
    fn withdraw(&mut self, then: Then, now: Now) {
        let end = match (&self.phase, &self.fence) {
            // The fence may be there or not, or come late.
            (Phase::Fencing, _) => End::Unproven,
            (_, Some(positions)) => End::At(positions.clone()),
            _ => End::Untouched,
        };
        self.release(How::Withdrawn, end, then, now);
    }

    fn release(&mut self, how: How, end: End, then: Then, now: Now) {
        let epoch = self.mine.unwrap_or(Epoch::FIRST);
        let instance = self.who.instance.clone();
        let release = Release { epoch, instance, how, end, from: self.from, time_ms: 0 };
        self.enter(Phase::Releasing { release, then }, now);
    }

    /// `mine`, as the disk is to know it.
    fn remember(&mut self, released: bool) -> Action {
        if let Some(epoch) = self.mine {
            self.life = Some(self.life_of(epoch, released));
        }
        Action::Remember(LastLife { confirmed: self.life.clone(), tentative: None, home: self.home })
    }

    fn life_of(&self, epoch: Epoch, released: bool) -> Life {
        Life { instance: self.who.instance.clone(), epoch, from: self.from, released }
    }
}

#[cfg(test)]
mod tests;
