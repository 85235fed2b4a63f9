//! Each rule of the protocol in a short story: what the store says, what the instance does.

use super::bucket::at;
use super::machine::RULES;
use crate::handover::owner::Epoch;
use crate::handover::protocol::*;
use crate::handover::record::*;

pub(super) fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

pub(super) fn instance(id: &str) -> Instance {
    Instance { id: id.into(), host: format!("host of {id}"), revision: Some(format!("r-{}", &id[..1])) }
}

pub(super) fn claim_of(number: u64, id: &str) -> Claim {
    let (reason, failed) = (Reason::Start, None);
    let (instance, positions) = (instance(id), Positions::new());
    Claim {
        epoch: epoch(number),
        instance,
        reason,
        failed,
        positions,
        gated: true,
        heartbeat: None,
        version: "1".into(),
    }
}

pub(super) fn release_of(number: u64, id: &str, how: How, end: End, from: Option<u64>) -> Release {
    Release { epoch: epoch(number), instance: instance(id), how, end, from: from.map(epoch), time_ms: 0 }
}

/// One instance and what it has asked last.
pub(super) struct Story {
    pub(super) protocol: Protocol,
    pub(super) now: Now,
    asked: Option<(u64, Request)>,
    done: Vec<Action>,
}

impl Story {
    pub(super) fn new(id: &str, last: Option<LastLife>) -> Story {
        Story::with(id, last, RULES)
    }

    pub(super) fn with(id: &str, last: Option<LastLife>, rules: Rules) -> Story {
        let who = Identity {
            instance: instance(id),
            positions: at(7),
            gated: true,
            heartbeat: None,
            version: "1".into(),
        };
        let mut story = Story {
            protocol: Protocol::new(who, rules, last),
            now: Duration::ZERO,
            asked: None,
            done: vec![],
        };
        story.event(Event::Tick);
        story
    }

    pub(super) fn event(&mut self, event: Event) -> &mut Story {
        for action in self.protocol.step(event, self.now) {
            match action {
                Action::Ask { serial, request } => self.asked = Some((serial, request)),
                other => self.done.push(other),
            }
        }
        self
    }

    /// Lets time pass until it asks, if it does not by itself, and answers.
    pub(super) fn reply(&mut self, reply: Reply) -> &mut Story {
        if self.asked.is_none() {
            self.now = self.now.max(self.protocol.wakes_at().expect("it asks for nothing more"));
            self.event(Event::Tick);
        }
        let (serial, _) = self.asked.take().expect("it has asked for nothing");
        self.event(Event::Answered { serial, reply })
    }

    pub(super) fn looked(&mut self, claim: Claim, release: Option<Release>) -> &mut Story {
        self.reply(Reply::Looked(Some(Seen { claim, release })))
    }

    pub(super) fn watched(&mut self, release: Option<Release>, claimed: bool) -> &mut Story {
        self.reply(Reply::Watched(Watched { release, claimed, ..Watched::default() }))
    }

    pub(super) fn claimed(&mut self) -> &mut Story {
        self.reply(Reply::Claimed { ours: true })
    }

    pub(super) fn request(&self) -> &Request {
        &self.asked.as_ref().expect("it has asked for nothing").1
    }

    pub(super) fn release(&self) -> (How, &End, Option<u64>) {
        let Request::Release(release) = self.request() else { panic!("{:?}", self.asked) };
        (release.how, &release.end, release.from.map(Epoch::get))
    }

    pub(super) fn did(&mut self) -> Vec<Action> {
        let mut done = std::mem::take(&mut self.done);
        done.retain(|action| !matches!(action, Action::Remember(_)));
        done
    }

    pub(super) fn phase(&self) -> &Phase {
        self.protocol.phase()
    }
}

/// Waits for epoch 1.
pub(super) fn waiting(id: &str) -> Story {
    let mut story = Story::new(id, None);
    story.looked(claim_of(1, "old"), None).claimed();
    assert!(matches!(story.phase(), Phase::Waiting { .. }), "{:?}", story.phase());
    story
}

/// Owns epoch 2, taken over from epoch 1.
pub(super) fn owner(id: &str) -> Story {
    let mut story = waiting(id);
    story.watched(Some(release_of(1, "old", How::HandedOver, End::At(at(9)), None)), false);
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(9)) }]);
    story.event(Event::CaughtUp).watched(None, false);
    assert_eq!(story.did(), [Action::Start]);
    story
}

pub(super) fn retired(id: &str) -> Story {
    let mut story = owner(id);
    story.watched(None, true);
    assert_eq!(story.did(), [Action::StopApp]);
    assert!(matches!(story.request(), Request::Answer(_)));
    story.reply(Reply::Written).event(Event::Flushed(End::At(at(12))));
    assert_eq!(story.release(), (How::HandedOver, &End::At(at(12)), Some(1)));
    story.reply(Reply::Written);
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(3), cursor: epoch(3) });
    story
}

#[test]
fn the_first_one_waits_for_nobody() {
    let mut story = Story::new("new", None);
    story.reply(Reply::Looked(None)).claimed();
    assert_eq!(story.did(), [Action::CatchUp { to: None }]);
    story.event(Event::CaughtUp);
    assert_eq!(story.did(), [], "one more look before the start");
    story.watched(None, false);
    assert_eq!(story.did(), [Action::Start]);
}

#[test]
fn a_lost_claim_looks_again_and_a_failed_one_is_repeated() {
    let mut story = Story::new("new", None);
    story.reply(Reply::Looked(None)).reply(Reply::Failed).reply(Reply::Claimed { ours: false });
    assert_eq!(*story.request(), Request::Look);
    story.looked(claim_of(1, "other"), None);
    assert!(matches!(story.request(), Request::Claim(claim) if claim.epoch == epoch(2)));
}

#[test]
fn a_late_answer_counts_for_nothing() {
    let mut story = waiting("new");
    let (serial, _) = story.asked.take().unwrap();
    story.event(Event::Stop);
    let before = story.phase().clone();
    let release = Some(release_of(1, "old", How::HandedOver, End::At(at(9)), None));
    let reply = Reply::Watched(Watched { release, ..Watched::default() });
    story.event(Event::Answered { serial, reply });
    assert_eq!(*story.phase(), before);
}

#[test]
fn the_wait_ends_in_a_fence_but_only_after_one_more_look() {
    let mut story = waiting("new");
    story.now += Duration::from_secs(60);
    story.event(Event::Tick);
    assert!(matches!(story.phase(), Phase::Waiting { .. }), "it was frozen: it looks first");
    story.watched(None, false);
    assert_eq!(*story.request(), Request::Fence);
    story.reply(Reply::Failed).reply(Reply::Fenced(at(10)));
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(10)) }]);
}

#[test]
fn the_release_is_looked_for_often() {
    let rules = Rules { wait: Some(Duration::from_secs(3600)), poll: Some(Duration::from_secs(30)), ..RULES };
    let mut story = Story::with("b", None, rules);
    story.looked(claim_of(1, "a"), None).claimed();
    for (at, answered, pause) in
        [(0, false, 100), (59, false, 100), (61, false, 2000), (100, true, 100), (900, true, 100)]
    {
        story.now = story.now.max(Duration::from_secs(at));
        story.event(Event::Tick);
        let answer = answered.then(|| Answer { epoch: epoch(1), within: Duration::from_secs(9) });
        story.reply(Reply::Watched(Watched { answer: answer.clone(), ..Watched::default() }));
        story.event(Event::Tick);
        // The answer counts from the next look on.
        story.reply(Reply::Watched(Watched { answer, ..Watched::default() }));
        assert_eq!(
            story.protocol.wakes_at().map(|at| at - story.now),
            Some(Duration::from_millis(pause)),
            "{at} s"
        );
    }
}

#[test]
fn an_owner_that_answers_gets_its_grace() {
    let mut story = waiting("new");
    let answer = Some(Answer { epoch: epoch(1), within: Duration::from_secs(20) });
    story.reply(Reply::Watched(Watched { answer, ..Watched::default() }));
    story.now = Duration::from_secs(29);
    story.watched(None, false);
    assert!(matches!(story.phase(), Phase::Waiting { .. }));
    story.now = Duration::from_secs(31);
    story.watched(None, false);
    assert_eq!(*story.phase(), Phase::Fencing);
}

#[test]
fn an_unproven_release_is_fenced_without_a_wait() {
    let mut story = waiting("new");
    story.watched(Some(release_of(1, "old", How::Stopped, End::Unproven, None)), false);
    assert_eq!(*story.phase(), Phase::Fencing);
}

#[test]
fn one_that_is_asked_while_it_waits_never_starts() {
    let mut story = waiting("new");
    let release = Some(release_of(1, "old", How::HandedOver, End::At(at(9)), None));
    story.watched(release, true);
    assert_eq!(story.release(), (How::Withdrawn, &End::Untouched, Some(1)));
    story.reply(Reply::Written);
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(3), cursor: epoch(3) });
    assert_eq!(story.did(), []);
    // It never served: it resumes for nobody.
    story.watched(Some(release_of(3, "x", How::FailedStart, End::At(at(9)), Some(2))), false);
    assert!(matches!(story.phase(), Phase::Retired { .. }));
}

#[test]
fn one_that_is_asked_behind_its_fence_says_where_it_stands() {
    let mut story = waiting("new");
    story.now = Duration::from_secs(10);
    story.watched(None, false).reply(Reply::Fenced(at(10)));
    story.watched(None, true);
    assert_eq!(story.release(), (How::Withdrawn, &End::At(at(10)), Some(1)));
}

#[test]
fn a_waiter_walks_back_over_those_that_withdrew() {
    let mut story = Story::new("new", None);
    story
        .looked(claim_of(5, "d"), Some(release_of(5, "d", How::Withdrawn, End::Untouched, Some(3))))
        .claimed();
    story.watched(Some(release_of(5, "d", How::Withdrawn, End::Untouched, Some(3))), false);
    assert!(matches!(story.phase(), Phase::Waiting { predecessor, .. } if *predecessor == epoch(3)));
    story.watched(Some(release_of(3, "c", How::HandedOver, End::At(at(4)), Some(2))), false);
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(4)) }]);
}

#[test]
fn how_an_owner_ends() {
    let past = RULES.trial + Duration::from_secs(1);
    let early = Duration::from_secs(1);
    for (event, after, how, outcome) in [
        (Event::StartFailed, early, How::FailedStart, Outcome::StartFailed),
        (Event::Stop, early, How::Cancelled, Outcome::Stopped),
        (Event::Stop, past, How::Stopped, Outcome::Stopped),
    ] {
        let mut story = owner("new");
        story.now += after;
        story.event(event.clone()).event(Event::Flushed(End::At(at(12))));
        assert_eq!(story.release(), (how, &End::At(at(12)), Some(1)), "{event:?}");
        story.reply(Reply::Failed).reply(Reply::Written);
        assert_eq!(story.did().last(), Some(&Action::Finish(outcome)));
    }
}

#[test]
fn a_flush_that_is_not_proven_is_told() {
    let mut story = owner("new");
    story.event(Event::Stop).event(Event::Flushed(End::Unproven));
    assert_eq!(story.release().1, &End::Unproven);
}

#[test]
fn a_stopping_owner_answers_the_one_that_asks() {
    let mut story = owner("new");
    story.event(Event::Stop).watched(None, true);
    assert!(matches!(story.request(), Request::Answer(_)));
}

#[test]
fn a_fenced_owner_stays_if_it_was_asked_and_ends_if_not() {
    for (asked, phase) in
        [(true, Phase::Retired { newest: epoch(3), cursor: epoch(3) }), (false, Phase::Done(Outcome::Fenced))]
    {
        let mut story = owner("new");
        story.event(Event::Fenced);
        assert_eq!(story.did(), [Action::StopApp]);
        story.event(Event::Flushed(End::At(at(12))));
        assert_eq!(story.release(), (How::Fenced, &End::Unproven, Some(1)));
        story.reply(Reply::Written).watched(None, asked);
        assert_eq!(*story.phase(), phase);
    }
}

#[test]
fn the_one_before_resumes_after_an_undone_deploy() {
    for (how, resumes) in [
        (How::FailedStart, true),
        (How::Withdrawn, true),
        (How::Cancelled, true),
        (How::Stopped, false),
        (How::FailedResume, false),
        (How::Fenced, false),
        (How::Other, false),
    ] {
        let mut story = retired("old");
        story.watched(Some(release_of(3, "new", how, End::At(at(13)), Some(2))), false);
        assert_eq!(matches!(story.phase(), Phase::Claiming { .. }), resumes, "{how:?}");
    }
    let mut story = retired("old");
    let failed = release_of(3, "new", How::FailedStart, End::At(at(13)), Some(2));
    story.watched(Some(failed.clone()), false);
    let Request::Claim(claim) = story.request() else { panic!("{:?}", story.asked) };
    assert_eq!(
        (claim.reason, claim.epoch, &claim.failed),
        (Reason::Resume, epoch(4), &Some(instance("new")))
    );
    story.claimed().watched(Some(failed), false).event(Event::CaughtUp).watched(None, false);
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(13)) }, Action::Start]);
    // Once: if this one fails, too, nobody resumes.
    story.event(Event::StartFailed).event(Event::Flushed(End::At(at(13))));
    assert_eq!(story.release().0, How::FailedResume);
}

#[test]
fn only_the_one_that_was_replaced_resumes() {
    // Epoch 3 was asked while it waited for epoch 2; epoch 4 has failed and names 3, which names 2.
    let mut story = retired("old");
    story.watched(None, true);
    story.watched(Some(release_of(4, "new", How::FailedStart, End::At(at(13)), Some(3))), false);
    story.watched(Some(release_of(3, "mid", How::Withdrawn, End::Untouched, Some(2))), false);
    assert!(matches!(story.phase(), Phase::Claiming { .. }), "{:?}", story.phase());
    // If epoch 3 has served, it is the one that resumes.
    let mut story = retired("old");
    story.watched(None, true);
    story.watched(Some(release_of(4, "new", How::FailedStart, End::At(at(13)), Some(3))), false);
    story.watched(Some(release_of(3, "mid", How::HandedOver, End::At(at(12)), Some(2))), false);
    assert!(matches!(story.phase(), Phase::Retired { .. }));
}

#[test]
fn a_new_deploy_comes_before_a_resume() {
    let mut story = retired("old");
    let failed = release_of(3, "new", How::FailedStart, End::At(at(13)), Some(2));
    story.watched(Some(failed.clone()), true);
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(4), cursor: epoch(4) });
    let mut story = retired("old");
    story.watched(Some(failed), false).reply(Reply::Claimed { ours: false });
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(4), cursor: epoch(4) });
    story.event(Event::Stop);
    assert_eq!(story.did(), [Action::Finish(Outcome::Stopped)]);
}

fn life(id: &str, number: u64, released: bool) -> Life {
    Life { instance: instance(id), epoch: epoch(number), from: Some(epoch(number - 1)), released }
}

#[test]
fn the_last_life_on_this_machine_costs_no_wait() {
    for (confirmed, tentative, home, waits) in [
        (Some(life("a", 4, false)), None, Some(4), false),
        // It only wanted to continue a life that had started its app.
        (Some(life("a", 3, false)), Some(life("b", 4, false)), Some(3), false),
        // It never started: the one before it may still run.
        (Some(life("a", 4, false)), None, None, true),
        (None, Some(life("a", 4, false)), None, true),
    ] {
        let id = tentative.as_ref().or(confirmed.as_ref()).unwrap().instance.id.clone();
        let last = LastLife { confirmed, tentative, home: home.map(epoch) };
        let mut story = Story::new("again", Some(last));
        story.looked(claim_of(4, &id), None).claimed();
        let to_start = story.did() == [Action::CatchUp { to: None }];
        assert_eq!(to_start, !waits);
        if waits {
            assert!(matches!(story.phase(), Phase::Waiting { predecessor, .. } if *predecessor == epoch(3)));
        }
    }
}

/// The one that asked has withdrawn meanwhile. The platform does not name revisions.
#[test]
fn the_walk_back_to_the_last_life_on_this_machine_costs_no_wait_either() {
    for (home, waits) in [(Some(epoch(4)), false), (None, true)] {
        let mut confirmed = life("a", 4, false);
        confirmed.instance.revision = None;
        let mut story =
            Story::new("again", Some(LastLife { confirmed: Some(confirmed), tentative: None, home }));
        let withdrawn = release_of(5, "b", How::Withdrawn, End::Untouched, Some(4));
        story.looked(claim_of(5, "b"), None).claimed().watched(Some(withdrawn), false).watched(None, false);
        assert_eq!(story.did() == [Action::CatchUp { to: None }], !waits);
        if waits {
            assert!(matches!(story.phase(), Phase::Waiting { predecessor, .. } if *predecessor == epoch(3)));
        }
    }
}

#[test]
fn a_killed_owner_that_was_asked_does_not_take_its_place_back() {
    let last = |released| {
        Some(LastLife { confirmed: Some(life("a", 4, released)), tentative: None, home: Some(epoch(4)) })
    };
    let mut story = Story::new("again", last(false));
    story.looked(claim_of(5, "new"), None).watched(None, false);
    assert_eq!(story.did(), [Action::Flush]);
    story.reply(Reply::Written).event(Event::Flushed(End::At(at(9))));
    assert_eq!(story.release(), (How::HandedOver, &End::At(at(9)), Some(3)));
    story.reply(Reply::Written);
    assert!(matches!(story.phase(), Phase::Retired { .. }));
    // The reply to its release was lost.
    let mut story = Story::new("again", last(false));
    story.looked(claim_of(5, "new"), None);
    story.watched(Some(release_of(4, "a", How::FailedStart, End::At(at(9)), Some(3))), false);
    assert_eq!(
        (story.did(), story.phase()),
        (vec![], &Phase::Retired { newest: epoch(5), cursor: epoch(5) })
    );
    let mut story = Story::new("again", last(true));
    story.looked(claim_of(5, "new"), None);
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(5), cursor: epoch(5) });
    // Another deploy on the same disk is a new one.
    let mut story = Story::new("newer", last(false));
    story.looked(claim_of(5, "x"), None);
    assert!(matches!(story.phase(), Phase::Claiming { .. }));
}

#[test]
fn a_deploy_that_has_failed_does_not_come_back_while_the_one_before_serves() {
    let resumed = Claim { reason: Reason::Resume, failed: Some(instance("new")), ..claim_of(4, "old") };
    let mut story = Story::new("nth", None);
    story.looked(resumed.clone(), None);
    assert!(matches!(story.phase(), Phase::HeldOff { .. }));
    story.watched(None, false);
    assert!(matches!(story.phase(), Phase::HeldOff { .. }));
    let stopped = release_of(4, "old", How::Stopped, End::At(at(9)), None);
    story.watched(Some(stopped.clone()), false).looked(resumed.clone(), Some(stopped));
    assert!(matches!(story.phase(), Phase::Claiming { .. }));
    let mut story = Story::new("fixed", None);
    story.looked(resumed, None);
    assert!(matches!(story.phase(), Phase::Claiming { .. }), "another deploy asks");
}
