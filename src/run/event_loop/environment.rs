//! What is added to the app's environment, and what is kept from it.

use super::super::app_voice::AppVoice;
use crate::config::Config;
use crate::supervise::AppSettings;
use std::ffi::OsString;
use std::time::Duration;

const ROLE: &str = "LITEVISOR_ROLE";

/// The app learns that it may only read, unless the configuration says something else. Any other environment
/// stays as it is.
pub(super) fn tell_role(settings: &mut AppSettings, config: &Config) {
    if config.follow.is_some() {
        add(settings, ROLE, "replica".into());
    }
}

/// The app does not get the replicas' credentials and the configuration's other secrets. The log names the
/// variables, for apps that need them.
pub(super) fn log_removed_variables(settings: &AppSettings) {
    let names = settings.env_remove.iter().filter(|name| std::env::var_os(name).is_some());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        tracing::info!(
            "kept from the app: {names} (credentials and secrets of the configuration; `pass_credentials = \
             true` under [app] passes them on)"
        );
    }
}

/// For one life of an app that says by sd_notify(3) that it is ready. If the service manager watches
/// litevisor, the app may have itself watched: `WATCHDOG_PID` becomes its PID when it is started.
pub(super) fn with_voice(
    settings: &AppSettings,
    voice: &AppVoice,
    watchdog: Option<Duration>,
) -> AppSettings {
    let mut settings = settings.clone();
    add(&mut settings, "NOTIFY_SOCKET", voice.address());
    if let Some(watchdog) = watchdog {
        add(&mut settings, "WATCHDOG_USEC", watchdog.as_micros().to_string().into());
        add(&mut settings, "WATCHDOG_PID", std::process::id().to_string().into());
    }
    settings
}

/// The configuration's own value stays.
fn add(settings: &mut AppSettings, name: &str, value: OsString) {
    if !settings.env.iter().any(|(known, _)| known == name) {
        settings.env.push((name.into(), value));
    }
}
