//! A restore in place that was asked for: its cells, and what becomes of it when a stop comes in between.

use super::*;

pub(super) const TABLE: [(&str, &str, &str, &str); 36] = [
    // Only while the app runs, or waits to be started planned.
    ("run", "asked", "pre-sync", "flush"),
    ("back-off", "asked", "reinstall", "reinstall"),
    ("restore", "asked", "restore", "refuse"),
    ("abandon", "asked", "abandon", "refuse"),
    ("start", "asked", "start", "refuse"),
    ("pre-sync", "asked", "pre-sync", "refuse"),
    ("stop", "asked", "stop", "refuse"),
    ("clear", "asked", "clear", "refuse"),
    ("clear-again", "asked", "clear", "refuse"),
    ("flush", "asked", "flush", "refuse"),
    ("done", "asked", "done", "refuse"),
    ("clear-restore", "nobody", "reinstall", "reinstall"),
    ("clear-restore", "life-over", "reinstall", "reinstall"),
    ("clear-restore", "asked", "clear", "refuse"),
    ("clear-restore", "stop", "clear", "kill-rest"),
    ("clear-restore", "other", "clear", "note"),
    ("clear-restore", "orphans", "clear", "look-life"),
    ("clear-restore", "deadline", "clear", "look-life"),
    ("clear-restore", "fenced", "clear", ""),
    ("clear-restore", "lost", "clear", ""),
    ("reinstall", "reinstalled", "start", "restart"),
    ("reinstall", "failed", "clear", "ask-all"),
    ("reinstall", "lost", "clear", "ask-all"),
    ("reinstall", "stop", "reinstall", "abandon-reinstall"),
    ("reinstall", "fenced", "reinstall", "abandon-reinstall"),
    ("reinstall", "asked", "reinstall", "refuse"),
    ("reinstall", "other", "reinstall", "note"),
    ("reinstall-stopped", "reinstalled", "clear", "ask-all"),
    ("reinstall-stopped", "deadline", "clear", "ask-all"),
    ("reinstall-stopped", "failed", "clear", "ask-all"),
    ("reinstall-stopped", "lost", "clear", "ask-all"),
    ("reinstall-stopped", "stop", "reinstall", "note"),
    ("reinstall-stopped", "fenced", "reinstall", ""),
    ("reinstall-stopped", "asked", "reinstall", "refuse"),
    ("reinstall-stopped", "other", "reinstall", "note"),
    ("reinstall-stopped", "exited", "reinstall", ""),
];

#[test]
fn it_stops_the_app_and_starts_it_again() {
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "asked", "flushed", "exited", "life-over", "reinstalled", "spawned"]);
    assert!(matches!(run.state, Some(State::Running(_))), "{:?}", run.state);
    assert_eq!(run.done, ["start", "flush", "TERM", "ask-life", "reinstall", "restart"]);
}

#[test]
fn a_stop_at_any_point_of_it_is_the_end() {
    for (before, after) in [
        (vec!["asked", "stop"], vec!["flushed", "exited", "nobody", "finished"]),
        (vec!["asked", "flushed", "stop"], vec!["exited", "nobody", "finished"]),
        (vec!["asked", "flushed", "exited", "stop"], vec!["nobody", "finished"]),
        (vec!["asked", "flushed", "exited", "life-over", "stop"], vec!["reinstalled", "nobody", "finished"]),
        (vec!["asked", "fenced"], vec!["flushed", "exited", "nobody", "finished"]),
    ] {
        let mut run = Run::new();
        run.tell(&["restored", "spawned"]).tell(&before).tell(&after);
        assert_eq!(run.outcome(), done(Ending::App(EXIT), true, before.contains(&"fenced")), "{before:?}");
        assert!(!run.done.contains(&"restart"), "{before:?}");
    }
    // The engine puts it back too slowly: the flush gets its time all the same.
    let mut run = Run::new();
    run.tell(&["restored", "spawned", "asked", "flushed", "exited", "life-over"]);
    assert!(!run.sleep(), "a restore may take long");
    let start = run.tell(&["stop"]).now;
    while run.sleep() {}
    assert!(run.outcome().is_some() && run.now - start <= RULES.grace);
}
