//! Which messages follow from which change, message by message.

use super::*;
use crate::observe::status_registry::{AppFacts, DatabaseView, StatusRegistry};
use crate::restore::Pace;

const SECOND: Duration = Duration::from_secs(1);

struct Story {
    speaker: Speaker,
    begun: Instant,
    snapshot: Snapshot,
    life: Life,
    heard: Option<Heard>,
    engine_age: Duration,
}

impl Story {
    fn new(watchdog: Option<Duration>) -> Story {
        Story {
            speaker: Speaker::new(watchdog),
            begun: Instant::now(),
            snapshot: StatusRegistry::default().snapshot(),
            life: Life::default(),
            heard: None,
            engine_age: Duration::ZERO,
        }
    }

    /// What is told at this second, without the status.
    fn at(&mut self, second: f64) -> String {
        self.snapshot.now = self.begun + Duration::from_secs_f64(second);
        let view = View {
            snapshot: &self.snapshot,
            life: self.life,
            heard: self.heard.as_ref(),
            engine_age: self.engine_age,
        };
        let message = self.speaker.look(&view);
        Message { status: None, ..message }.text().replace('\n', " ")
    }

    fn status_at(&mut self, second: f64) -> Option<String> {
        self.snapshot.now = self.begun + Duration::from_secs_f64(second);
        let view = View {
            snapshot: &self.snapshot,
            life: self.life,
            heard: self.heard.as_ref(),
            engine_age: self.engine_age,
        };
        self.speaker.look(&view).status
    }

    fn enter(&mut self, phase: Phase) {
        self.snapshot.phase = phase;
    }

    fn restored(&mut self, done: u64) {
        let pace = Pace { done, total: 1000, elapsed: SECOND };
        self.snapshot.databases = vec![DatabaseView { progress: Some(pace), ..DatabaseView::default() }];
    }

    fn alive(&mut self, second: f64) {
        let alive = Some(self.begun + Duration::from_secs_f64(second));
        self.heard = Some(Heard { alive, ..Heard::default() });
    }
}

const MORE: &str = "EXTEND_TIMEOUT_USEC=90000000";

#[test]
fn a_whole_life() {
    let mut story = Story::new(None);
    assert_eq!(story.at(0.0), MORE);
    assert_eq!(story.at(1.0), "");
    for (phase, told) in [(Phase::SettingUp, MORE), (Phase::Starting, MORE), (Phase::Running, "READY=1")] {
        story.enter(phase);
        assert_eq!(story.at(20.0), told, "{phase:?}");
        assert_eq!(story.at(21.0), "", "{phase:?}");
    }
    // The app is stopped, and started again: for a restore in place, say.
    for phase in [Phase::PreSync, Phase::Stopping, Phase::Restoring, Phase::Starting, Phase::Running] {
        story.enter(phase);
        assert_eq!(story.at(100.0), "", "{phase:?}");
    }
    story.enter(Phase::PreSync);
    story.life = Life { ending: true, ends_by: Some(story.begun + 130 * SECOND), ..Life::default() };
    assert_eq!(story.at(120.0), "STOPPING=1 EXTEND_TIMEOUT_USEC=15000000");
    story.enter(Phase::Flushing);
    assert_eq!(story.at(125.0), "");
    // It was frozen: the last flush has more time.
    story.life.ends_by = Some(story.begun + 140 * SECOND);
    assert_eq!(story.at(131.0), "EXTEND_TIMEOUT_USEC=14000000");
    story.life.ends_by = None;
    story.enter(Phase::Done);
    assert_eq!(story.at(133.0), "");
}

#[test]
fn a_start_has_time_while_it_makes_progress() {
    let mut story = Story::new(None);
    let told = |story: &mut Story, seconds: std::ops::Range<u32>| -> Vec<u32> {
        seconds.filter(|second| story.at(f64::from(*second)) == MORE).collect()
    };
    assert_eq!(told(&mut story, 0..40), [0, 15, 30]);
    story.restored(1);
    // No counter moves any more: a sync of a large file, or a disk that hangs.
    let quiet = told(&mut story, 40..1000);
    assert_eq!((quiet.first(), quiet.last(), quiet.len()), (Some(&45), Some(&630), 40));
    story.restored(2);
    assert_eq!(told(&mut story, 1000..1020), [1000, 1015]);
    story.engine_age = 31 * SECOND;
    story.restored(3);
    assert_eq!(told(&mut story, 1020..1100), [0; 0], "the engine hangs");
    story.engine_age = Duration::ZERO;
    // The app has its own time, once: one that fails and is started again for ever is not waited for.
    let silent = Some("it does not answer".to_owned());
    story.snapshot.app = AppFacts { silent, ..AppFacts::default() };
    for (second, phase, expected) in [
        (1100, Phase::Starting, MORE),
        (1101, Phase::Running, MORE),
        (1150, Phase::Running, ""),
        (1151, Phase::Backoff, MORE),
        (1152, Phase::Starting, ""),
        (1153, Phase::Running, ""),
    ] {
        story.enter(phase);
        assert_eq!(story.at(f64::from(second)), expected, "{second}");
    }
    story.snapshot.app.silent = None;
    assert_eq!(story.at(1160.0), "READY=1");
}

#[test]
fn ready_without_an_app() {
    let standby = Life { serves_without_app: true, ..Life::default() };
    for (phase, life, told) in [
        (Phase::Waiting, Life::default(), MORE),
        (Phase::Waiting, standby, "READY=1"),
        (Phase::Retired, standby, "READY=1"),
        (Phase::Running, Life { ending: true, ..Life::default() }, "STOPPING=1"),
    ] {
        let mut story = Story::new(None);
        story.enter(phase);
        story.life = life;
        assert_eq!(story.at(0.0), told, "{phase:?} {life:?}");
    }
    let mut lost = Story::new(None);
    lost.snapshot.engine_lost = true;
    lost.enter(Phase::Running);
    assert_eq!(lost.at(0.0), MORE, "nothing is replicated");
}

#[test]
fn a_status_is_told_when_it_changes_and_not_too_often() {
    let mut story = Story::new(None);
    story.restored(0);
    assert!(story.status_at(0.0).is_some());
    story.restored(100);
    assert_eq!(story.status_at(1.0), None, "too soon");
    assert!(story.status_at(2.5).is_some());
    assert_eq!(story.status_at(9.0), None, "nothing new");
    story.enter(Phase::Running);
    story.restored(100);
    assert_eq!(story.status_at(9.1).as_deref(), Some("running"), "another phase, at once");
}

#[test]
fn the_watchdog_is_fed_while_the_engine_lives() {
    let mut story = Story::new(Some(10 * SECOND));
    story.enter(Phase::Running);
    let fed = |story: &mut Story, seconds: std::ops::Range<u32>| -> Vec<u32> {
        seconds.filter(|second| story.at(f64::from(*second)).contains("WATCHDOG=1")).collect()
    };
    assert_eq!(fed(&mut story, 0..12), [0, 5, 10]);
    story.engine_age = 6 * SECOND;
    assert_eq!(fed(&mut story, 12..60), [0; 0]);
    assert_eq!(story.speaker.silence(), Some(Silence::Engine));
    story.engine_age = SECOND;
    assert_eq!(fed(&mut story, 60..64), [60]);
    assert_eq!(story.speaker.silence(), None);
    story.snapshot.engine_lost = true;
    assert_eq!(fed(&mut story, 70..80), [0; 0]);
    let mut without = Story::new(None);
    assert_eq!(fed(&mut without, 0..20), [0; 0]);
}

#[test]
fn an_app_that_has_fed_the_watchdog_once_must_go_on() {
    let mut story = Story::new(Some(10 * SECOND));
    story.enter(Phase::Running);
    story.heard = Some(Heard { ready: true, ..Heard::default() });
    assert!(story.at(0.0).contains("WATCHDOG=1"), "it never did");
    assert_eq!(story.at(4.0), "");
    story.alive(4.5);
    assert_eq!(story.at(5.0), "WATCHDOG=1");
    assert_eq!(story.at(11.0), "", "its own messages count");
    story.alive(12.0);
    assert_eq!(story.at(12.5), "WATCHDOG=1");
    assert_eq!((story.at(21.0), story.speaker.silence()), (String::new(), None));
    assert_eq!((story.at(22.5), story.speaker.silence()), (String::new(), Some(Silence::App)));
    // Now systemd sends SIGABRT: the app is stopped, and litevisor flushes.
    story.enter(Phase::Stopping);
    assert_eq!((story.at(23.0).as_str(), story.speaker.silence()), ("WATCHDOG=1", None));
    story.enter(Phase::Running);
    story.alive(24.0);
    story.engine_age = 9 * SECOND;
    assert_eq!((story.at(24.0).as_str(), story.speaker.silence()), ("", Some(Silence::Engine)));
}

#[test]
fn what_could_not_be_sent_is_repeated() {
    let mut story = Story::new(Some(10 * SECOND));
    story.enter(Phase::Running);
    story.snapshot.now = story.begun;
    let view = View { snapshot: &story.snapshot, life: story.life, heard: None, engine_age: Duration::ZERO };
    let message = story.speaker.look(&view);
    story.speaker.not_sent(message.clone());
    assert_eq!(story.speaker.pause(), SECOND);
    let view = View { snapshot: &story.snapshot, life: story.life, heard: None, engine_age: Duration::ZERO };
    assert_eq!(story.speaker.look(&view), message);
    assert_eq!(story.at(1.0), "");
    assert_eq!(story.speaker.pause(), 10 * SECOND / 8);
}
