//! Instances that stand by, and an operator's requests, in short stories.

use super::bucket::at;
use super::machine::{HEARTBEAT, RULES};
use super::rules::{Story, claim_of, epoch, owner, release_of, retired, waiting};
use crate::handover::protocol::*;
use crate::handover::record::*;
use std::time::Duration;

const STANDBY: Rules = Rules { standby: true, ..RULES };

fn beating(number: u64, id: &str) -> Claim {
    Claim { heartbeat: Some(HEARTBEAT), ..claim_of(number, id) }
}

/// Stands by for the owner of epoch 1, whose third heartbeat is the newest.
fn standby() -> Story {
    let mut story = Story::with("new", None, STANDBY);
    story.looked(beating(1, "old"), None);
    assert_eq!(beat_of(&story), Some(Beat::Newest(epoch(1))));
    beat(&mut story, Some(3));
    story
}

fn beat_of(story: &Story) -> Option<Beat> {
    let Request::Watch(watch) = story.request() else { panic!("{:?}", story.request()) };
    watch.beat_of
}

fn beat(story: &mut Story, beat: Option<u64>) {
    story.reply(Reply::Watched(Watched { beat, ..Watched::default() }));
}

/// Nothing is heard for this time.
fn silence(story: &mut Story, time: Duration) {
    let until = story.now + time;
    while story.now < until && matches!(story.phase(), Phase::Standby(_)) {
        beat(story, None);
    }
}

fn stands_by(story: &Story) -> bool {
    matches!(story.phase(), Phase::Standby(_))
}

fn claims(story: &Story) -> u64 {
    match story.request() {
        Request::Claim(claim) => claim.epoch.get(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_standby_asks_for_nothing_while_the_owner_lives() {
    let mut story = standby();
    for number in 4..500 {
        silence(&mut story, HEARTBEAT * 2);
        assert!(stands_by(&story), "two missing heartbeats are none too many: {:?}", story.phase());
        beat(&mut story, Some(number));
    }
    assert_eq!(story.did(), []);
    // Without heartbeats it waits for ever.
    let mut story = Story::with("new", None, STANDBY);
    story.looked(claim_of(1, "old"), None);
    assert_eq!(beat_of(&story), None);
    silence(&mut story, Duration::from_secs(86_400));
    assert!(stands_by(&story));
}

#[test]
fn three_missing_heartbeats_and_a_listing_end_an_owner() {
    let mut story = standby();
    let begun = story.now;
    silence(&mut story, HEARTBEAT * 4);
    assert_eq!(claims(&story), 2);
    let took = story.now - begun;
    assert!(took >= HEARTBEAT * 3 && took < HEARTBEAT * 3 + HEARTBEAT / 2, "{took:?}");
    // The owner has had its time: no further wait, unless it answers now.
    story.claimed().watched(None, false);
    assert_eq!(*story.phase(), Phase::Fencing);
    let mut story = standby();
    silence(&mut story, HEARTBEAT * 4);
    let answer = Some(Answer { epoch: epoch(1), within: Duration::from_secs(3) });
    story.claimed().reply(Reply::Watched(Watched { answer, ..Watched::default() }));
    assert!(matches!(story.phase(), Phase::Waiting { answered: true, .. }), "{:?}", story.phase());
    story.watched(Some(release_of(1, "old", How::HandedOver, End::At(at(9)), None)), false);
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(9)) }]);
}

/// The numbers that came meanwhile are deleted again: only the listing shows them.
#[test]
fn a_standby_that_was_frozen_does_not_take_over() {
    let mut story = standby();
    loop {
        story.now += HEARTBEAT * 100;
        story.event(Event::Tick);
        if beat_of(&story) == Some(Beat::Newest(epoch(1))) {
            break;
        }
        beat(&mut story, None);
    }
    beat(&mut story, Some(900));
    assert!(stands_by(&story));
    silence(&mut story, HEARTBEAT * 2);
    assert!(stands_by(&story), "{:?}", story.phase());
}

/// Neither does one whose store is away: the owner cannot write heartbeats then either.
#[test]
fn only_replies_are_counted() {
    let mut story = standby();
    silence(&mut story, HEARTBEAT * 2);
    for _ in 0..1000 {
        story.reply(Reply::Failed);
    }
    silence(&mut story, HEARTBEAT / 2);
    assert!(stands_by(&story), "{:?}", story.phase());
}

#[test]
fn one_of_two_standbys_gets_the_claim() {
    let mut story = standby();
    silence(&mut story, HEARTBEAT * 4);
    story.reply(Reply::Claimed { ours: false }).looked(beating(2, "x"), None);
    assert!(stands_by(&story), "{:?}", story.phase());
    // The next claim waits for the owner as any other.
    let release = Some(release_of(2, "x", How::Stopped, End::At(at(9)), Some(1)));
    story.watched(release.clone(), false).looked(beating(2, "x"), release);
    assert_eq!(claims(&story), 3);
    story.claimed();
    assert!(matches!(story.phase(), Phase::Waiting { until: Some(until), .. } if *until > story.now));
}

#[test]
fn a_standby_leaves_a_failed_deploy_to_the_owner_before_it() {
    for how in [How::FailedStart, How::Cancelled] {
        let mut story = standby();
        story.watched(None, true);
        let failed = release_of(2, "x", how, End::At(at(9)), Some(1));
        story.looked(beating(2, "x"), Some(failed.clone()));
        assert!(matches!(story.phase(), Phase::HeldOff { .. }), "{:?}", story.phase());
        story.watched(Some(failed.clone()), false);
        story.now += RULES.wait.unwrap();
        story.watched(Some(failed.clone()), false).looked(beating(2, "x"), Some(failed));
        assert_eq!(claims(&story), 3, "nobody serves");
    }
}

/// The owner before serves again at once if the deploy fails, and stands by once it has stood its trial.
#[test]
fn a_retired_standby_stands_by_again() {
    let retired = || {
        let mut story = standby();
        let over = Some(release_of(1, "old", How::Stopped, End::At(at(9)), None));
        story
            .watched(over.clone(), false)
            .looked(beating(1, "old"), over.clone())
            .claimed()
            .watched(over, false);
        story.event(Event::CaughtUp).watched(None, false);
        assert!(matches!(story.phase(), Phase::Owner { .. }), "{:?}", story.phase());
        story
            .watched(None, true)
            .event(Event::Flushed(End::At(at(12))))
            .reply(Reply::Written)
            .reply(Reply::Written);
        assert!(matches!(story.phase(), Phase::Retired { .. }), "{:?}", story.phase());
        story.did();
        story
    };
    let mut story = retired();
    story.watched(Some(release_of(3, "x", How::FailedStart, End::At(at(12)), Some(2))), false);
    assert_eq!(claims(&story), 4);
    let mut story = retired();
    let stopped = Some(release_of(3, "x", How::Stopped, End::At(at(14)), Some(2)));
    story.watched(stopped.clone(), false).looked(beating(3, "x"), stopped);
    assert_eq!(claims(&story), 4);
    let mut story = retired();
    story.now += RULES.trial + RULES.wait.unwrap();
    story.watched(None, false).looked(beating(3, "x"), None);
    beat(&mut story, Some(1));
    silence(&mut story, HEARTBEAT * 4);
    assert_eq!(claims(&story), 4);
}

#[test]
fn a_promotion_asks_the_owner_and_by_force_fences_it() {
    let mut story = standby();
    story.event(Event::Promote { force: false }).looked(beating(1, "old"), None);
    assert_eq!(claims(&story), 2);
    story.claimed();
    assert!(matches!(story.phase(), Phase::Waiting { until: Some(until), .. } if *until > story.now));
    story.event(Event::Promote { force: false });
    assert!(matches!(story.phase(), Phase::Waiting { .. }));
    story.event(Event::Promote { force: true });
    assert_eq!(*story.phase(), Phase::Fencing);
    let mut story = standby();
    story.event(Event::Promote { force: true }).looked(beating(1, "old"), None).claimed();
    assert_eq!(*story.phase(), Phase::Fencing);
    // Of a retired one, also without `standby`, and of one that was held off.
    let mut story = retired("old");
    story.event(Event::Promote { force: false }).looked(claim_of(3, "new"), None);
    assert_eq!(claims(&story), 4);
    // The force was meant for an owner that another instance has asked meanwhile.
    let mut story = standby();
    story.event(Event::Promote { force: true }).looked(beating(1, "old"), None);
    story.reply(Reply::Claimed { ours: false }).looked(beating(2, "x"), None).claimed();
    assert!(matches!(story.phase(), Phase::Waiting { .. }), "{:?}", story.phase());
}

#[test]
fn an_owner_lets_go_for_whichever_instance_comes() {
    let let_go = || {
        let mut story = owner("new");
        story.event(Event::LetGo);
        assert_eq!(story.did(), [Action::StopApp]);
        story.event(Event::Flushed(End::At(at(12))));
        assert_eq!(story.release(), (How::HandedOver, &End::At(at(12)), Some(1)));
        story.reply(Reply::Written).watched(None, false);
        assert!(matches!(story.phase(), Phase::LetGo { .. }), "{:?}", story.phase());
        story
    };
    let mut story = let_go();
    story.watched(None, true);
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(3), cursor: epoch(3) });
    // No instance comes: it serves again.
    let mut story = let_go();
    story.now += RULES.trial.max(RULES.wait.unwrap());
    story.watched(None, false);
    assert_eq!(claims(&story), 3);
    story.claimed().watched(Some(release_of(2, "new", How::HandedOver, End::At(at(12)), Some(1))), false);
    assert_eq!(story.did(), [Action::CatchUp { to: Some(at(12)) }]);
    // One comes at the last moment.
    let mut story = let_go();
    story.now += RULES.trial.max(RULES.wait.unwrap());
    story.watched(None, false).reply(Reply::Claimed { ours: false });
    assert_eq!(*story.phase(), Phase::Retired { newest: epoch(3), cursor: epoch(3) });
    // At once, by an operator.
    let mut story = let_go();
    let release = Some(release_of(2, "new", How::HandedOver, End::At(at(12)), Some(1)));
    story.event(Event::Promote { force: false }).looked(claim_of(2, "new"), release);
    assert_eq!(claims(&story), 3);
    // It was fenced while it stopped: that is no letting go.
    let mut story = owner("new");
    story
        .event(Event::LetGo)
        .event(Event::Fenced)
        .event(Event::Flushed(End::At(at(12))))
        .reply(Reply::Written);
    assert_eq!(*story.phase(), Phase::Judging);
    // One that does not own it has nothing to let go.
    let mut story = waiting("new");
    story.event(Event::LetGo);
    assert!(matches!(story.phase(), Phase::Waiting { .. }));
}

/// A killed owner that comes back finds the standby in its place, and stands by for it.
#[test]
fn the_old_owner_comes_back_as_the_standby() {
    let life = Life { instance: claim_of(1, "old").instance, epoch: epoch(1), from: None, released: false };
    let last = LastLife { confirmed: Some(life), tentative: None, home: Some(epoch(1)) };
    let mut story = Story::with("xagain", Some(last.clone()), STANDBY);
    story.looked(beating(2, "new"), None);
    assert!(stands_by(&story), "{:?}", story.phase());
    // Nobody has taken its place: it goes on.
    let mut story = Story::with("xagain", Some(last), STANDBY);
    story.looked(beating(1, "old"), None);
    assert_eq!(claims(&story), 2);
}
