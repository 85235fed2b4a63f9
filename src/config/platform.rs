//! Which platform we run on, by its environment, and what it grants at the stop: one table with its sources. Pure. What the
//! configuration says always wins.

use std::ffi::OsString;
use std::time::Duration;

/// A platform, as it documents its defaults.
#[derive(Debug, PartialEq, Eq)]
pub struct Platform {
    pub name: &'static str,
    /// All of these are set there.
    variables: &'static [&'static str],
    /// From its stop signal to its SIGKILL, in seconds.
    grace: u64,
    /// It cannot be made longer than this.
    most: Option<u64>,
    /// Its stop signal, where that is not SIGTERM. Any of SIGTERM and SIGINT is a full stop for us, and the app hears the same.
    signal: Option<&'static str>,
}

impl Platform {
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

/// The first that fits counts: where one runs inside of another, the one with the shorter time stands first.
///
/// * Fly.io: `kill_signal` INT, `kill_timeout` 5 s (fly.toml reference; at most 300 s).
/// * Cloud Run: SIGTERM, 10 s, not configurable, for services, jobs and worker pools (container runtime contract). Knative sets
///   K_SERVICE inside of Kubernetes, too.
/// * ECS: `stopTimeout` 30 s; on Fargate at most 120 s (task definition parameters).
/// * Azure Container Apps: `terminationGracePeriodSeconds` 30 s, at most 600 s (template reference).
/// * Kubernetes: `terminationGracePeriodSeconds` 30 s (pod lifecycle); preStop runs inside of it.
/// * systemd: `TimeoutStopSec` 90 s (systemd-system.conf); INVOCATION_ID is set for every unit (systemd.exec).
const PLATFORMS: [Platform; 9] = [
    platform("Fly.io", &["FLY_APP_NAME"], 5, Some(300), Some("SIGINT")),
    platform("Knative", &["K_SERVICE", "KUBERNETES_SERVICE_HOST"], 10, None, None),
    platform("Cloud Run", &["K_SERVICE"], 10, Some(10), None),
    platform("Cloud Run job", &["CLOUD_RUN_JOB"], 10, Some(10), None),
    platform("Cloud Run worker pool", &["CLOUD_RUN_WORKER_POOL"], 10, Some(10), None),
    platform("ECS", &["ECS_CONTAINER_METADATA_URI_V4"], 30, None, None),
    platform("Azure Container Apps", &["CONTAINER_APP_NAME"], 30, Some(600), None),
    platform("Kubernetes", &["KUBERNETES_SERVICE_HOST"], 30, None, None),
    platform("systemd", &["INVOCATION_ID"], 90, None, None),
];

/// What `docker stop` and `podman stop` grant.
const UNKNOWN: Duration = Duration::from_secs(10);

const fn platform(
    name: &'static str,
    variables: &'static [&'static str],
    grace: u64,
    most: Option<u64>,
    signal: Option<&'static str>,
) -> Platform {
    Platform { name, variables, grace, most, signal }
}

pub fn recognise(env: &dyn Fn(&str) -> Option<OsString>) -> Option<&'static Platform> {
    PLATFORMS.iter().find(|platform| platform.variables.iter().all(|name| env(name).is_some()))
}

/// The default of `shutdown.grace`.
pub fn default_grace(platform: Option<&Platform>) -> Duration {
    platform.map_or(UNKNOWN, Platform::grace)
}

/// What is said of it when something is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformTold {
    pub line: String,
    /// The platform will not wait for as long as it is configured.
    pub warning: Option<String>,
}

pub fn told(platform: Option<&Platform>, grace: Duration, configured: bool) -> PlatformTold {
    use super::units::show_duration as show;
    let as_configured = if configured { " as configured" } else { "" };
    let Some(platform) = platform else {
        let line = format!("platform: none that is known here, grace {}{as_configured}", show(grace));
        return PlatformTold { line, warning: None };
    };
    let signal = platform.signal.map(|signal| format!(", stops with {signal}")).unwrap_or_default();
    let line = format!("platform: {}, grace {}{as_configured}{signal}", platform.name, show(grace));
    let most = platform.most.map(Duration::from_secs).filter(|most| grace > *most);
    let warning = most.map(|most| {
        let (name, grace, most) = (platform.name, show(grace), show(most));
        format!(
            "shutdown.grace is {grace}, but {name} kills everything {most} after its stop signal: what is not in the \
             replica by then is lost; set it to {most} or less"
        )
    });
    PlatformTold { line, warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_environment() {
        for (set, name, seconds) in [
            (vec![], None, 10),
            (vec!["HOME"], None, 10),
            (vec!["FLY_APP_NAME"], Some("Fly.io"), 5),
            (vec!["K_SERVICE"], Some("Cloud Run"), 10),
            (vec!["CLOUD_RUN_JOB"], Some("Cloud Run job"), 10),
            (vec!["CLOUD_RUN_WORKER_POOL"], Some("Cloud Run worker pool"), 10),
            (vec!["ECS_CONTAINER_METADATA_URI_V4"], Some("ECS"), 30),
            (vec!["KUBERNETES_SERVICE_HOST"], Some("Kubernetes"), 30),
            (vec!["KUBERNETES_SERVICE_HOST", "K_SERVICE"], Some("Knative"), 10),
            (vec!["KUBERNETES_SERVICE_HOST", "CONTAINER_APP_NAME"], Some("Azure Container Apps"), 30),
            (vec!["INVOCATION_ID"], Some("systemd"), 90),
            (vec!["INVOCATION_ID", "KUBERNETES_SERVICE_HOST"], Some("Kubernetes"), 30),
        ] {
            let env = |name: &str| set.contains(&name).then(|| OsString::from("x"));
            let found = recognise(&env);
            assert_eq!(found.map(|found| found.name), name, "{set:?}");
            assert_eq!(default_grace(found), Duration::from_secs(seconds), "{set:?}");
        }
    }

    #[test]
    fn what_is_said() {
        let found = |name: &str| PLATFORMS.iter().find(|platform| platform.name == name);
        for (platform, seconds, configured, line, warned) in [
            (None, 10, false, "platform: none that is known here, grace 10s", false),
            (found("Cloud Run"), 10, false, "platform: Cloud Run, grace 10s", false),
            (found("Cloud Run"), 8, true, "platform: Cloud Run, grace 8s as configured", false),
            (found("Cloud Run"), 11, true, "platform: Cloud Run, grace 11s as configured", true),
            (found("Fly.io"), 5, false, "platform: Fly.io, grace 5s, stops with SIGINT", false),
            (found("Kubernetes"), 3600, true, "platform: Kubernetes, grace 1h as configured", false),
        ] {
            let found = told(platform, Duration::from_secs(seconds), configured);
            assert_eq!((found.line.as_str(), found.warning.is_some()), (line, warned));
        }
    }
}
