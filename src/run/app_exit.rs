//! The log messages about the app's exit, and about SIGKILL to it. Pure. A death by a signal that litevisor
//! did not send is a warning.

use crate::model::{AppExit, Signal};
use std::time::Duration;

/// What is known when the app has exited.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitContext<'a> {
    /// A command of the setup, as it is written. None: the app.
    pub command: Option<&'a str>,
    /// Signals that litevisor has sent to the app since its start.
    pub sent: &'a [Signal],
    /// The OOM killer has killed a process of this cgroup since the start of the app.
    pub out_of_memory: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitMessage {
    pub text: String,
    pub expected: bool,
}

pub fn exit_message(exit: AppExit, known: ExitContext<'_>) -> ExitMessage {
    let subject = known.command.map_or_else(|| "the app".to_owned(), |command| format!("setup: {command}:"));
    let plain = |expected| ExitMessage { text: format!("{subject} {exit}"), expected };
    let because = |why: &str| ExitMessage { text: format!("{subject} {exit}{why}"), expected: false };
    match exit {
        AppExit::Code(status) if status != 0 && known.command.is_some() => because(
            ". The app is not started; nothing of the setup reaches the replica, and the next start begins \
             from the state before it",
        ),
        AppExit::Code(_) => plain(true),
        AppExit::Signal(signal) if known.sent.contains(&signal) => plain(true),
        AppExit::Signal(Signal::KILL) if known.out_of_memory => because(
            ": the kernel's OOM killer ran in this container (oom_kill in the cgroup's memory.events has \
             risen). Raise the memory limit, or make the app need less",
        ),
        AppExit::Signal(Signal::KILL) => because(
            ", which litevisor did not send: the kernel's OOM killer may have done it (the machine was out \
             of memory, see dmesg), or the platform, or an administrator",
        ),
        AppExit::Signal(_) => because(", which litevisor did not send"),
    }
}

/// SIGKILL is sent. `stop_sent`: the stop signal and how long ago the app got it; `requested`: how long ago
/// the stop was requested; `again`: SIGKILL was sent before.
pub fn kill_message(
    stop_sent: Option<(Signal, Duration)>,
    requested: Duration,
    app_timeout: Duration,
    again: bool,
) -> String {
    let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
    match stop_sent {
        _ if again => "the app has not ended after SIGKILL: sent again".to_owned(),
        Some((signal, ago)) if requested >= app_timeout => {
            format!(
                "the app did not end within {} of {signal} (shutdown.app_timeout): SIGKILL sent",
                seconds(ago)
            )
        }
        Some((signal, ago)) => {
            format!("a second stop signal came {} after the app got {signal}: SIGKILL sent", seconds(ago))
        }
        None => "SIGKILL sent to the app".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_that_nobody_asked_for_is_a_warning() {
        let (term, kill, segv) = (Signal::TERM, Signal::KILL, Signal(11));
        for (exit, sent, out_of_memory, expected, part) in [
            (AppExit::Code(0), &[][..], false, true, "exited with status 0"),
            (AppExit::Code(1), &[], true, true, "exited with status 1"),
            (AppExit::Signal(term), &[term], false, true, "was killed by SIGTERM"),
            (AppExit::Signal(term), &[], false, false, "did not send"),
            (AppExit::Signal(kill), &[term, kill], false, true, "was killed by SIGKILL"),
            (AppExit::Signal(kill), &[term, kill], true, true, "was killed by SIGKILL"),
            (AppExit::Signal(kill), &[], true, false, "Raise the memory limit"),
            (AppExit::Signal(kill), &[term], false, false, "OOM killer may have done it"),
            (AppExit::Signal(segv), &[term], false, false, "SIGSEGV, which litevisor did not send"),
        ] {
            let told = exit_message(exit, ExitContext { command: None, sent, out_of_memory });
            assert_eq!(told.expected, expected, "{told:?}");
            assert!(told.text.contains(part), "{told:?}");
        }
    }

    #[test]
    fn a_command_of_the_setup_is_named() {
        for (exit, expected, part) in [
            (AppExit::Code(0), true, "setup: migrate --yes: exited with status 0"),
            (AppExit::Code(3), false, "exited with status 3. The app is not started; nothing of the setup"),
            (AppExit::Signal(Signal::KILL), false, "setup: migrate --yes: was killed by SIGKILL"),
        ] {
            let told =
                exit_message(exit, ExitContext { command: Some("migrate --yes"), ..ExitContext::default() });
            assert_eq!(told.expected, expected, "{told:?}");
            assert!(told.text.contains(part), "{told:?}");
        }
    }

    #[test]
    fn why_it_is_killed() {
        let ms = Duration::from_millis;
        let told = |ago| Some((Signal::TERM, ms(ago)));
        for (told, asked, already, expected) in [
            (
                told(7400),
                7500,
                false,
                "the app did not end within 7.4 s of SIGTERM (shutdown.app_timeout): SIGKILL sent",
            ),
            (
                told(300),
                320,
                false,
                "a second stop signal came 0.3 s after the app got SIGTERM: SIGKILL sent",
            ),
            (told(8300), 8400, true, "the app has not ended after SIGKILL: sent again"),
            (None, 0, false, "SIGKILL sent to the app"),
        ] {
            assert_eq!(kill_message(told, ms(asked), ms(7500), already), expected);
        }
    }
}
