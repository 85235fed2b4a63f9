//! How long an instance waits: for its first request, for the one before it to serve again, and for the end
//! of its trial.

use super::bucket::at;
use super::machine::RULES;
use super::rules::{Story, claim_of, epoch, owner, release_of};
use crate::handover::protocol::*;
use crate::handover::record::*;

/// With an early gate.
#[test]
fn the_owner_is_asked_when_the_traffic_has_moved() {
    let begun = || {
        let mut story = Story::with("new", None, Rules { courteous: true, ..RULES });
        story.looked(claim_of(1, "old"), None);
        assert!(matches!(story.phase(), Phase::Courteous { .. }), "{:?}", story.phase());
        story
    };
    let asks = |story: &mut Story| {
        story.looked(claim_of(1, "old"), None);
        matches!(story.phase(), Phase::Claiming { .. })
    };
    let mut story = begun();
    story.watched(None, false);
    assert!(matches!(story.phase(), Phase::Courteous { .. }), "{:?}", story.phase());
    assert!(asks(story.event(Event::Traffic)), "the first request waits");
    let mut story = begun();
    story.now += RULES.wait.unwrap();
    assert!(asks(story.watched(None, false)), "none comes");
    let mut story = begun();
    let over = release_of(1, "old", How::Stopped, End::At(at(9)), None);
    story.watched(Some(over.clone()), false).looked(claim_of(1, "old"), Some(over));
    assert!(matches!(story.phase(), Phase::Claiming { .. }), "the platform has stopped the owner");
    let mut story = Story::with("new", None, Rules { courteous: true, ..RULES });
    story.reply(Reply::Looked(None));
    assert!(matches!(story.phase(), Phase::Claiming { .. }), "there is nobody to be courteous to");
    let mut story = Story::with("new", None, Rules { courteous: true, ..RULES });
    story.event(Event::Traffic);
    assert!(asks(&mut story), "it came before");
}

#[test]
fn a_crash_loop_gives_the_one_before_the_time_to_resume() {
    let failed = release_of(3, "new", How::FailedStart, End::At(at(9)), Some(2));
    let mut story = Story::new("nth", None);
    story.looked(claim_of(3, "new"), Some(failed.clone()));
    story.watched(Some(failed.clone()), false);
    assert!(matches!(story.phase(), Phase::HeldOff { .. }));
    story.now += RULES.wait.unwrap();
    story.watched(Some(failed.clone()), false).looked(claim_of(3, "new"), Some(failed));
    assert!(matches!(story.phase(), Phase::Claiming { .. }), "nobody has resumed");
}

/// Of what failed while this process was frozen, it hears before a reply that it has asked for afterwards.
#[test]
fn the_trial_is_stood_when_a_later_look_is_answered() {
    let mut story = owner("new");
    story.now = story.protocol.wakes_at().unwrap();
    story.event(Event::Tick);
    story.now += RULES.trial * 2;
    story.watched(None, false);
    assert_eq!(story.protocol.settled(), None, "it was asked within the trial");
    story.watched(None, false);
    assert_eq!(story.protocol.settled(), Some(epoch(2)));
}
