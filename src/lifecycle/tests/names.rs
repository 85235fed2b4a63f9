//! The short names of states, events and actions in the tables.

use super::super::budget::{CHECK_INTERVAL, REST_GRACE};
use super::super::restart::PlannedRestart;
use super::super::state::{
    Abandoning, Backoff, CatchingUp, Clearing, FlushAttempt, Flushing, Reinstalling, Running, Setup,
    Starting, Stopping, Then, Trial,
};
use super::*;
use crate::supervise::remaining::{Extent, Treatment};

/// One state of each name, as it is at `now` of its life.
pub(super) fn state(name: &str, now: Instant) -> State {
    let plan = stop_plan(StopCause::Signal(Signal::TERM), now);
    let ending = Ending::App(EXIT);
    match name {
        "restore" => State::Restoring,
        "abandon" => State::Abandoning(Abandoning {
            ending: Ending::Stopped(Signal::INT),
            until: now + CHECK_INTERVAL,
        }),
        "wait" => State::Waiting,
        "standby" => State::StandingBy,
        "catch-up" => State::CatchingUp(CatchingUp { trial: true }),
        "start" => {
            State::Starting(Starting { stop: None, history: RestartHistory::first(now), trial: false })
        }
        "setup" | "setup-keeping" => {
            let keeping = name == "setup-keeping";
            State::SettingUp(Setup { restored: Restored::attest(), trial: false, command: 0, keeping })
        }
        "run" => State::Running(Running { history: RestartHistory::first(now), trial: None }),
        "trial" => {
            // Its end is due.
            let trial = Some(Trial { until: now, ready: false });
            State::Running(Running { history: RestartHistory::first(now), trial })
        }
        "pre-sync" => State::PreSync(plan),
        "stop" => State::Stopping(Stopping { plan, killed: false }),
        "clear" | "clear-again" | "clear-restore" => {
            let planned =
                PlannedRestart { history: RestartHistory::first(now), after: Duration::from_secs(1) };
            let then = match name {
                "clear" => Then::End,
                "clear-again" => Then::Restart(EXIT, planned),
                _ => Then::Reinstall,
            };
            State::Clearing(Clearing {
                ending,
                plan,
                kill_at: now + REST_GRACE,
                killed: false,
                check_at: now + CHECK_INTERVAL,
                then,
            })
        }
        "back-off" => State::Backoff(Backoff {
            exit: EXIT,
            tree_exited: AppTreeExited::attest(),
            history: RestartHistory::first(now),
            until: now + CHECK_INTERVAL,
        }),
        "flush" | "flush-hand-over" => {
            let until = plan.budget.end_at;
            let retire = name == "flush-hand-over";
            let attempt = FlushAttempt::First;
            State::Flushing(Flushing {
                ending,
                fenced: false,
                proven: true,
                retire,
                release: ReleaseReason::Stopped,
                until,
                attempt,
            })
        }
        "retired" => State::Retired,
        "reinstall" | "reinstall-stopped" => State::Reinstalling(Reinstalling {
            ending,
            tree_exited: AppTreeExited::attest(),
            stop: (name == "reinstall-stopped").then_some(plan),
            asked: false,
        }),
        "done" => State::Done(Outcome { ending, complete: true, fenced: false }),
        other => panic!("no state {other}"),
    }
}

pub(super) fn event(name: &str) -> Event {
    match name {
        "stop" => Event::Stop(Signal::TERM),
        "other" => Event::Other(HUP),
        "exited" => Event::AppExited(EXIT),
        "orphans" => Event::OrphansReaped,
        "nobody" => Event::AllExited(Quiet::attest()),
        "life-over" => Event::AppTreeExited(AppTreeExited::attest()),
        "deadline" => Event::Deadline,
        "restored" => Event::Restored(Restored::attest()),
        "setup-due" => Event::SetupDue(Restored::attest()),
        "setup-kept" => Event::SetupKept,
        "failed" => Event::RestoreFailed(NotStarted::Damaged),
        "abandoned" => Event::Abandoned,
        "spawned" => Event::Spawned,
        "not-spawned" => Event::NotSpawned(NotStarted::NotFound),
        "flushed" => Event::Flushed,
        "finished" => Event::Finished { complete: true },
        "unfinished" => Event::Finished { complete: false },
        "fenced" => Event::Fenced,
        "lost" => Event::EngineLost,
        "asked" => Event::RestoreAsked,
        "reinstalled" => Event::Reinstalled,
        "ready" => Event::AppReady,
        "waiting" => Event::HandOver(HandOver::Waiting { standby: false }),
        "standing-by" => Event::HandOver(HandOver::Waiting { standby: true }),
        "catching-up" => Event::HandOver(HandOver::CatchingUp { trial: false }),
        "catching-up-trial" => Event::HandOver(HandOver::CatchingUp { trial: true }),
        "passed-on" => Event::HandOver(HandOver::PassedOn),
        "claimed" => Event::HandOver(HandOver::Asked),
        "successor-failed" => Event::HandOver(HandOver::SuccessorFailed),
        other => panic!("no event {other}"),
    }
}

pub(super) const EVENTS: [&str; 29] = [
    "stop",
    "other",
    "exited",
    "orphans",
    "nobody",
    "life-over",
    "deadline",
    "restored",
    "failed",
    "abandoned",
    "spawned",
    "not-spawned",
    "flushed",
    "finished",
    "unfinished",
    "fenced",
    "lost",
    "asked",
    "reinstalled",
    "ready",
    "waiting",
    "standing-by",
    "catching-up",
    "catching-up-trial",
    "passed-on",
    "claimed",
    "successor-failed",
    "setup-due",
    "setup-kept",
];

pub(super) fn action(action: &Action) -> &'static str {
    match action {
        Action::Abandon => "abandon",
        Action::Withdraw => "withdraw",
        Action::SetUp(_) => "set-up",
        Action::KeepSetup => "keep-setup",
        Action::Start(_) => "start",
        Action::Restart(_) => "restart",
        Action::RestartLater { .. } => "later",
        Action::NoMoreRestarts { .. } => "enough",
        Action::Flush { .. } => "flush",
        Action::StopApp(Signal::TERM) => "TERM",
        Action::StopApp(_) => "stop-app",
        Action::Forward(_) => "forward",
        Action::KillApp => "kill",
        Action::EndRemaining(Treatment::Signal { group_signalled: true, .. }, Extent::AllWriters) => {
            "ask-others"
        }
        Action::EndRemaining(Treatment::Signal { group_signalled: false, .. }, Extent::AllWriters) => {
            "ask-all"
        }
        Action::EndRemaining(Treatment::Kill, Extent::AllWriters) => "kill-rest",
        Action::EndRemaining(Treatment::Count, Extent::AllWriters) => "look",
        Action::EndRemaining(Treatment::Signal { .. }, Extent::AppTree) => "ask-life",
        Action::EndRemaining(Treatment::Kill, Extent::AppTree) => "kill-life",
        Action::EndRemaining(Treatment::Count, Extent::AppTree) => "look-life",
        Action::Finish { release: ReleaseReason::Stopped, .. } => "finish",
        Action::Finish { release: ReleaseReason::HandedOver, .. } => "finish-handed-over",
        Action::Finish { release: ReleaseReason::FailedStart, .. } => "finish-failed",
        Action::Retire { .. } => "retire",
        Action::Resume => "resume",
        Action::NeverReady => "never-ready",
        Action::FinishUnproven { .. } => "finish-unproven",
        Action::FinishAgain { .. } => "finish-again",
        Action::Reinstall { .. } => "reinstall",
        Action::AbandonReinstall => "abandon-reinstall",
        Action::RefuseRestore => "refuse",
        Action::Note(_) => "note",
    }
}
