//! The commands of a setup: their cells, and what ends them.

use super::*;

pub(super) const TABLE: [(&str, &str, &str, &str); 22] = [
    ("restore", "setup-due", "setup", "set-up"),
    ("wait", "setup-due", "setup", "set-up"),
    ("standby", "setup-due", "setup", "set-up"),
    ("catch-up", "setup-due", "setup", "set-up"),
    ("abandon", "setup-due", "done", ""),
    ("setup", "exited", "clear", "ask-all"),
    ("setup", "not-spawned", "clear", "ask-all"),
    ("setup", "failed", "clear", "ask-all"),
    ("setup", "stop", "stop", "TERM"),
    ("setup", "fenced", "stop", "TERM"),
    ("setup", "claimed", "stop", "TERM"),
    ("setup", "other", "setup", "forward"),
    ("setup", "asked", "setup", "refuse"),
    ("setup-keeping", "setup-kept", "start", "start"),
    ("setup-keeping", "not-spawned", "clear", "ask-all"),
    ("setup-keeping", "failed", "clear", "ask-all"),
    ("setup-keeping", "lost", "clear", "ask-all"),
    ("setup-keeping", "stop", "clear", "ask-all"),
    ("setup-keeping", "fenced", "clear", "ask-all"),
    ("setup-keeping", "claimed", "clear", "ask-all"),
    ("setup-keeping", "other", "setup", "note"),
    ("setup-keeping", "asked", "setup", "refuse"),
];

fn well(run: &mut Run) {
    run.event(Event::AppExited(AppExit::Code(0)));
}

#[test]
fn all_commands_succeed_before_anything_is_kept() {
    let mut run = Run::new();
    run.tell(&["setup-due", "spawned"]);
    well(&mut run);
    run.tell(&["spawned"]);
    assert_eq!(run.done, ["set-up", "set-up"]);
    well(&mut run);
    assert_eq!(run.done.last(), Some(&"keep-setup"));
    // Nothing was forgotten of the stop that follows.
    run.tell(&["other", "setup-kept", "spawned", "stop", "flushed", "exited", "nobody", "finished"]);
    assert_eq!(run.outcome(), done(Ending::App(EXIT), true, false));
    assert_eq!(run.done[3..], ["note", "start", "flush", "TERM", "ask-others", "finish"]);
}

#[test]
fn a_command_that_fails_is_the_end_and_keeps_nothing() {
    for (before, release) in [("restore", "finish"), ("catch-up", "finish-failed")] {
        let mut run = Run::new();
        run.state = Some(state(before, run.now));
        run.tell(&["setup-due", "spawned"]);
        well(&mut run);
        run.tell(&["spawned", "exited", "nobody", "finished"]);
        assert_eq!(run.outcome(), done(Ending::SetupFailed(EXIT), true, false));
        assert_eq!(run.done, ["set-up", "set-up", "ask-all", release]);
    }
}

/// A success that comes during the stop is none: the commands after it did not run.
#[test]
fn a_stop_ends_the_command_within_the_grace_and_keeps_nothing() {
    let mut run = Run::new();
    run.tell(&["setup-due", "spawned", "stop"]);
    let start = run.now;
    run.sleep();
    assert_eq!((run.now - start, run.done.last()), (RULES.app_timeout, Some(&"kill")));
    well(&mut run);
    run.tell(&["nobody", "finished"]);
    assert!(run.outcome().is_some() && !run.done.contains(&"keep-setup"), "{:?}", run.done);
    // The hand-over is a stop, too; the instance stays as it does without a setup.
    let mut run = Run::new();
    run.tell(&["setup-due", "spawned", "claimed", "exited", "nobody", "finished"]);
    assert!(matches!(run.state, Some(State::Retired)), "{:?}", run.state);
    assert_eq!(run.done, ["set-up", "TERM", "ask-others", "finish-handed-over", "retire"]);
}
