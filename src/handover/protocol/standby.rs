//! Instances that stand by, and requests of an operator: pure. A standby claims nothing and so asks the owner
//! for nothing. It takes over when the owner has released the replica, when three heartbeats of the owner in
//! a row are missing, or when it is promoted.
//!
//! Nothing is safe because of a heartbeat: who takes over from an owner that is silent fences it, as after
//! `wait`.

use super::messages::{Action, Beat, Watched};
use super::{Now, Phase, Protocol, Seen, Then};
use crate::handover::owner::Epoch;
use crate::handover::record::{How, Reason};
use std::time::Duration;

/// So many heartbeats in a row are missing, and the owner counts as gone.
pub const MISSES: u32 = 3;

/// The owner that a standby would take over from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub epoch: Epoch,
    pub host: String,
    /// Between two heartbeats, as its claim says. None: it writes none.
    pub heartbeat: Option<Duration>,
    pub heard: Heard,
}

/// The owner's heartbeats, by this process's clock. Only time in which the store answers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The newest number. None: not known yet, 0: there is none yet.
    pub newest: Option<u64>,
    /// Nothing is heard for so long.
    silent: Duration,
    /// Up to here it is counted.
    counted: Now,
}

impl Heard {
    fn begin(now: Now) -> Heard {
        Heard { newest: None, silent: Duration::ZERO, counted: now }
    }

    /// The reply to `Owner::request`. True: the owner is gone.
    fn heard(&mut self, seen: Option<u64>, every: Duration, now: Now) -> bool {
        if self.newest.is_none() || seen > self.newest {
            *self = Heard { newest: Some(seen.unwrap_or_default()), ..Heard::begin(now) };
            return false;
        }
        if self.silent >= every.saturating_mul(MISSES) {
            return true;
        }
        // After a freeze of this process only one is missing.
        self.silent = self.silent.saturating_add(now.saturating_sub(self.counted).min(every));
        self.counted = now;
        false
    }

    /// A request has failed: the owner may fail with the same store. It gets the time of two heartbeats
    /// afterwards.
    fn failed(&mut self, every: Duration, now: Now) {
        (self.silent, self.counted) = (self.silent.min(every), now);
    }
}

impl Owner {
    /// Heartbeats in a row.
    pub fn missing(&self) -> u32 {
        let every = self.heartbeat.unwrap_or_default().as_millis().max(1);
        u32::try_from(self.heard.silent.as_millis() / every).unwrap_or(u32::MAX)
    }

    /// The next number is one small request. A listing is needed at the beginning, and before an owner counts
    /// as gone: the numbers that came while this process was frozen or cut off are deleted again.
    pub(super) fn request(&self) -> Option<Beat> {
        self.heartbeat.map(|_| match self.heard.newest {
            Some(newest) if self.missing() < MISSES => Beat::Number(self.epoch, newest.saturating_add(1)),
            _ => Beat::Newest(self.epoch),
        })
    }

    /// Between two looks, with this `poll`.
    pub(super) fn pause(&self, poll: Duration) -> Duration {
        self.heartbeat.map_or(poll, |every| poll.min(every / 4))
    }

    pub(super) fn failed(&mut self, now: Now) {
        let every = self.heartbeat.unwrap_or_default();
        self.heard.failed(every, now);
    }

    /// What people see of it.
    pub fn is_same(&self, other: &Owner) -> bool {
        let told = |owner: &Owner| (owner.epoch, owner.heard.newest, owner.missing());
        told(self) == told(other)
    }
}

impl Protocol {
    /// The epoch that is claimed here and not released: its heartbeats are to be written.
    pub fn holds(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Waiting { .. }
            | Phase::Fencing
            | Phase::CatchingUp { .. }
            | Phase::Confirming
            | Phase::Owner { .. }
            | Phase::Stopping { .. }
            | Phase::Releasing { .. } => self.mine,
            Phase::Looking
            | Phase::Courteous { .. }
            | Phase::Standby(_)
            | Phase::HeldOff { .. }
            | Phase::Claiming { .. }
            | Phase::Recalling { .. }
            | Phase::Judging
            | Phase::LetGo { .. }
            | Phase::Retired { .. }
            | Phase::Done(_) => None,
        }
    }

    /// Whether this instance leaves the newest owner alone; then the phase is entered. A start that has
    /// failed, or was called off, is answered by the owner before it.
    pub(super) fn stands_by(&mut self, seen: &Seen, now: Now) -> bool {
        if !self.rules.standby {
            return false;
        }
        let newest = seen.claim.epoch;
        match &seen.release {
            None => {
                let (host, heartbeat) = (seen.claim.instance.host.clone(), seen.claim.heartbeat);
                let owner = Owner { epoch: newest, host, heartbeat, heard: Heard::begin(now) };
                self.enter(Phase::Standby(owner), now);
                true
            }
            Some(release)
                if release.is_undone() && release.from.is_some() && self.unanswered != Some(newest) =>
            {
                let until = now.checked_add(self.rules.wait.unwrap_or_default());
                self.enter(Phase::HeldOff { newest, until }, now);
                true
            }
            Some(_) => false,
        }
    }

    pub(super) fn watched_standing_by(
        &mut self,
        mut owner: Owner,
        watched: &Watched,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if watched.claimed || watched.release.is_some() {
            return self.enter(Phase::Looking, now);
        }
        let Some(every) = owner.heartbeat else { return };
        if owner.heard.heard(watched.beat, every, now) {
            self.unheard = true;
            let newest = owner.epoch;
            let next = (newest.next(), Reason::Takeover, None);
            return self.claim(next, (Some(newest), Some(newest)), now, actions);
        }
        if owner.missing() >= MISSES {
            self.next_at = Some(now);
        }
        self.phase = Phase::Standby(owner);
    }

    /// An operator wants this instance to take over. `force`: without waiting for the owner's answer.
    pub(super) fn promote(&mut self, force: bool, now: Now) {
        match self.phase {
            Phase::Standby(_)
            | Phase::HeldOff { .. }
            | Phase::Courteous { .. }
            | Phase::LetGo { .. }
            | Phase::Retired { .. } => {
                (self.promoted, self.forced) = (true, force);
                self.enter(Phase::Looking, now);
            }
            Phase::Looking | Phase::Claiming { .. } => {
                (self.promoted, self.forced) = (true, self.forced || force);
            }
            Phase::Waiting { .. } if force => self.enter(Phase::Fencing, now),
            Phase::Waiting { .. }
            | Phase::Fencing
            | Phase::CatchingUp { .. }
            | Phase::Confirming
            | Phase::Recalling { .. }
            | Phase::Owner { .. }
            | Phase::Stopping { .. }
            | Phase::Releasing { .. }
            | Phase::Judging
            | Phase::Done(_) => {}
        }
    }

    /// An operator wants this owner to release the replica, for whichever instance comes.
    pub(super) fn let_go(&mut self, now: Now, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Owner { .. }) {
            self.enter(Phase::Stopping { how: How::HandedOver, then: Then::LetGo }, now);
            actions.push(Action::StopApp);
        }
    }

    /// So long it waits for an instance that takes the replica, and then takes it back.
    pub(super) fn enter_let_go(&mut self, now: Now) {
        let within = self.rules.trial.max(self.rules.wait.unwrap_or_default());
        self.enter(Phase::LetGo { until: now.checked_add(within) }, now);
    }

    pub(super) fn watched_after_letting_go(
        &mut self,
        (until, claimed): (Option<Now>, bool),
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(mine) = self.mine else { return };
        let newest = mine.next();
        if claimed {
            self.enter(Phase::Retired { newest, cursor: newest }, now);
        } else if until.is_some_and(|until| now >= until) {
            self.claim((newest, Reason::Resume, None), (Some(mine), Some(mine)), now, actions);
        }
    }

    /// A standby that was retired stands by again when the instance after it has stood its trial, or has
    /// ended after it.
    pub(super) fn retired_long_enough(&self, is_over: bool, now: Now) -> bool {
        self.rules.standby && (is_over || self.retired_until.is_some_and(|until| now >= until))
    }
}
