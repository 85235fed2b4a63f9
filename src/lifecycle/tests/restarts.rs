//! The app's further history, as sequences of events.

use super::*;

#[test]
fn an_app_that_fails_is_started_again_until_the_limit() {
    let mut run = Run::with(always());
    run.tell(&["restored", "spawned"]);
    for delay in [1, 2, 4, 8, 16] {
        run.tell(&["exited", "nobody"]);
        let ended = run.now;
        assert_eq!(run.done.last(), Some(&"later"));
        assert!(run.sleep());
        assert_eq!((run.now - ended, run.done.last()), (Duration::from_secs(delay), Some(&"restart")));
        run.tell(&["spawned"]);
    }
    run.tell(&["exited"]);
    assert_eq!(run.done.last(), Some(&"enough"));
    run.tell(&["nobody", "finished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
}

#[test]
fn the_rest_of_a_dead_app_is_ended_before_its_next_start() {
    let mut run = Run::with(always());
    run.tell(&["restored", "spawned", "exited"]);
    while run.done.last() != Some(&"kill-life") {
        assert!(run.sleep());
    }
    run.tell(&["life-over"]);
    assert!(run.sleep());
    assert_eq!(run.done.last(), Some(&"restart"));
    // And when it cannot be ended, there is no next start.
    let mut run = Run::with(always());
    run.tell(&["restored", "spawned", "exited"]);
    while run.sleep() {}
    assert_eq!(run.outcome(), done(Ending::App(EXIT), false, false));
    assert!(!run.done.contains(&"restart"), "{:?}", run.done);
}

#[test]
fn a_stop_ends_it_wherever_it_comes() {
    for before in [vec!["exited", "stop", "nobody"], vec!["exited", "nobody", "stop", "nobody"]] {
        let mut run = Run::with(always());
        run.tell(&["restored", "spawned"]).tell(&before);
        let left = run.state.as_ref().unwrap().deadline().unwrap() - run.now;
        assert!(left <= RULES.grace, "{before:?}: the flush has {left:?}");
        run.tell(&["finished"]);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false), "{before:?}");
        assert!(!run.done.contains(&"restart"));
    }
    let mut run = Run::with(always());
    run.tell(&["restored", "spawned", "stop", "flushed", "exited", "nobody", "finished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false), "ended as it was asked to");
}

#[test]
fn without_replication_nothing_is_started_again() {
    for before in [vec!["lost", "exited"], vec!["exited", "lost"], vec!["exited", "nobody", "lost"]] {
        let mut run = Run::with(always());
        run.tell(&["restored", "spawned"]).tell(&before).tell(&["nobody", "lost"]);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), false, false), "{before:?}");
    }
    for before in [vec!["exited", "fenced"], vec!["exited", "nobody", "fenced"]] {
        let mut run = Run::with(always());
        run.tell(&["restored", "spawned"]).tell(&before).tell(&["nobody", "finished"]);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), true, true), "{before:?}");
    }
}

/// A process that entered from outside stays for the next life, and must go before the last flush.
#[test]
fn a_stop_in_between_ends_everybody() {
    let mut run = Run::with(always());
    run.tell(&["restored", "spawned", "exited", "stop", "life-over", "nobody", "finished"]);
    assert_eq!(run.done, ["start", "ask-life", "kill-rest", "kill-rest", "finish"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
}
