//! Frozen past the grace: every point has passed when this process goes on.

use super::*;

/// A freeze longer than any grace.
fn freeze(run: &mut Run) -> Instant {
    run.now += Duration::from_secs(3_600);
    run.now
}

#[test]
fn the_last_flush_is_tried_again() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "stop", "flushed", "exited", "nobody"]);
    let thaw = freeze(&mut run);
    assert!(run.sleep());
    assert_eq!(run.done.last(), Some(&"finish-again"));
    let until = run.state.as_ref().unwrap().deadline().unwrap();
    assert!(until > thaw && until - thaw < RULES.grace);
    // The first try's answer comes late, and says nothing about the second.
    run.tell(&["unfinished"]);
    assert_eq!(run.outcome(), None);
    run.tell(&["finished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
}

#[test]
fn it_is_tried_again_once() {
    for last in [vec!["unfinished", "unfinished"], vec!["unfinished", "deadline"], vec!["deadline"]] {
        let mut run = Run::new();
        run.tell(&["restored", "spawned", "stop", "flushed", "exited", "nobody"]);
        freeze(&mut run);
        run.sleep();
        freeze(&mut run);
        run.tell(&last);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), false, false), "{last:?}");
        assert_eq!(run.done.iter().filter(|done| **done == "finish-again").count(), 1);
    }
}

#[test]
fn an_app_that_was_frozen_with_us_is_killed_before_it_is_given_up() {
    for before in [vec!["restored", "spawned", "stop"], vec!["restored", "spawned", "stop", "flushed"]] {
        let mut run = Run::new();
        run.tell(&before);
        let thaw = freeze(&mut run);
        while run.done.last() != Some(&"kill") {
            assert!(run.sleep());
        }
        assert!(run.done.contains(&"TERM"), "{:?}", run.done);
        run.tell(&["exited", "nobody"]);
        assert_eq!(run.done.last(), Some(&"finish"), "{:?}", run.done);
        run.tell(&["finished"]);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
        assert!(run.now - thaw < Duration::from_secs(1));
    }
}

#[test]
fn what_is_left_of_it_is_killed_before_it_is_given_up() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "stop", "flushed", "exited"]);
    freeze(&mut run);
    run.sleep();
    assert_eq!(run.done.last(), Some(&"kill-rest"));
    run.tell(&["nobody"]);
    assert_eq!(run.done.last(), Some(&"finish"));
}
