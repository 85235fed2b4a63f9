//! The whole configuration: the file's sections and what the command line adds → a checked `Config`.

use super::app::{self, AppSection};
use super::checked::{Checked, Config};
use super::database::{self, DatabaseSection, Parsed};
use super::directory::DirectorySettings;
use super::document::{Document, Origin};
use super::environment::Environment;
use super::follow::{self, FollowSection};
use super::gate::{self, GateSection};
use super::handover::{self, HandoverSection};
use super::litestream::{self, Converted};
use super::notify::{self, HeartbeatSection, NotifySection};
use super::overlap::overlaps;
use super::platform;
use super::problem::{ConfigError, Location, Problem};
use super::replica::{KEY_VARIABLES, credential_variables};
use super::settings::{DatabaseSettings, LogFormat, LogLevel, LogSettings};
use super::shutdown::{self, ShutdownSection};
use super::status::{self, StatusSection};
use super::values::{Count, DAY, Key, Span, Tables};
use super::verify::{self, VerifySection};
use crate::gate::Accept;
use crate::handover::HandoverSettings;
use crate::restore::RestoreSettings;
use crate::store::AgeSettings;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the command needs, and therefore what may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Needs a command; works without databases, as a plain init.
    Run,
    /// Needs databases.
    Databases,
    /// Shows the configuration.
    Check,
    /// Asks a running supervisor: the configuration says on which socket, but no file is needed.
    Ask,
}

/// What the command line adds to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Replaces `[app] command` unless empty.
    pub command: Vec<OsString>,
    /// `--db PATH --replica URL`, in order.
    pub pairs: Vec<(PathBuf, String)>,
    /// `--gate LISTEN=APP`, in order.
    pub gates: Vec<String>,
    /// `--follow`.
    pub follow: bool,
}

/// supervisor.toml. A new section is a field here, with a struct of its keys.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    app: Key<AppSection>,
    shutdown: Key<ShutdownSection>,
    restore: Key<RestoreSection>,
    database: Key<Tables<DatabaseSection>>,
    gate: Key<Tables<GateSection>>,
    handover: Key<HandoverSection>,
    follow: Key<FollowSection>,
    notify: Key<NotifySection>,
    heartbeat: Key<HeartbeatSection>,
    log: Key<LogSection>,
    status: Key<StatusSection>,
    verify: Key<VerifySection>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RestoreSection {
    timeout: Key<Span<1_000, DAY>>,
    parallelism: Key<Count<1, 64>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogSection {
    level: Key<LogLevel>,
    format: Key<LogFormat>,
}

/// `file` is the text of the configuration file and its name for messages; None: the command line alone.
pub fn parse(
    file: Option<(&str, &Path)>,
    additions: &Additions,
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Checked, ConfigError> {
    parse_converted(file, &[], additions, purpose, environment)
}

/// The same of a Litestream configuration, which is converted first. Problems name its lines and keys.
pub fn parse_litestream(
    (text, name): (&str, &Path),
    additions: &Additions,
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Checked, ConfigError> {
    let Converted { text, origins, warnings } = litestream::convert(text, name, environment.variable)?;
    let mut checked = parse_converted(Some((&text, name)), &origins, additions, purpose, environment)?;
    checked.warnings.extend(warnings);
    Ok(checked)
}

fn parse_converted(
    file: Option<(&str, &Path)>,
    origins: &[Origin],
    additions: &Additions,
    purpose: Purpose,
    environment: Environment<'_>,
) -> Result<Checked, ConfigError> {
    let (text, name) = file.unwrap_or(("", Path::new("")));
    let (document, root) = Document::parse(text, name, origins, environment)?;
    let given: File = document.read(&root);
    let app = app::read(given.app.or(AppSection::default()), &additions.command, &document);
    let platform = platform::recognise(environment.variable);
    let default_grace = platform::default_grace(platform, environment.variable);
    let (shutdown, has_grace) = shutdown::read(given.shutdown, default_grace, &document);
    let restore = restore_settings(given.restore.or(RestoreSection::default()));
    let sections = given.database.value.into_iter().flat_map(|tables| tables.0);
    let mut databases: Vec<_> = sections.filter_map(|section| database::read(section, &document)).collect();
    let gates = gate::read_all(given.gate, &additions.gates, &document);
    let log = log_settings(given.log.or(LogSection::default()));
    let status = status::read(given.status.or(StatusSection::default()), &document);
    let verify = verify::read(given.verify.or(VerifySection::default()), &document);

    let mut problems = add_pairs(&additions.pairs, &mut databases, environment);
    let early = gates.iter().any(|gate| gate.settings.accept == Accept::Early);
    let handover = given.handover.or(HandoverSection::default());
    let handover = handover::read(handover, &databases, early, &document);
    let has_databases = !databases.is_empty();
    let follow = given.follow.or(FollowSection::default());
    let follow = follow::read(follow, additions.follow, has_databases, &document);
    let told = notify::read(given.notify, given.heartbeat, &document);
    let of_gates = gate::problems(&gates, status.listen, has_databases);
    for (location, message) in overlaps(&databases).into_iter().chain(of_gates) {
        document.complain(&location, message);
    }
    problems.extend(document.into_problems());
    ConfigError::unless_empty(problems)?;
    let has_command = !app.settings.command.is_empty();
    let warnings = check_purpose(purpose, file.map(|(_, name)| name), has_command, has_databases)?;
    let mut platform = platform::report(platform, shutdown.grace, has_grace, environment.variable);
    platform.refusal = platform.refusal.filter(|_| has_databases);
    let more = [&status.token_variables, &told.variables];
    let secret_variables = secret_variables(&databases, handover.as_ref(), &more, app.pass_credentials);
    let app_user = app.settings.user.clone();
    let mut settings = app.settings;
    settings.env_remove = not_given(&secret_variables, &settings.env);
    let sets_port = settings.env.iter().any(|(name, _)| name == "PORT");
    let app_port = gate::app_port(&gates, environment.text("PORT").as_deref()).filter(|_| !sets_port);
    let gates = gates.into_iter().map(|parsed| parsed.settings).collect();
    let (single, directories) = by_kind(databases);
    let config = Config {
        app: has_command.then_some(settings),
        app_rules: app.rules,
        shutdown,
        restore,
        databases: single,
        directories,
        gates,
        app_port,
        revision: platform::revision(environment.variable),
        handover,
        follow,
        notify: told.notify,
        heartbeat: told.heartbeat,
        log,
        status,
        verify,
    };
    Ok(Checked { config, app_user, warnings, secret_variables, platform })
}

fn log_settings(section: LogSection) -> LogSettings {
    LogSettings {
        level: section.level.or(LogLevel::default()),
        format: section.format.or(LogFormat::default()),
    }
}

/// A variable that the configuration gives to the app by its name stays.
fn not_given(secret_variables: &[OsString], env: &[(OsString, OsString)]) -> Vec<OsString> {
    let is_given = |name: &OsString| env.iter().any(|(given, _)| given == name);
    secret_variables.iter().filter(|name| !is_given(name)).cloned().collect()
}

/// The databases of the command line.
fn add_pairs(
    pairs: &[(PathBuf, String)],
    databases: &mut Vec<Parsed>,
    environment: Environment<'_>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, url) in pairs {
        match database::from_pair(path, url, environment) {
            Ok(parsed) => databases.push(parsed),
            Err(error) => problems.extend(error.problems),
        }
    }
    problems
}

/// Databases, and directories of databases.
fn by_kind(parsed: Vec<Parsed>) -> (Vec<DatabaseSettings>, Vec<DirectorySettings>) {
    let mut single = Vec::new();
    let mut directories = Vec::new();
    for Parsed { settings, directory, .. } in parsed {
        match directory {
            None => single.push(settings),
            Some(directory) => directories.push(DirectorySettings::new(directory, settings)),
        }
    }
    (single, directories)
}

/// The variables that carry credentials to litevisor, and are kept from the app. Without a replica of that
/// kind, the usual names are the app's own.
fn secret_variables(
    databases: &[Parsed],
    handover: Option<&HandoverSettings>,
    more: &[&Vec<String>],
    pass_them: bool,
) -> Vec<OsString> {
    if pass_them {
        return Vec::new();
    }
    let records = handover.and_then(|handover| handover.records.as_ref()).map(|records| records.scheme);
    let schemes = databases.iter().map(|parsed| parsed.settings.replica.scheme).chain(records);
    let usual = schemes.flat_map(credential_variables);
    let mut names: BTreeSet<&str> = usual.copied().collect();
    let encrypted = |parsed: &Parsed| parsed.settings.replica.age != AgeSettings::default();
    if databases.iter().any(encrypted) {
        names.extend(KEY_VARIABLES);
    }
    names.extend(databases.iter().flat_map(|parsed| parsed.secret_variables.iter().map(String::as_str)));
    names.extend(more.iter().flat_map(|names| names.iter().map(String::as_str)));
    names.into_iter().map(OsString::from).collect()
}

/// What this command cannot do without.
fn check_purpose(
    purpose: Purpose,
    file: Option<&Path>,
    has_command: bool,
    has_databases: bool,
) -> Result<Vec<String>, ConfigError> {
    let fail =
        |message: &str| Err(ConfigError::single(file.map(Location::file).unwrap_or_default(), message));
    if purpose == Purpose::Run && !has_command {
        return fail("there is no command to run: put it after \"--\", or give command in [app]");
    }
    match purpose {
        _ if has_databases => Ok(Vec::new()),
        Purpose::Ask => Ok(Vec::new()),
        Purpose::Run | Purpose::Check => Ok(vec![
            "no [[database]] is configured: NOTHING IS RESTORED AND NOTHING IS REPLICATED, litevisor only \
             supervises the app"
                .into(),
        ]),
        Purpose::Databases => fail("there is no [[database]]: add one with its path and replica"),
    }
}

fn restore_settings(section: RestoreSection) -> RestoreSettings {
    let mut settings = RestoreSettings::default();
    settings.timeout = section.timeout.value.map_or(settings.timeout, |span| span.0);
    let parallelism = section.parallelism.value.and_then(|count| usize::try_from(count.0).ok());
    settings.parallelism = parallelism.unwrap_or(settings.parallelism);
    settings
}
