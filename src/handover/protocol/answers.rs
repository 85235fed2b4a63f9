//! What the store's replies mean in each phase: pure.

use super::{Action, LastLife, Life, Now, Outcome, Phase, Protocol, RETRY, Reply, Seen, Then, Watched};
use crate::handover::owner::Epoch;
use crate::handover::record::{Claim, End, How, Instance, Positions, Reason, Release};
use std::time::Duration;

/// Between two looks of an instance that waits: no instance serves from the release until it is seen.
const WAITING: Duration = Duration::from_millis(100);
/// So long an owner that does not answer is looked for so often; then at least so seldom.
const AT_FIRST: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(2);

/// What the newest claim means for an instance that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    /// Claim the next epoch and wait for this one.
    Ask,
    /// The newest claim is that of this machine's last run, which is over.
    Continue { wait_for: Option<Epoch> },
    /// This machine's last run was asked, and its deploy is the same: it is not a newer one, and asks no
    /// instance.
    Superseded(Life),
    /// Until the one that serves again is gone.
    HoldOff,
    /// Until an instance has answered the failed start, or the time for it is over.
    HoldOffBriefly,
}

impl Protocol {
    pub(super) fn answered(&mut self, reply: Reply, now: Now, actions: &mut Vec<Action>) {
        let pause = match reply {
            Reply::Failed => RETRY,
            _ => self.pause(now),
        };
        self.next_at = now.checked_add(pause);
        match (reply, &mut self.phase) {
            (Reply::Failed, Phase::Standby(owner)) => owner.failed(now),
            (Reply::Failed, _) => {}
            (Reply::Looked(seen), Phase::Looking) => self.looked(seen, now, actions),
            (Reply::Claimed { ours: true }, Phase::Claiming { .. }) => self.claimed(now, actions),
            (Reply::Claimed { ours: false }, Phase::Claiming { .. }) => self.claim_lost(now, actions),
            (Reply::Watched(watched), _) => self.watched(watched, now, actions),
            (Reply::Fenced(positions), Phase::Fencing) => {
                self.fence = Some(positions.clone());
                self.catch_up(Some(positions), now, actions);
            }
            (Reply::Written, Phase::Stopping { .. }) => self.answered = true,
            (Reply::Written, Phase::Releasing { .. }) => self.released(now, actions),
            _ => {}
        }
    }

    /// Between two looks.
    fn pause(&self, now: Now) -> Duration {
        let poll = self.rules.poll.unwrap_or(RETRY);
        if let Phase::Standby(owner) = &self.phase {
            return owner.pause(poll);
        }
        let Phase::Waiting { until, answered, .. } = self.phase else { return poll };
        let begun = until.zip(self.rules.wait).and_then(|(until, wait)| until.checked_sub(wait));
        let is_at_first = begun.is_some_and(|begun| now < begun.saturating_add(AT_FIRST));
        poll.min(if answered || is_at_first { WAITING } else { LATER })
    }

    /// The epoch of an owner whose app has stood its trial: it may delete what is older than its own
    /// (`owner::outdated`).
    pub fn settled(&self) -> Option<Epoch> {
        self.mine.filter(|_| self.has_stood && matches!(self.phase, Phase::Owner { .. }))
    }

    fn looked(&mut self, seen: Option<Seen>, now: Now, actions: &mut Vec<Action>) {
        let Some(seen) = seen else {
            return self.claim((Epoch::FIRST, Reason::Start, None), (None, None), now, actions);
        };
        let newest = seen.claim.epoch;
        let reason = if seen.release.is_some() { Reason::Start } else { Reason::Takeover };
        // What the disk says of the run before does not matter any more once this one has claimed.
        let last = self.last.as_ref().filter(|_| self.mine.is_none());
        match start(&seen, last, &self.who.instance) {
            Start::Continue { wait_for } => {
                let reason = if wait_for.is_some() { reason } else { Reason::Start };
                self.home = self.last.as_ref().and_then(|last| last.home);
                let from = wait_for.unwrap_or(newest);
                self.claim((newest.next(), reason, None), (Some(from), wait_for), now, actions);
            }
            _ if self.promoted => {
                self.claim((newest.next(), reason, None), (Some(newest), Some(newest)), now, actions);
            }
            Start::Ask if self.stands_by(&seen, now) => {}
            Start::Ask if self.lets_the_owner_serve(&seen) => {
                let until = now.checked_add(self.rules.wait.unwrap_or_default());
                self.enter(Phase::Courteous { newest, until }, now);
            }
            Start::Ask => {
                self.claim((newest.next(), reason, None), (Some(newest), Some(newest)), now, actions)
            }
            Start::HoldOff => self.enter(Phase::HeldOff { newest, until: None }, now),
            Start::HoldOffBriefly if self.unanswered == Some(newest) => {
                self.claim((newest.next(), reason, None), (Some(newest), Some(newest)), now, actions);
            }
            Start::HoldOffBriefly => {
                let until = now.checked_add(self.rules.wait.unwrap_or_default());
                self.enter(Phase::HeldOff { newest, until }, now);
            }
            Start::Superseded(life) => self.retire_at_birth(&life, newest, now),
        }
    }

    fn lets_the_owner_serve(&self, seen: &Seen) -> bool {
        let asks = seen.release.is_none() && self.unanswered != Some(seen.claim.epoch);
        asks && self.rules.courteous && !self.traffic
    }

    /// A run that was killed after it was asked, and starts again: it goes on as the one that was asked.
    fn retire_at_birth(&mut self, life: &Life, newest: Epoch, now: Now) {
        self.mine = Some(life.epoch);
        self.from = life.from;
        self.home = self.last.as_ref().and_then(|last| last.home);
        (self.asked, self.answered) = (true, false);
        if life.released {
            self.enter(Phase::Retired { newest, cursor: newest }, now);
        } else {
            self.enter(Phase::Recalling { newest }, now);
        }
    }

    fn recalled(&mut self, released: bool, newest: Epoch, now: Now, actions: &mut Vec<Action>) {
        if released {
            actions.push(self.remember(true));
            self.enter(Phase::Retired { newest, cursor: newest }, now);
        } else if self.home.is_some() && self.home == self.mine {
            self.enter(Phase::Stopping { how: How::HandedOver, then: Then::Retire }, now);
            actions.push(Action::Flush);
        } else {
            // Its fence may have been on its way.
            self.release(How::Withdrawn, End::Unproven, Then::Retire, now);
        }
    }

    /// `from`: the instance that it takes over from; `wait_for`: None when there is no owner to wait for.
    pub(super) fn claim(
        &mut self,
        (epoch, reason, failed): (Epoch, Reason, Option<Instance>),
        (from, wait_for): (Option<Epoch>, Option<Epoch>),
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.from = from;
        self.reason = reason;
        let tentative = Some(self.life_of(epoch, false));
        actions.push(Action::Remember(LastLife { confirmed: self.life.clone(), tentative, home: self.home }));
        let claim = Claim {
            epoch,
            instance: self.who.instance.clone(),
            reason,
            failed,
            positions: self.who.positions.clone(),
            gated: self.who.gated,
            heartbeat: self.who.heartbeat,
            version: self.who.version.clone(),
        };
        self.enter(Phase::Claiming { claim, wait_for }, now);
    }

    fn claimed(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Claiming { claim, wait_for } = &self.phase else { return };
        let wait_for = *wait_for;
        self.mine = Some(claim.epoch);
        (self.asked, self.answered, self.fence) = (false, false, None);
        actions.push(self.remember(false));
        if self.stopped {
            return self.withdraw(Then::End(Outcome::Stopped), now);
        }
        let (forced, unheard) = (std::mem::take(&mut self.forced), std::mem::take(&mut self.unheard));
        self.promoted = false;
        match wait_for {
            None => self.catch_up(None, now, actions),
            Some(_) if forced => self.enter(Phase::Fencing, now),
            Some(predecessor) => {
                let wait = self.rules.wait.filter(|_| !unheard);
                let until = wait.map_or(unheard.then_some(now), |wait| now.checked_add(wait));
                self.enter(Phase::Waiting { predecessor, until, answered: false }, now);
            }
        }
    }

    fn claim_lost(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Claiming { claim, .. } = &self.phase else { return };
        let epoch = claim.epoch;
        if self.stopped {
            return self.done(Outcome::Stopped, now, actions);
        }
        (self.forced, self.unheard) = (false, false);
        // One that resumes never asks: the claim that came first answers the failed start.
        match claim.reason {
            Reason::Resume => self.enter(Phase::Retired { newest: epoch, cursor: epoch }, now),
            _ => self.enter(Phase::Looking, now),
        }
    }

    fn catch_up(&mut self, to: Option<Positions>, now: Now, actions: &mut Vec<Action>) {
        actions.push(Action::CatchUp { to: to.clone() });
        self.enter(Phase::CatchingUp { to }, now);
    }

    fn watched(&mut self, watched: Watched, now: Now, actions: &mut Vec<Action>) {
        if let Phase::Standby(owner) = &self.phase {
            return self.watched_standing_by(owner.clone(), &watched, now, actions);
        }
        match self.phase {
            Phase::HeldOff { newest, until: Some(until) } => {
                if now >= until {
                    self.unanswered = Some(newest);
                }
                if watched.claimed || now >= until {
                    self.enter(Phase::Looking, now);
                }
            }
            Phase::HeldOff { .. } if watched.claimed || watched.release.is_some() => {
                self.enter(Phase::Looking, now)
            }
            Phase::Courteous { newest, until } => {
                if until.is_none_or(|until| now >= until) {
                    self.unanswered = Some(newest);
                    self.enter(Phase::Looking, now);
                } else if watched.claimed || watched.release.is_some() {
                    self.enter(Phase::Looking, now);
                }
            }
            Phase::Waiting { predecessor, until, answered } => {
                self.waited((predecessor, until, answered), watched, now, actions);
            }
            Phase::Recalling { newest } => self.recalled(watched.release.is_some(), newest, now, actions),
            Phase::CatchingUp { .. } | Phase::Confirming if watched.claimed => {
                self.asked = true;
                self.withdraw(Then::Retire, now);
            }
            Phase::Confirming => {
                self.home = self.mine;
                actions.push(self.remember(false));
                actions.push(Action::Start);
                self.enter(Phase::Owner { trial_until: now.saturating_add(self.rules.trial) }, now);
                self.next_at = self.rules.poll.and_then(|poll| now.checked_add(poll));
            }
            Phase::Owner { .. } if watched.claimed => {
                self.asked = true;
                self.enter(Phase::Stopping { how: How::HandedOver, then: Then::Retire }, now);
                actions.push(Action::StopApp);
            }
            Phase::Owner { .. } if self.rules.poll.is_none() => self.next_at = None,
            Phase::Stopping { .. } if watched.claimed => {
                self.asked = true;
                self.next_at = Some(now);
            }
            Phase::Judging => match self.mine.map(Epoch::next) {
                Some(newest) if watched.claimed => self.enter(Phase::Retired { newest, cursor: newest }, now),
                _ => self.done(Outcome::Fenced, now, actions),
            },
            Phase::LetGo { until } => self.watched_after_letting_go((until, watched.claimed), now, actions),
            Phase::Retired { newest, cursor } => {
                self.watched_retired((newest, cursor), watched, now, actions);
            }
            _ => {}
        }
    }

    fn waited(
        &mut self,
        (predecessor, until, answered): (Epoch, Option<Now>, bool),
        watched: Watched,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.from = Some(predecessor);
        if watched.claimed {
            // The next one waits for the predecessor itself.
            self.asked = true;
            return self.withdraw(Then::Retire, now);
        }
        match watched.release {
            Some(Release { end: End::At(positions), .. }) => self.catch_up(Some(positions), now, actions),
            Some(Release { end: End::Unproven, .. }) => self.enter(Phase::Fencing, now),
            Some(Release { end: End::Untouched, from: Some(before), .. }) => {
                self.enter(Phase::Waiting { predecessor: before, until, answered }, now);
            }
            Some(Release { end: End::Untouched, from: None, .. }) => self.catch_up(None, now, actions),
            None => {
                if let Some(life) = self.own_before(predecessor) {
                    return match life.from.filter(|_| self.home_before() != Some(predecessor)) {
                        None => self.catch_up(None, now, actions),
                        Some(before) => {
                            self.enter(Phase::Waiting { predecessor: before, until, answered }, now)
                        }
                    };
                }
                let until = match &watched.answer {
                    Some(answer) if !answered => until.map(|until| {
                        let wait = self.rules.wait.unwrap_or_default();
                        until.max(now.saturating_add(answer.within).saturating_add(wait))
                    }),
                    _ => until,
                };
                let answered = answered || watched.answer.is_some();
                if until.is_some_and(|until| now >= until) {
                    return self.enter(Phase::Fencing, now);
                }
                self.phase = Phase::Waiting { predecessor, until, answered };
            }
        }
    }

    /// The run before this one on this machine: it is over.
    fn own_before(&self, epoch: Epoch) -> Option<&Life> {
        self.last.as_ref().and_then(|last| last.confirmed.as_ref()).filter(|life| life.epoch == epoch)
    }

    fn home_before(&self) -> Option<Epoch> {
        self.last.as_ref().and_then(|last| last.home)
    }

    fn released(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Releasing { then, .. } = self.phase else { return };
        actions.push(self.remember(true));
        match (then, self.mine.map(Epoch::next)) {
            (Then::End(outcome), _) => self.done(outcome, now, actions),
            (Then::Judge, _) if !self.asked => self.enter(Phase::Judging, now),
            (Then::LetGo, _) if !self.asked => self.enter_let_go(now),
            (_, Some(newest)) => self.enter(Phase::Retired { newest, cursor: newest }, now),
            (_, None) => {}
        }
    }

    /// The walk back over epochs that failed or never started ends at the one that they took over from. Only
    /// that one resumes.
    fn watched_retired(
        &mut self,
        (newest, cursor): (Epoch, Epoch),
        watched: Watched,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if watched.claimed {
            let newest = newest.next();
            return self.enter(Phase::Retired { newest, cursor: newest }, now);
        }
        let is_over =
            watched.release.as_ref().is_some_and(|release| !release.is_undone()) && cursor == newest;
        if self.retired_long_enough(is_over, now) {
            return self.enter(Phase::Looking, now);
        }
        let Some(release) = watched.release.filter(Release::is_undone) else { return };
        match (release.from, self.home) {
            (Some(from), Some(home)) if from == home => {
                let failed = (release.how == How::FailedStart).then_some(release.instance);
                let resume = (newest.next(), Reason::Resume, failed);
                self.claim(resume, (Some(newest), Some(newest)), now, actions);
            }
            (Some(from), Some(home)) if from > home && from < cursor => {
                self.enter(Phase::Retired { newest, cursor: from }, now);
            }
            _ => {}
        }
    }
}

fn start(seen: &Seen, last: Option<&LastLife>, me: &Instance) -> Start {
    let Seen { claim, release } = seen;
    if let Some(last) = last {
        let is_newest = |life: &&Life| life.instance.id == claim.instance.id && life.epoch == claim.epoch;
        let newest = [&last.tentative, &last.confirmed].into_iter().flatten().find(is_newest);
        if let (Some(life), None) = (newest, release) {
            // It had started its app, or only wanted to continue a run that had.
            let owned = last.home.is_some() && (last.home == Some(life.epoch) || last.home == life.from);
            return Start::Continue { wait_for: life.from.filter(|_| !owned) };
        }
        let is_decided = release.as_ref().is_some_and(|release| !release.is_undone());
        let earlier = last.confirmed.as_ref().filter(|life| life.epoch < claim.epoch && !is_decided);
        if let Some(life) = earlier.filter(|life| life.instance.is_same_deploy(me)) {
            return Start::Superseded(life.clone());
        }
    }
    let own = |instance: &Instance| {
        let confirmed = last.and_then(|last| last.confirmed.as_ref());
        confirmed.is_some_and(|life| life.instance.id == instance.id) || instance.is_same_deploy(me)
    };
    if let Some(Release { how: How::FailedStart, from: Some(_), instance, .. }) = release
        && own(instance)
    {
        return Start::HoldOffBriefly;
    }
    let failed = claim.failed.as_ref().filter(|_| claim.reason == Reason::Resume);
    if release.is_none() && failed.is_some_and(|failed| failed.is_same_deploy(me)) {
        return Start::HoldOff;
    }
    Start::Ask
}
