//! The whole configuration: the file's sections and what the command line adds → a checked `Config`.

use super::database::{self, Parsed};
use super::litestream::{self, Converted, Origin};
use super::platform::PlatformTold;
use super::problem::{ConfigError, Place, Problem};
use super::reader::{Outside, Reader};
use super::section::{At, Section};
use super::{
    Config, DirectorySettings, LogFormat, LogLevel, LogSettings, ShutdownSettings, app, budget, platform, status,
};
use crate::restore::RestoreSettings;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

/// What the command needs, and therefore what may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Needs a command; works without databases, as a plain init.
    Run,
    /// Needs databases.
    Databases,
    /// Shows what there is.
    Check,
    /// Asks a running supervisor: what is configured says where, but no file is needed.
    Ask,
}

/// What the command line says beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Replaces `[app] command` unless empty.
    pub command: Vec<OsString>,
    /// `--db PATH --replica URL`, in order.
    pub pairs: Vec<(PathBuf, String)>,
}

/// A configuration that can be used, and what should be said about it loudly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub config: Config,
    /// `[app] user`, also where no command is known: restored files are to be the app's.
    pub app_user: Option<String>,
    pub warnings: Vec<String>,
    pub platform: PlatformTold,
}

/// `file` is the text of the configuration file and its name for messages; None: the command line alone.
pub fn parse(
    file: Option<(&str, &Path)>,
    additions: &Additions,
    purpose: Purpose,
    outside: Outside<'_>,
) -> Result<Checked, ConfigError> {
    parse_made(file, &[], additions, purpose, outside)
}

/// The same of a Litestream configuration: its text becomes one of ours, problems are told of its own lines.
pub fn parse_litestream(
    (text, name): (&str, &Path),
    additions: &Additions,
    purpose: Purpose,
    outside: Outside<'_>,
) -> Result<Checked, ConfigError> {
    let Converted { text, origins, warnings } = litestream::convert(text, name, outside.env)?;
    let mut checked = parse_made(Some((&text, name)), &origins, additions, purpose, outside)?;
    checked.warnings.extend(warnings);
    Ok(checked)
}

fn parse_made(
    file: Option<(&str, &Path)>,
    origins: &[Origin],
    additions: &Additions,
    purpose: Purpose,
    outside: Outside<'_>,
) -> Result<Checked, ConfigError> {
    let (text, name) = file.unwrap_or(("", Path::new("")));
    let reader = Reader::new(outside, name, text, origins);
    let (table, mistakes) = DeTable::parse_recoverable(text);
    if !mistakes.is_empty() {
        let problem = |mistake: &toml::de::Error| Problem {
            place: reader.place(mistake.span().map_or(0, |span| span.start), String::new()),
            message: mistake.message().lines().collect::<Vec<_>>().join(", "),
        };
        let mut problems: Vec<Problem> = mistakes.iter().map(problem).collect();
        // One slip makes several mistakes for the parser: the first of a line tells it.
        problems.dedup_by_key(|problem| problem.place.line);
        return Err(ConfigError::new(problems));
    }
    let mut root = Section::root(&reader, table.into_inner());
    let app = app::read(root.table("app"), &additions.command, outside.working_dir);
    let platform = platform::recognise(outside.env);
    let (shutdown, grace_given) = shutdown(root.table("shutdown"), platform::default_grace(platform), &reader);
    let restore = restore(root.table("restore"));
    let mut databases: Vec<Parsed> =
        root.tables("database").into_iter().filter_map(|section| database::read(section, outside)).collect();
    let log = log(root.table("log"));
    let status = status::read(root.table("status"), outside.working_dir);
    root.finish(&[]);

    let mut problems = Vec::new();
    for (path, url) in &additions.pairs {
        match database::from_pair(path, url, outside) {
            Ok(parsed) => databases.push(parsed),
            Err(error) => problems.extend(error.problems),
        }
    }
    for (place, message) in database::doubles(&databases) {
        reader.complain(&place, message);
    }
    problems.extend(reader.into_problems());
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    let warnings = check_purpose(purpose, file.map(|(_, name)| name), app.command.is_empty(), databases.is_empty())?;
    let platform = platform::told(platform, shutdown.grace, grace_given);
    let app_user = app.user.clone();
    let app_rules = app.rules.clone();
    let app = (!app.command.is_empty()).then(|| app::settings(app, &databases));
    let (mut single, mut directories) = (Vec::new(), Vec::new());
    for Parsed { settings, many, .. } in databases {
        match many {
            None => single.push(settings),
            Some(many) => directories.push(DirectorySettings::new(many, settings)),
        }
    }
    let config = Config { app, app_rules, shutdown, restore, databases: single, directories, log, status };
    Ok(Checked { config, app_user, warnings, platform })
}

/// What this command cannot do without.
fn check_purpose(
    purpose: Purpose,
    file: Option<&Path>,
    no_command: bool,
    no_databases: bool,
) -> Result<Vec<String>, ConfigError> {
    let place = Place { file: file.map(Path::to_owned), ..Place::default() };
    if purpose == Purpose::Run && no_command {
        let told = "there is no command to run: put it after \"--\", or give command in [app]";
        return Err(ConfigError::one(place, told));
    }
    match (purpose, no_databases) {
        (_, false) => Ok(Vec::new()),
        (Purpose::Ask, true) => Ok(Vec::new()),
        (Purpose::Run | Purpose::Check, true) => Ok(vec![
            "no [[database]] is configured: NOTHING IS RESTORED AND NOTHING IS REPLICATED, litevisor only supervises \
             the app"
                .into(),
        ]),
        (Purpose::Databases, true) => {
            Err(ConfigError::one(place, "there is no [[database]]: add one with its path and replica"))
        }
    }
}

/// The settings, and whether the grace was given.
fn shutdown(section: Option<Section<'_, '_>>, default: Duration, reader: &Reader<'_>) -> (ShutdownSettings, bool) {
    let day = Duration::from_secs(86_400);
    let (mut grace, mut app_timeout, mut pre_sync) = (None, None, None);
    let mut place = Place::option("shutdown");
    if let Some(mut section) = section {
        place = section.place.clone();
        grace = section.duration("grace", Duration::from_secs(1)..=day);
        app_timeout = section.duration("app_timeout", Duration::ZERO..=day);
        pre_sync = section.duration("pre_sync_timeout", Duration::ZERO..=day);
        section.finish(&[]);
    }
    let value = |at: &Option<At<Duration>>| at.as_ref().map(|at| at.value);
    let whole = value(&grace).unwrap_or(default);
    let given = grace.is_some();
    let settings = budget::split(whole, value(&app_timeout), value(&pre_sync)).unwrap_or_else(|(key, message)| {
        // The named key when it is written; a default that does not fit is the whole's fault.
        let written = match key {
            "app_timeout" => app_timeout.or(grace),
            "pre_sync_timeout" => pre_sync,
            _ => grace,
        };
        let at = written.map_or(place, |at| at.place);
        reader.complain(&at.with_key(format!("shutdown.{key}")), message);
        ShutdownSettings { grace: whole, app_timeout: whole, pre_sync_timeout: whole }
    });
    (settings, given)
}

fn restore(section: Option<Section<'_, '_>>) -> RestoreSettings {
    let mut settings = RestoreSettings::default();
    let Some(mut section) = section else { return settings };
    let timeout = section.duration("timeout", Duration::from_secs(1)..=Duration::from_secs(86_400));
    settings.timeout = timeout.map_or(settings.timeout, |at| at.value);
    if let Some(parallelism) = section.count("parallelism", 1..=64) {
        settings.parallelism = usize::try_from(parallelism).unwrap_or(settings.parallelism);
    }
    section.finish(&[]);
    settings
}

fn log(section: Option<Section<'_, '_>>) -> LogSettings {
    let mut settings = LogSettings::default();
    let Some(mut section) = section else { return settings };
    settings.level = section.choice("level", &LogLevel::NAMES).unwrap_or(settings.level);
    settings.format = section.choice("format", &LogFormat::NAMES).unwrap_or(settings.format);
    section.finish(&[]);
    settings
}
