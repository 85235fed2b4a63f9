//! Which platform we run on, by its environment, and what it grants at the stop: one table with its sources.
//! Pure. What the configuration says always wins.

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
    /// Its stop signal, where that is not SIGTERM. Any of SIGTERM and SIGINT is a full stop for us, and the
    /// app hears the same.
    signal: Option<&'static str>,
}

impl Platform {
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

/// The first that fits counts: where one runs inside of another, the one with the shorter time stands first.
///
/// * Railway: SIGKILL follows SIGTERM after RAILWAY_DEPLOYMENT_DRAINING_SECONDS, by default at once
///   (deployment teardown).
/// * Fly.io: `kill_signal` INT, `kill_timeout` 5 s (fly.toml reference; at most 300 s).
/// * Cloud Run: SIGTERM, 10 s, not configurable, for services, jobs and worker pools (container runtime
///   contract). Knative sets K_SERVICE inside of Kubernetes, too.
/// * ECS: `stopTimeout` 30 s; on Fargate at most 120 s (task definition parameters).
/// * Azure Container Apps: `terminationGracePeriodSeconds` 30 s, at most 600 s (template reference).
/// * Kubernetes: `terminationGracePeriodSeconds` 30 s (pod lifecycle); preStop runs inside of it.
/// * Render: `maxShutdownDelaySeconds` 30 s, at most 300 s (Blueprint reference); RENDER is set for every
///   service.
/// * systemd: `TimeoutStopSec` 90 s (systemd-system.conf); INVOCATION_ID is set for every unit
///   (systemd.exec).
const PLATFORMS: [Platform; 11] = [
    platform(RAILWAY, &["RAILWAY_SERVICE_ID"], 10, None, None),
    platform("Fly.io", &["FLY_APP_NAME"], 5, Some(300), Some("SIGINT")),
    platform("Knative", &["K_SERVICE", "KUBERNETES_SERVICE_HOST"], 10, None, None),
    platform("Cloud Run", &["K_SERVICE"], 10, Some(10), None),
    platform("Cloud Run job", &["CLOUD_RUN_JOB"], 10, Some(10), None),
    platform("Cloud Run worker pool", &["CLOUD_RUN_WORKER_POOL"], 10, Some(10), None),
    platform("ECS", &["ECS_CONTAINER_METADATA_URI_V4"], 30, None, None),
    platform("Render", &["RENDER"], 30, Some(300), None),
    platform("Azure Container Apps", &["CONTAINER_APP_NAME"], 30, Some(600), None),
    platform("Kubernetes", &["KUBERNETES_SERVICE_HOST"], 30, None, None),
    platform("systemd", &["INVOCATION_ID"], 90, None, None),
];

const RAILWAY: &str = "Railway";
/// In seconds; it can be set as one of the service's variables.
const DRAINING: &str = "RAILWAY_DEPLOYMENT_DRAINING_SECONDS";

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

/// The platform's name of what was deployed: all instances of one deploy have the same.
///
/// * Cloud Run and Knative: K_REVISION. Azure Container Apps: CONTAINER_APP_REVISION. Railway:
///   RAILWAY_DEPLOYMENT_ID. Render: RENDER_GIT_COMMIT. Fly.io: FLY_IMAGE_REF. Kubernetes and ECS tell their
///   containers no such name.
const REVISIONS: [&str; 5] =
    ["K_REVISION", "CONTAINER_APP_REVISION", "RAILWAY_DEPLOYMENT_ID", "RENDER_GIT_COMMIT", "FLY_IMAGE_REF"];

pub fn revision(env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let value = REVISIONS.iter().find_map(|name| env(name))?;
    value.into_string().ok().filter(|value| !value.is_empty())
}

/// The default of `shutdown.grace`.
pub fn default_grace(platform: Option<&Platform>, env: &dyn Fn(&str) -> Option<OsString>) -> Duration {
    let granted = platform.map_or(UNKNOWN, Platform::grace);
    match platform {
        Some(platform) if platform.name == RAILWAY => {
            draining(env).filter(|span| !span.is_zero()).unwrap_or(granted)
        }
        _ => granted,
    }
}

/// What Railway grants, when it was set.
fn draining(env: &dyn Fn(&str) -> Option<OsString>) -> Option<Duration> {
    env(DRAINING)?.to_str()?.trim().parse().ok().map(Duration::from_secs)
}

/// What is said of it when something is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformReport {
    pub line: String,
    /// The platform will not wait for as long as it is configured.
    pub warning: Option<String>,
    /// This machine must not have the databases.
    pub refusal: Option<String>,
}

pub fn report(
    platform: Option<&Platform>,
    grace: Duration,
    configured: bool,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> PlatformReport {
    use super::units::show_duration as show;
    let as_configured = if configured { " as configured" } else { "" };
    let Some(platform) = platform else {
        let line = format!("platform: none that is known here, grace {}{as_configured}", show(grace));
        return PlatformReport { line, warning: None, refusal: None };
    };
    let signal = platform.signal.map(|signal| format!(", stops with {signal}")).unwrap_or_default();
    let line = format!("platform: {}, grace {}{as_configured}{signal}", platform.name, show(grace));
    if platform.name == RAILWAY && draining(env).is_none_or(|granted| granted.is_zero()) {
        return PlatformReport { line, warning: Some(NO_GRACE.into()), refusal: None };
    }
    let most = platform.most.map(Duration::from_secs);
    let most = if platform.name == RAILWAY { draining(env) } else { most }.filter(|most| grace > *most);
    let warning = most.map(|most| {
        let name = platform.name;
        let grace = show(grace);
        let most = show(most);
        format!(
            "shutdown.grace is {grace}, but {name} kills everything {most} after its stop signal: what is \
             not in the replica by then is lost; set it to {most} or less"
        )
    });
    PlatformReport { line, warning, refusal: release_machine(platform, env) }
}

const NO_GRACE: &str = "Railway kills everything right after its stop signal: there is no last flush, and \
    commits of the last second are lost at every deployment. Set RAILWAY_DEPLOYMENT_DRAINING_SECONDS to 15 \
    or more among the service's variables";

/// Fly.io runs `release_command` in the same image, through the same entrypoint, on a machine of its own,
/// while the app's machine still owns the databases. What it writes would take the replica from that one.
fn release_machine(platform: &Platform, env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let release = platform.name == "Fly.io" && env("RELEASE_COMMAND").is_some_and(|value| value == "1");
    release.then(|| {
        "this is the machine of Fly.io's release_command (RELEASE_COMMAND=1): it has no volume, and the \
         app's machine owns the replica, which would be taken from it. Migrate where the app is started \
         (setup = [[\"migrate\"]] under [app]), or run a command that needs no database without litevisor \
         (release_command with an absolute path and another entrypoint)"
            .to_owned()
    })
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
            (vec!["RAILWAY_SERVICE_ID"], Some("Railway"), 10),
            (vec!["K_SERVICE"], Some("Cloud Run"), 10),
            (vec!["CLOUD_RUN_JOB"], Some("Cloud Run job"), 10),
            (vec!["CLOUD_RUN_WORKER_POOL"], Some("Cloud Run worker pool"), 10),
            (vec!["ECS_CONTAINER_METADATA_URI_V4"], Some("ECS"), 30),
            (vec!["KUBERNETES_SERVICE_HOST"], Some("Kubernetes"), 30),
            (vec!["KUBERNETES_SERVICE_HOST", "K_SERVICE"], Some("Knative"), 10),
            (vec!["KUBERNETES_SERVICE_HOST", "CONTAINER_APP_NAME"], Some("Azure Container Apps"), 30),
            (vec!["RENDER"], Some("Render"), 30),
            (vec!["RENDER", "KUBERNETES_SERVICE_HOST"], Some("Render"), 30),
            (vec!["INVOCATION_ID"], Some("systemd"), 90),
            (vec!["INVOCATION_ID", "KUBERNETES_SERVICE_HOST"], Some("Kubernetes"), 30),
        ] {
            let env = |name: &str| set.contains(&name).then(|| OsString::from("x"));
            let found = recognise(&env);
            assert_eq!(found.map(|found| found.name), name, "{set:?}");
            assert_eq!(default_grace(found, &env), Duration::from_secs(seconds), "{set:?}");
        }
    }

    #[test]
    fn the_name_of_a_deploy() {
        for (name, value, expected) in [
            ("K_REVISION", "grafana-00007-abc", Some("grafana-00007-abc")),
            ("FLY_IMAGE_REF", "app@sha256:1", Some("app@sha256:1")),
            ("K_REVISION", "", None),
            ("HOSTNAME", "x", None),
        ] {
            let env = |asked: &str| (asked == name).then(|| OsString::from(value));
            assert_eq!(revision(&env).as_deref(), expected, "{name}");
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
            let found = report(platform, Duration::from_secs(seconds), configured, &|_| None);
            assert_eq!((found.line.as_str(), found.warning.is_some()), (line, warned));
        }
    }

    #[test]
    fn railway_grants_what_was_asked_for() {
        let railway = PLATFORMS.iter().find(|platform| platform.name == RAILWAY);
        for (draining, grace, warned) in [
            (None, 10, true),
            (Some("0"), 10, true),
            (Some("x"), 10, true),
            (Some("15"), 15, false),
            (Some("3"), 3, false),
        ] {
            let env = |name: &str| draining.filter(|_| name == DRAINING).map(OsString::from);
            let default = default_grace(railway, &env);
            assert_eq!(default, Duration::from_secs(grace), "{draining:?}");
            assert_eq!(report(railway, default, false, &env).warning.is_some(), warned, "{draining:?}");
            let longer = report(railway, default + Duration::from_secs(1), true, &env);
            assert!(longer.warning.is_some(), "{draining:?}");
        }
    }

    #[test]
    fn a_release_machine_owns_nothing() {
        let fly = PLATFORMS.iter().find(|platform| platform.name == "Fly.io");
        for (platform, value, refused) in
            [(fly, Some("1"), true), (fly, None, false), (fly, Some(""), false), (None, Some("1"), false)]
        {
            let env = |name: &str| value.filter(|_| name == "RELEASE_COMMAND").map(OsString::from);
            let found = report(platform, Duration::from_secs(5), false, &env).refusal;
            assert_eq!(found.is_some(), refused, "{value:?}: {found:?}");
        }
    }
}
