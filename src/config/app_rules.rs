//! The keys of `[app]` that decide about its end: signals, success_codes, restart, backoff → `AppRules`.

use super::AppRules;
use super::section::Section;
use super::units;
use crate::model::{Restart, RestartSettings, Signal, SignalMap, SuccessCodes};
use nix::libc;
use std::time::Duration;

/// Reads its keys only; the caller finishes the section.
pub fn read(section: &mut Section<'_, '_>, stop_signal: Signal) -> AppRules {
    AppRules { signals: signals(section, stop_signal), success: success_codes(section), restart: restart(section) }
}

fn signals(section: &mut Section<'_, '_>, stop_signal: Signal) -> SignalMap {
    let mut map = SignalMap::default();
    for (name, to) in section.pairs("signals") {
        match entry(&name.value, &to.text, stop_signal) {
            Ok((from, _)) if map.get(from).is_some() => section.complain(&name.place, "is given twice"),
            Ok(pair) => map.0.push(pair),
            Err(message) => section.complain(&name.place, message),
        }
    }
    map
}

/// The error is the rest of a sentence that begins with the received signal's key.
fn entry(from: &str, to: &str, stop_signal: Signal) -> Result<(Signal, Option<Signal>), String> {
    let received = units::signal(from)?;
    if NEVER_OURS.contains(&received.0) {
        return Err("is never forwarded: it tells of children or of a fault of our own".into());
    }
    let heard = if to == "none" { None } else { Some(units::signal(to)?) };
    let is_stop = [Signal::TERM, Signal::INT, stop_signal].contains(&received);
    if is_stop && heard.is_none() {
        return Err("cannot be \"none\": it asks us to stop, and the app would only be killed; name a signal".into());
    }
    Ok((received, heard))
}

const NEVER_OURS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

fn success_codes(section: &mut Section<'_, '_>) -> SuccessCodes {
    let codes = section.counts("success_codes", 0..=255).unwrap_or_default();
    SuccessCodes(codes.into_iter().filter_map(|code| u8::try_from(code).ok()).collect())
}

fn restart(section: &mut Section<'_, '_>) -> RestartSettings {
    let mut settings = RestartSettings::DEFAULT;
    settings.when = section.choice("restart", &Restart::NAMES).unwrap_or(settings.when);
    let Some(mut backoff) = section.table("backoff") else { return settings };
    let limit = backoff.count("limit", 1..=1_000_000).and_then(|limit| u32::try_from(limit).ok());
    settings.limit = limit.unwrap_or(settings.limit);
    let (moment, day) = (Duration::from_millis(10), Duration::from_secs(86_400));
    let window = backoff.duration("window", moment..=day);
    settings.window = window.map_or(settings.window, |at| at.value);
    let longest = backoff.duration("delay_max", moment..=day);
    let delay = backoff.duration("delay", moment..=day);
    settings.delay_max = longest.map_or(settings.delay_max, |at| at.value);
    settings.delay = delay.as_ref().map_or(settings.delay.min(settings.delay_max), |at| at.value);
    if let Some(delay) = delay.filter(|at| at.value > settings.delay_max) {
        let told = format!("is longer than delay_max, which is {}", units::show_duration(settings.delay_max));
        backoff.complain(&delay.place, told);
    }
    backoff.finish(&[]);
    settings
}
