//! The world of the model: one bucket, machines that die, freeze and come back, a network that loses and
//! delays, and a platform that starts and stops instances. After every event the rules are checked.

use super::bucket::{Broken, Bucket, Segment, at};
use super::machine::{App, Disk, Machine};
use crate::handover::owner::Epoch;
use crate::handover::protocol::{Event, Outcome, Phase, Reply, Request};
use crate::handover::record::{Claim, End, How, Instance, Reason, Release};
use crate::model::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// A request has failed after this long, in milliseconds.
pub const TIMEOUT: u64 = 5_000;
pub const GRACE: u64 = 30_000;

pub enum Happening {
    Wake,
    Arrives {
        serial: u64,
        request: Request,
        replies_at: Option<u64>,
    },
    Replied {
        serial: u64,
        reply: Reply,
    },
    PutArrives {
        txid: u64,
        segment: Segment,
        replies_at: Option<u64>,
    },
    /// None: it has failed.
    PutReplied {
        txid: u64,
        there: Option<Segment>,
    },
    Beat {
        epoch: Epoch,
    },
    BeatArrives {
        epoch: Epoch,
        number: u64,
    },
    BeatReplied {
        epoch: Epoch,
        number: u64,
    },
    Commit,
    AppFails,
    AppStopped,
    FlushLimit,
    CaughtUp,
    UploadAgain,
    /// The platform's grace is over.
    Killed,
    Restart {
        deploy: usize,
        disk: Option<usize>,
    },
    Chaos,
}

pub struct Deploy {
    pub revision: Option<String>,
    pub bad: bool,
    /// What it stands by for, and whether its owner writes heartbeats.
    pub standby: bool,
    pub heartbeat: bool,
}

pub struct World {
    pub now: u64,
    pub random: Random,
    pub bucket: Bucket,
    pub disks: Vec<Disk>,
    pub machines: Vec<Machine>,
    pub deploys: Vec<Deploy>,
    queue: BTreeMap<(u64, u64), (usize, Happening)>,
    sequence: u64,
    pub story: Vec<String>,
    pub steps: u64,
    pub acked: BTreeSet<u64>,
    pub commits: u64,
    pub last_ack: u64,
    pub faults: bool,
    /// False: owners look only when something was uploaded.
    pub polls: bool,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Ended instances are started again by the platform.
    pub restarts: bool,
}

impl World {
    pub fn new(seed: u64, broken: Broken) -> World {
        World {
            now: 1_000,
            random: Random::new(seed),
            bucket: Bucket { broken, ..Bucket::default() },
            disks: Vec::new(),
            machines: Vec::new(),
            deploys: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            story: Vec::new(),
            steps: 0,
            acked: BTreeSet::new(),
            commits: 0,
            last_ack: 0,
            faults: false,
            polls: !seed.is_multiple_of(4),
            counts: BTreeMap::new(),
            restarts: true,
        }
    }

    pub fn tell(&mut self, text: String) {
        self.story.push(format!("{:>9} {text}", self.now));
    }

    pub fn fail(&self, why: &str) -> ! {
        let from = self.story.len().saturating_sub(400);
        panic!("{why}\n{}", self.story[from..].join("\n"));
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn at(&mut self, after: u64, who: usize, what: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), (who, what));
    }

    pub fn deploy(&mut self, bad: bool) -> usize {
        let revision = self.random.percent(80).then(|| format!("r{}", self.deploys.len()));
        let heartbeat = self.random.percent(70);
        self.deploys.push(Deploy { revision, bad, standby: false, heartbeat });
        self.deploys.len() - 1
    }

    pub fn deploy_standby(&mut self, bad: bool) -> usize {
        let deploy = self.deploy(bad);
        self.deploys[deploy].standby = true;
        deploy
    }

    /// A new process. `disk`: None for an empty one.
    pub fn start(&mut self, deploy: usize, disk: Option<usize>) -> usize {
        let disk = disk.filter(|disk| self.disks[*disk].user.is_none()).unwrap_or_else(|| {
            self.disks.push(Disk::default());
            self.disks.len() - 1
        });
        self.deliver_late_puts(disk);
        let id = self.machines.len();
        let revision = self.deploys[deploy].revision.clone();
        let instance = Instance { id: format!("i{id}"), host: format!("h{disk}"), revision };
        let rules = (self.polls, self.deploys[deploy].standby, self.deploys[deploy].heartbeat);
        self.disks[disk].user = Some(id);
        self.disks[disk].writers.insert(id as u64);
        let machine = Machine::new(instance, (deploy, disk), self.now, rules, self.disks[disk].last.clone());
        self.machines.push(machine);
        let bad = if self.deploys[deploy].bad { " bad" } else { "" };
        self.tell(format!("i{id} starts:{bad} deploy {deploy}, disk {disk}"));
        self.step(id, Event::Tick);
        id
    }

    /// What an earlier run of this disk has sent arrives before the next run begins.
    fn deliver_late_puts(&mut self, disk: usize) {
        let of_disk = |(who, what): &(usize, Happening)| {
            self.machines.get(*who).is_some_and(|machine| machine.disk == disk)
                && matches!(what, Happening::PutArrives { .. })
        };
        let keys: Vec<_> = self.queue.iter().filter(|(_, what)| of_disk(what)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some((_, Happening::PutArrives { txid, segment, .. })) = self.queue.remove(&key) {
                self.bucket.put(txid, segment);
            }
        }
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|id| self.machines[*id].alive).collect()
    }

    /// Milliseconds to the arrival and to the reply; None: lost.
    pub fn travel(&mut self) -> (Option<u64>, Option<u64>) {
        if !self.faults {
            let there = self.random.between(1, 40);
            return (Some(there), Some(there + self.random.between(1, 40)));
        }
        let longest = if self.random.percent(3) { 90_000 } else { 400 };
        let there = self.random.span(50, longest);
        let back = there + self.random.span(50, 400);
        let lost = self.random.percent(3);
        let arrives = (!lost).then_some(there);
        let replies = (!lost && back < TIMEOUT && !self.random.percent(3)).then_some(back);
        (arrives, replies)
    }

    pub fn send(&mut self, who: usize, serial: u64, request: Request) {
        let (arrives, replies) = self.travel();
        if replies.is_none() {
            self.at(TIMEOUT, who, Happening::Replied { serial, reply: Reply::Failed });
        }
        let replies_at = replies.map(|back| self.now + back);
        if let Some(after) = arrives {
            self.at(after, who, Happening::Arrives { serial, request, replies_at });
        }
    }

    /// Runs until `until`.
    pub fn run(&mut self, until: u64) {
        while let Some(((time, _), (who, what))) = self.queue.pop_first() {
            if time > until {
                self.at(time.saturating_sub(self.now), who, what);
                break;
            }
            self.now = time.max(self.now);
            self.happen(who, what);
            self.check();
        }
        self.now = until;
    }

    fn happen(&mut self, who: usize, what: Happening) {
        match what {
            Happening::Arrives { serial, request, replies_at } => {
                // With a deaf standby there are so many epochs that retired instances ask for releases that
                // matter to none.
                let is_waited_for = replies_at.is_some()
                    && self.machines[who].protocol.pending.is_some_and(|(pending, _)| pending == serial)
                    && !self.bucket.broken.deaf_standby;
                if let Some(epoch) = self.bucket.misses(&request).filter(|_| is_waited_for) {
                    self.fail(&format!(
                        "i{who} looks for the release of epoch {}, which was deleted",
                        epoch.get()
                    ));
                }
                self.record(who, &request);
                let reply = self.bucket.answer(&request, who as u64);
                let reply = self.spoil(who, reply);
                if let Some(at) = replies_at {
                    self.at(at.saturating_sub(self.now), who, Happening::Replied { serial, reply });
                }
            }
            Happening::PutArrives { txid, segment, replies_at } => {
                let created = self.bucket.put(txid, segment);
                let there = self.bucket.segment(txid).cloned();
                if created {
                    self.tell(format!("i{who} created segment {txid}"));
                }
                if let Some(at) = replies_at {
                    self.at(at.saturating_sub(self.now), who, Happening::PutReplied { txid, there });
                }
            }
            Happening::BeatArrives { epoch, number } => {
                let newest = self.bucket.beats.entry(epoch).or_default();
                *newest = number.max(*newest);
            }
            Happening::Restart { deploy, disk } if self.restarts && self.alive().len() < 6 => {
                self.start(deploy, disk);
            }
            Happening::Chaos => self.chaos(),
            local if self.machines[who].alive => {
                let frozen = self.machines[who].frozen_until;
                match local {
                    Happening::Killed => self.kill(who, true),
                    local if frozen > self.now => self.at(frozen - self.now, who, local),
                    local => self.live(who, local),
                }
            }
            _ => {}
        }
    }

    /// Breaks a rule of the protocol through what the instance is told.
    fn spoil(&mut self, who: usize, reply: Reply) -> Reply {
        let (broken, phase) = (self.bucket.broken, self.machines[who].protocol.phase());
        let Reply::Watched(mut watched) = reply else { return reply };
        match phase {
            Phase::Standby(_) if broken.deaf_standby => watched.beat = None,
            Phase::Waiting { predecessor, .. }
                if broken.start_before_release && watched.release.is_none() =>
            {
                let instance = self.bucket.claims[predecessor].instance.clone();
                let end = End::At(at(self.bucket.tip()));
                let (epoch, from) = (*predecessor, None);
                watched.release = Some(Release { epoch, instance, how: How::Stopped, end, from, time_ms: 0 });
            }
            Phase::Retired { .. } if broken.resume_twice => {
                watched.claimed = false;
                let home = self.machines[who].protocol.home;
                if let Some(release) = &mut watched.release {
                    release.from = home;
                }
            }
            _ => {}
        }
        Reply::Watched(watched)
    }

    /// The one that resumes is the one that the failed epochs took over from.
    fn check_resume(&self, who: usize, claim: &Claim) {
        let mut epoch = claim.epoch.get() - 1;
        let mut answered = 0;
        // Nobody has come after it let go.
        if self.machines[who].protocol.home.is_some_and(|home| home.get() == epoch) {
            return;
        }
        while let Some(release) = Epoch::new(epoch).and_then(|epoch| self.bucket.releases.get(&epoch)) {
            if !release.is_undone() {
                break;
            }
            answered += 1;
            epoch = release.from.map_or(0, Epoch::get);
        }
        let home = self.machines[who].protocol.home.map_or(0, Epoch::get);
        if answered == 0
            || epoch != home
                && !self.bucket.releases.get(&Epoch::new(home).unwrap()).is_some_and(Release::is_undone)
        {
            self.fail(&format!("i{who} resumes in the place of the owner of epoch {epoch}"));
        }
    }

    /// What the bucket is about to get, for the story and for the rules about releases.
    fn record(&mut self, who: usize, request: &Request) {
        match request {
            Request::Claim(claim) if !self.bucket.claims.contains_key(&claim.epoch) => {
                self.tell(format!("i{who} claims epoch {} ({:?})", claim.epoch.get(), claim.reason));
                self.count(match claim.reason {
                    Reason::Resume => "resumes",
                    Reason::Takeover => "takeovers",
                    Reason::Start => "starts",
                });
                match claim.reason {
                    Reason::Resume => self.check_resume(who, claim),
                    Reason::Takeover if self.machines[who].protocol.unheard => {
                        self.count("heartbeat stopped")
                    }
                    Reason::Takeover | Reason::Start => {}
                }
                if self.machines[who].protocol.promoted {
                    self.count("promoted");
                }
            }
            Request::Release(release) if !self.bucket.releases.contains_key(&release.epoch) => {
                let (how, end, epoch) = (release.how, &release.end, release.epoch.get());
                let text = format!("i{who} releases epoch {epoch}: {how:?} {end:?} from {:?}", release.from);
                self.tell(text);
                self.count(match (how, &release.end) {
                    (How::Withdrawn, End::Untouched) => "withdrawn",
                    (How::Withdrawn, _) => "withdrawn behind a fence",
                    (How::FailedStart, _) => "failed starts",
                    (How::FailedResume, _) => "failed resumes",
                    (How::Cancelled, _) => "cancelled",
                    (How::Fenced, _) => "fenced",
                    (How::HandedOver, _) => "handed over",
                    (_, End::Unproven) => "unproven",
                    _ => "stopped",
                });
                let owner = self.bucket.claims.get(&release.epoch).map(|claim| &claim.instance);
                if owner.is_none_or(|owner| self.disk_of(&owner.id) != Some(self.machines[who].disk)) {
                    self.fail("a release of another instance's epoch");
                }
            }
            Request::Fence => {
                self.tell(format!("i{who} fences at {}", self.bucket.tip() + 1));
                self.count("fences");
            }
            _ => {}
        }
    }

    fn disk_of(&self, id: &str) -> Option<usize> {
        let number: usize = id.strip_prefix('i')?.parse().ok()?;
        self.machines.get(number).map(|machine| machine.disk)
    }

    pub fn kill(&mut self, who: usize, keep_disk: bool) {
        let machine = &mut self.machines[who];
        (machine.alive, machine.app, machine.writing) = (false, App::No, false);
        let (disk, deploy) = (machine.disk, machine.deploy);
        self.disks[disk].user = None;
        self.tell(format!("i{who} is killed, its disk is {}", if keep_disk { "kept" } else { "lost" }));
        let after = self.random.span(3_000, 60_000);
        self.at(after, who, Happening::Restart { deploy, disk: keep_disk.then_some(disk) });
    }

    pub fn ended(&mut self, who: usize, outcome: Outcome) {
        let machine = &mut self.machines[who];
        (machine.alive, machine.app, machine.writing) = (false, App::No, false);
        let (disk, deploy) = (machine.disk, machine.deploy);
        self.disks[disk].user = None;
        self.tell(format!("i{who} has ended: {outcome:?}"));
        if outcome != Outcome::Stopped {
            let disk = self.random.percent(60).then_some(disk);
            let after = self.random.span(5_000, 30_000);
            self.at(after, who, Happening::Restart { deploy, disk });
        }
    }

    pub fn terminate(&mut self, who: usize) {
        self.tell(format!("i{who} gets SIGTERM"));
        self.at(GRACE, who, Happening::Killed);
        self.stop_app(who);
        self.step(who, Event::Stop);
    }

    fn chaos(&mut self) {
        if !self.faults {
            return;
        }
        let pause = self.random.between(200, 12_000);
        self.at(pause, 0, Happening::Chaos);
        let alive = self.alive();
        let pick = self.random.next() as usize;
        let one = alive.get(pick % alive.len().max(1)).copied();
        match (self.random.between(0, 99), one) {
            (0..=29, _) | (_, None) if alive.len() < 6 => {
                let bad = self.random.percent(25);
                let again = self.random.percent(20) && !self.deploys.is_empty();
                let standby = self.random.percent(30);
                let deploy = match (again, standby) {
                    (true, _) => self.deploys.len() - 1,
                    (false, true) => self.deploy_standby(bad),
                    (false, false) => self.deploy(bad),
                };
                self.start(deploy, None);
            }
            (30..=44, Some(one)) if self.machines[one].frozen_until <= self.now => self.terminate(one),
            (45..=49, Some(one)) if self.machines[one].frozen_until <= self.now => self.order(one),
            (50..=69, Some(one)) => {
                let keep = self.random.percent(50);
                self.kill(one, keep);
            }
            (70..=99, Some(one)) => {
                let span = self.random.span(8_000, 120_000);
                self.machines[one].frozen_until = self.now + span;
                self.tell(format!("i{one} freezes for {span} ms"));
            }
            _ => {}
        }
    }

    /// An operator's request.
    fn order(&mut self, who: usize) {
        let event = match self.machines[who].protocol.phase() {
            Phase::Owner { .. } => Event::LetGo,
            _ => Event::Promote { force: self.random.percent(40) },
        };
        self.tell(format!("i{who}: {event:?}"));
        self.step(who, event);
    }

    /// The rules that hold after every event.
    fn check(&self) {
        let writers: Vec<usize> = self.alive().into_iter().filter(|id| self.extends(*id)).collect();
        if writers.len() > 1 {
            self.fail(&format!("two instances may write: {writers:?}"));
        }
    }

    /// Its next upload would be created.
    fn extends(&self, who: usize) -> bool {
        let machine = &self.machines[who];
        let disk = &self.disks[machine.disk];
        let tip = self.bucket.tip();
        let own = tip == disk.txid + 1 && self.bucket.segment(tip).is_some_and(|s| s.writer == who as u64);
        machine.writing && !machine.fenced && (disk.txid == tip || own)
    }

    /// The whole history: linear, everything acknowledged is in it once.
    pub fn check_history(&self) {
        let (mut state, mut seen) = (0, BTreeSet::new());
        for (index, segment) in self.bucket.segments.iter().enumerate() {
            if segment.base != state {
                self.fail(&format!("a fork at segment {}", index + 1));
            }
            state = segment.state;
            if !segment.commits.iter().all(|commit| seen.insert(*commit)) {
                self.fail("a commit is there twice");
            }
        }
        if let Some(lost) = self.acked.difference(&seen).next() {
            self.fail(&format!("the acknowledged commit {lost} is lost"));
        }
    }
}
