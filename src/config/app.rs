//! `[app]` → `AppSettings` and `AppRules`, and which variables the app must not see.

use super::document::Document;
use super::ready;
use super::settings::AppRules;
use super::units;
use super::values::{Count, Counts, DAY, Key, Names, Span, Strings};
use crate::model::{Restart, RestartSettings, Signal, SignalMap, SuccessCodes};
use crate::supervise::{AppSettings, SetupSettings, SetupWhen, SignalTo};
use serde::Deserialize;
use std::ffi::OsString;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct AppSection {
    command: Key<Strings>,
    setup: Key<Commands>,
    setup_when: Key<SetupWhen>,
    setup_id: Key<String>,
    user: Key<String>,
    working_dir: Key<String>,
    stop_signal: Key<String>,
    signal_to: Key<SignalTo>,
    ready: Key<String>,
    signals: Key<Names>,
    success_codes: Key<Counts<0, 255>>,
    restart: Key<Restart>,
    backoff: Key<Backoff>,
    env: Key<Names>,
    no_new_privs: Key<bool>,
    pass_credentials: Key<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename = "an array of commands, each an array of strings")]
struct Commands(Vec<Strings>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Backoff {
    limit: Key<Count<1, 1_000_000>>,
    window: Key<Span<10, DAY>>,
    delay: Key<Span<10, DAY>>,
    delay_max: Key<Span<10, DAY>>,
}

pub struct App {
    /// An empty command: none is configured. `env_remove` is still empty.
    pub settings: AppSettings,
    pub rules: AppRules,
    pub pass_credentials: bool,
}

/// `command` of the command line replaces the configured one unless it is empty.
pub fn read(section: AppSection, command: &[OsString], document: &Document<'_>) -> App {
    let stop_signal =
        document.parsed(&section.stop_signal, units::signal).unwrap_or(Signal(nix::libc::SIGTERM));
    if section.command.value.as_ref().is_some_and(|command| command.0.is_empty()) {
        let message = "is empty: name a program, for example [\"/usr/bin/app\", \"--flag\"]";
        document.complain_if_written(&section.command, message);
    }
    let setup =
        setup(section.setup, section.setup_when.or(SetupWhen::default()), section.setup_id.value, document);
    let configured = || section.command.or(Strings::default()).0.into_iter().map(OsString::from).collect();
    let settings = AppSettings {
        user: document.parsed(&section.user, units::user),
        working_dir: document.path(&section.working_dir),
        stop_signal,
        signal_to: section.signal_to.or(SignalTo::Auto),
        ready: document.parsed(&section.ready, ready::check),
        env: variables(section.env, document),
        env_remove: Vec::new(),
        no_new_privs: section.no_new_privs.or(false),
        command: if command.is_empty() { configured() } else { command.to_vec() },
        setup,
    };
    let codes = section.success_codes.or(Counts::default()).0;
    let success = SuccessCodes(codes.into_iter().filter_map(|code| u8::try_from(code.0).ok()).collect());
    let restart = restart(section.restart, section.backoff.or(Backoff::default()), document);
    let rules = AppRules { signals: signals(section.signals, stop_signal, document), success, restart };
    App { settings, rules, pass_credentials: section.pass_credentials.or(false) }
}

fn setup(
    commands: Key<Commands>,
    when: SetupWhen,
    id: Option<String>,
    document: &Document<'_>,
) -> SetupSettings {
    if commands.value.as_ref().is_some_and(|commands| commands.0.iter().any(|command| command.0.is_empty())) {
        let message =
            "has an empty command: each is an array with a program, for example [[\"app\", \"migrate\"]]";
        document.complain_if_written(&commands, message);
    }
    let words = |command: Strings| command.0.into_iter().map(OsString::from).collect();
    let commands = commands.or(Commands::default()).0.into_iter().map(words).collect();
    SetupSettings { commands, when, id }
}

fn variables(env: Key<Names>, document: &Document<'_>) -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    for (name, key) in env.or(Names::new()) {
        if name.is_empty() || name.contains(['=', '\0']) {
            document.complain_if_written(&key, "is no name of an environment variable");
        }
        variables.extend(key.value.map(|value| (OsString::from(name), OsString::from(value.0))));
    }
    variables
}

fn signals(section: Key<Names>, stop_signal: Signal, document: &Document<'_>) -> SignalMap {
    let mut map = SignalMap::default();
    for (name, key) in section.or(Names::new()) {
        let Some(to) = &key.value else { continue };
        match signal(&name, &to.0, stop_signal) {
            Ok((from, _)) if map.get(from).is_some() => document.complain_if_written(&key, "is given twice"),
            Ok(pair) => map.0.push(pair),
            Err(message) => document.complain_if_written(&key, message),
        }
    }
    map
}

/// The error is the rest of a sentence that begins with the received signal's key.
fn signal(from: &str, to: &str, stop_signal: Signal) -> Result<(Signal, Option<Signal>), String> {
    let received = units::signal(from)?;
    if received == Signal::CHLD {
        return Err("is never forwarded: it reports the end of litevisor's own children".into());
    }
    let forwarded = if to == "none" { None } else { Some(units::signal(to)?) };
    let is_stop = [Signal::TERM, Signal::INT, stop_signal].contains(&received);
    if is_stop && forwarded.is_none() {
        return Err(
            "cannot be \"none\": it asks us to stop, and the app would only be killed; name a signal".into(),
        );
    }
    Ok((received, forwarded))
}

fn restart(when: Key<Restart>, backoff: Backoff, document: &Document<'_>) -> RestartSettings {
    let default = RestartSettings::DEFAULT;
    let delay_max = backoff.delay_max.value.map_or(default.delay_max, |span| span.0);
    let delay = backoff.delay.value.map_or(default.delay.min(delay_max), |span| span.0);
    if delay > delay_max {
        let message = format!("is longer than delay_max, which is {}", units::show_duration(delay_max));
        document.complain_if_written(&backoff.delay, message);
    }
    let limit = backoff.limit.value.and_then(|limit| u32::try_from(limit.0).ok()).unwrap_or(default.limit);
    let window = backoff.window.value.map_or(default.window, |span| span.0);
    RestartSettings { when: when.or(default.when), limit, window, delay, delay_max }
}
