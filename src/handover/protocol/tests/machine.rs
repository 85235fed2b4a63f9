//! One instance of the model: the protocol, and what lifecycle and engine do for it: the app, its commits,
//! uploads, the last flush.

use super::bucket::{Segment, at, mix};
use super::world::{GRACE, Happening, World};
use crate::handover::owner::Epoch;
use crate::handover::protocol::{Action, Event, Identity, LastLife, Phase, Protocol, Rules};
use crate::handover::record::{End, How, Instance, Positions};
use std::collections::BTreeSet;
use std::time::Duration;

pub const RULES: Rules = Rules {
    wait: Some(Duration::from_secs(10)),
    poll: Some(Duration::from_secs(2)),
    trial: Duration::from_secs(20),
    grace: Duration::from_secs(20),
    courteous: false,
    standby: false,
};
/// Between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    No,
    Running,
    Stopping,
}

/// A database, what the replica does not have yet, and the record of the last run.
#[derive(Default)]
pub struct Disk {
    pub last: Option<LastLife>,
    pub txid: u64,
    pub state: u64,
    pub wal: Vec<u64>,
    pub user: Option<usize>,
    /// All runs that have used it.
    pub writers: BTreeSet<u64>,
}

pub struct Machine {
    pub protocol: Protocol,
    pub deploy: usize,
    pub disk: usize,
    pub born: u64,
    pub alive: bool,
    pub frozen_until: u64,
    pub app: App,
    /// From the start of the app to the end of the last flush.
    pub writing: bool,
    pub flushing: bool,
    pub fenced: bool,
    /// The segment that is being uploaded.
    pub upload: Option<u64>,
    /// The epoch whose heartbeats it writes, and the next number.
    pub beats: Option<(Epoch, u64)>,
}

impl Machine {
    pub fn new(
        instance: Instance,
        (deploy, disk): (usize, usize),
        born: u64,
        (poll, standby, heartbeat): (bool, bool, bool),
        last: Option<LastLife>,
    ) -> Machine {
        let poll = RULES.poll.filter(|_| poll);
        let heartbeat = heartbeat.then_some(HEARTBEAT);
        let who = Identity {
            instance,
            positions: Positions::new(),
            gated: true,
            heartbeat,
            version: "test".into(),
        };
        Machine {
            protocol: Protocol::new(who, Rules { poll, standby, ..RULES }, last),
            deploy,
            disk,
            born,
            alive: true,
            frozen_until: 0,
            app: App::No,
            writing: false,
            flushing: false,
            fenced: false,
            upload: None,
            beats: None,
        }
    }
}

impl World {
    pub fn step(&mut self, who: usize, event: Event) {
        self.steps += 1;
        let machine = &mut self.machines[who];
        let now = Duration::from_millis(self.now - machine.born);
        let before = std::mem::discriminant(machine.protocol.phase());
        let actions = machine.protocol.step(event, now);
        let wake = machine.protocol.wakes_at();
        if before != std::mem::discriminant(machine.protocol.phase()) {
            let born = before == std::mem::discriminant(&Phase::Looking);
            match machine.protocol.phase() {
                Phase::HeldOff { .. } => self.count("held off"),
                Phase::Judging => self.count("judged"),
                Phase::Standby(_) => self.count("standing by"),
                Phase::LetGo { .. } => self.count("let go"),
                Phase::Retired { .. } | Phase::Recalling { .. } if born => self.count("superseded"),
                _ => {}
            }
            let machine = &self.machines[who];
            let phase = format!("i{who} {:?}", machine.protocol.phase());
            self.tell(phase.chars().take(150).collect());
        }
        for action in actions {
            self.perform(who, action);
        }
        let machine = &mut self.machines[who];
        let holds =
            machine.protocol.holds().filter(|_| machine.protocol.who.heartbeat.is_some() && machine.alive);
        if machine.beats.map(|(epoch, _)| epoch) != holds {
            machine.beats = holds.map(|epoch| (epoch, 1));
            if let Some(epoch) = holds {
                self.at(0, who, Happening::Beat { epoch });
            }
        }
        if let Some(own) = self.machines[who].protocol.settled()
            && self.bucket.delete_outdated(own) > 0
        {
            self.count("deletions");
        }
        if let Some(at) = wake.filter(|_| self.machines[who].alive) {
            let after = at.saturating_sub(now).as_millis() as u64;
            self.at(after.max(1), who, Happening::Wake);
        }
    }

    fn perform(&mut self, who: usize, action: Action) {
        let disk = self.machines[who].disk;
        match action {
            Action::Ask { serial, request } => self.send(who, serial, request),
            Action::CatchUp { to } => {
                let tip = self.bucket.tip();
                if to.is_some_and(|to| to != at(0) && to.values().any(|position| position.txid.0 > tip)) {
                    self.fail("a position that the replica does not have");
                }
                let after = self.random.span(400, 4_000);
                self.at(after, who, Happening::CaughtUp);
            }
            Action::Remember(last) => self.disks[disk].last = Some(last),
            Action::Start => {
                if self.machines[who].writing {
                    self.fail("started twice");
                }
                (self.machines[who].app, self.machines[who].writing) = (App::Running, true);
                self.machines[who].fenced = false;
                self.tell(format!("i{who} starts its app at {}", self.disks[disk].txid));
                self.at(100, who, Happening::Commit);
                if self.deploys[self.machines[who].deploy].bad {
                    let after = self.random.between(0, 15_000);
                    self.at(after, who, Happening::AppFails);
                }
            }
            Action::StopApp => self.stop_app(who),
            Action::Flush => {
                self.adopt(who);
                (self.machines[who].writing, self.machines[who].flushing) = (true, true);
                self.at(0, who, Happening::UploadAgain);
                self.at(20_000, who, Happening::FlushLimit);
            }
            Action::Finish(outcome) => self.ended(who, outcome),
        }
    }

    pub fn stop_app(&mut self, who: usize) {
        if self.machines[who].app == App::Running {
            self.machines[who].app = App::Stopping;
            let after = self.random.span(1_500, GRACE / 2);
            self.at(after, who, Happening::AppStopped);
        }
        if self.bucket.broken.release_before_flush && self.machines[who].writing {
            let txid = self.disks[self.machines[who].disk].txid;
            self.at(0, who, Happening::AppStopped);
            self.machines[who].flushing = true;
            self.step(who, Event::Flushed(End::At(at(txid))));
        }
    }

    /// Uploads that an earlier run of this disk began count as its own.
    fn adopt(&mut self, who: usize) {
        let machine = &self.machines[who];
        let disk = &mut self.disks[machine.disk];
        while let Some(next) =
            self.bucket.segment(disk.txid + 1).filter(|next| disk.writers.contains(&next.writer))
        {
            // A fence ends what this disk has not uploaded, also its own fence.
            if next.is_fence
                || !next.commits.iter().all(|commit| disk.wal.contains(commit))
                || next.base != disk.state
            {
                break;
            }
            disk.wal.retain(|commit| !next.commits.contains(commit));
            (disk.txid, disk.state) = (disk.txid + 1, next.state);
        }
    }

    fn catch_up(&mut self, who: usize) {
        self.adopt(who);
        let (tip, index) = (self.bucket.tip(), self.machines[who].disk);
        let disk = &self.disks[index];
        if disk.txid < tip {
            let next = self.bucket.segment(disk.txid + 1);
            if !disk.wal.is_empty() && !next.is_some_and(|next| next.is_fence) {
                self.fail(&format!("i{who}: commits of its disk were overtaken without a fence"));
            }
            let state = self.bucket.state(tip);
            let disk = &mut self.disks[index];
            (disk.txid, disk.state) = (tip, state);
            disk.wal.clear();
        }
    }

    pub fn live(&mut self, who: usize, what: Happening) {
        let disk = self.machines[who].disk;
        match what {
            Happening::Wake => self.step(who, Event::Tick),
            Happening::Beat { epoch } => self.beat(who, epoch),
            Happening::BeatReplied { epoch, number } if self.machines[who].beats == Some((epoch, number)) => {
                self.machines[who].beats = Some((epoch, number + 1));
            }
            Happening::Replied { serial, reply } => self.step(who, Event::Answered { serial, reply }),
            Happening::CaughtUp => {
                if matches!(self.machines[who].protocol.phase(), Phase::CatchingUp { .. }) {
                    self.catch_up(who);
                    self.step(who, Event::CaughtUp);
                }
            }
            Happening::Commit if self.machines[who].app != App::No => {
                self.commits += 1;
                self.disks[disk].wal.push(self.commits);
                let pause = self.random.between(50, 3_000);
                self.at(pause, who, Happening::Commit);
                self.upload(who);
            }
            Happening::AppFails if self.machines[who].app == App::Running => {
                (self.machines[who].app, self.machines[who].flushing) = (App::No, true);
                self.tell(format!("i{who}: its app fails"));
                self.at(20_000, who, Happening::FlushLimit);
                self.step(who, Event::StartFailed);
                self.flushed(who);
            }
            Happening::AppStopped if self.machines[who].app == App::Stopping => {
                (self.machines[who].app, self.machines[who].flushing) = (App::No, true);
                let limit = self.random.span(20_000, 60_000);
                self.at(limit, who, Happening::FlushLimit);
                self.flushed(who);
            }
            Happening::FlushLimit => self.flush_ended(who, false),
            Happening::UploadAgain => {
                self.upload(who);
                self.flushed(who);
            }
            Happening::PutReplied { txid, there } => self.put_replied(who, txid, there),
            _ => {}
        }
    }

    /// As often as litevisor: the same number until one has arrived.
    fn beat(&mut self, who: usize, held: Epoch) {
        let Some((epoch, number)) = self.machines[who].beats.filter(|(epoch, _)| *epoch == held) else {
            return;
        };
        self.at(HEARTBEAT.as_millis() as u64, who, Happening::Beat { epoch });
        let (arrives, replies) = self.travel();
        if let Some(after) = arrives {
            self.at(after, who, Happening::BeatArrives { epoch, number });
        }
        if let Some(after) = replies {
            self.at(after, who, Happening::BeatReplied { epoch, number });
        }
    }

    fn upload(&mut self, who: usize) {
        let machine = &self.machines[who];
        let disk = &self.disks[machine.disk];
        if !machine.writing || machine.fenced || machine.upload.is_some() || disk.wal.is_empty() {
            return;
        }
        let commits = disk.wal.clone();
        let state = commits.iter().fold(mix(disk.state, disk.txid), |state, commit| mix(state, *commit));
        let (txid, base) = (disk.txid + 1, disk.state);
        let segment = Segment { base, state, commits, writer: who as u64, is_fence: false };
        self.machines[who].upload = Some(txid);
        let (arrives, replies) = self.travel();
        let replies_at = replies.map(|back| self.now + back);
        if replies.is_none() {
            self.at(super::world::TIMEOUT, who, Happening::PutReplied { txid, there: None });
        }
        if let Some(after) = arrives {
            self.at(after, who, Happening::PutArrives { txid, segment, replies_at });
        }
    }

    fn put_replied(&mut self, who: usize, txid: u64, there: Option<Segment>) {
        if self.machines[who].upload != Some(txid) || !self.machines[who].writing {
            return;
        }
        self.machines[who].upload = None;
        let index = self.machines[who].disk;
        match there {
            None => self.at(500, who, Happening::UploadAgain),
            Some(segment) if segment.writer == who as u64 => {
                let disk = &mut self.disks[index];
                (disk.txid, disk.state) = (txid, segment.state);
                disk.wal.retain(|commit| !segment.commits.contains(commit));
                self.acked.extend(&segment.commits);
                self.last_ack = self.now;
                if !self.polls {
                    self.step(who, Event::Look);
                }
                self.upload(who);
                self.flushed(who);
            }
            Some(segment) => {
                self.tell(format!("i{who} is fenced at {txid}"));
                if !segment.is_fence {
                    self.fail(&format!("i{who} lost its place at {txid} without a fence"));
                }
                self.machines[who].fenced = true;
                self.step(who, Event::Fenced);
                self.flushed(who);
            }
        }
    }

    fn flushed(&mut self, who: usize) {
        let machine = &self.machines[who];
        let is_empty = self.disks[machine.disk].wal.is_empty() && machine.upload.is_none();
        if machine.flushing && machine.app == App::No && (is_empty || machine.fenced) {
            self.flush_ended(who, true);
        }
    }

    fn flush_ended(&mut self, who: usize, complete: bool) {
        let machine = &mut self.machines[who];
        if !machine.flushing || machine.app != App::No {
            return;
        }
        (machine.flushing, machine.writing, machine.upload) = (false, false, None);
        let txid = self.disks[machine.disk].txid;
        let proven = complete && !machine.fenced;
        self.step(who, Event::Flushed(if proven { End::At(at(txid)) } else { End::Unproven }));
    }

    pub fn is_serving(&self, who: usize) -> bool {
        let machine = &self.machines[who];
        machine.alive
            && machine.app == App::Running
            && matches!(machine.protocol.phase(), Phase::Owner { .. })
    }

    /// Resumes that answered a failed start of this deploy.
    pub fn resumes_after(&self, deploy: usize) -> usize {
        let revision = &self.deploys[deploy].revision;
        let failed = self.bucket.claims.values().filter_map(|claim| claim.failed.as_ref());
        failed.filter(|failed| failed.revision == *revision).count()
    }

    pub fn has_failed(&self, deploy: usize) -> bool {
        let revision = &self.deploys[deploy].revision;
        let failed = |how| matches!(how, How::FailedStart);
        self.bucket
            .releases
            .values()
            .any(|release| release.instance.revision == *revision && failed(release.how))
    }
}
