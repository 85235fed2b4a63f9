//! The effective configuration as TOML, with secrets as `***`: what `litevisor check` prints. Pure.
//!
//! Written by hand: a serializer knows no comments, no `$$`, and puts each inner table into a section of its
//! own.

use super::checked::Config;
use super::follow::FollowSettings;
use super::handover::NEVER;
use super::notify::{self, HeartbeatSettings, NotifySettings};
use super::settings::{AppRules, DatabaseSettings, SocketChoice, StatusSettings};
use super::toml_text::quoted;
use super::units::{show_duration, show_size};
use super::verify::{self, VerifySettings};
use crate::gate::GateSettings;
use crate::handover::HandoverSettings;
use crate::model::Signal;
use crate::replicate::{ReplicateSettings, Retention, Tiers};
use crate::store::StoreSettings;
use crate::supervise::{AppSettings, ReadyCheck};
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::PathBuf;

const HIDDEN: &str = "***";

pub fn show(config: &Config) -> String {
    let mut out = Out::default();
    if let Some(app) = &config.app {
        show_app(&mut out, app);
        show_rules(&mut out, &config.app_rules);
        if let Some(port) = config.app_port {
            let _ = writeln!(out.text, "# the app's PORT: {port}");
        }
    }
    out.section("[shutdown]");
    out.text("grace", &show_duration(config.shutdown.grace));
    out.text("app_timeout", &show_duration(config.shutdown.app_timeout));
    out.text("pre_sync_timeout", &show_duration(config.shutdown.pre_sync_timeout));
    out.section("[restore]");
    out.text("timeout", &show_duration(config.restore.timeout));
    out.raw("parallelism", &config.restore.parallelism.to_string());
    for database in &config.databases {
        out.section("[[database]]");
        out.text("path", &database.path.to_string());
        show_database(&mut out, database);
    }
    for directory in &config.directories {
        out.section("[[database]]");
        out.text("dir", &directory.dir.to_string_lossy());
        out.text("pattern", directory.pattern.text());
        out.raw("watch", &directory.watch.to_string());
        out.raw("recursive", &directory.recursive.to_string());
        show_database(&mut out, directory.each());
    }
    config.gates.iter().for_each(|gate| show_gate(&mut out, gate));
    show_handover(&mut out, config.handover.as_ref());
    show_follow(&mut out, config.follow.as_ref());
    show_verify(&mut out, &config.verify);
    show_notify(&mut out, config);
    out.section("[log]");
    out.word("level", &config.log.level);
    out.word("format", &config.log.format);
    show_status(&mut out, &config.status);
    out.text
}

fn show_status(out: &mut Out, status: &StatusSettings) {
    out.section("[status]");
    match &status.socket {
        SocketChoice::Default => out.text("socket", SocketChoice::PATH),
        SocketChoice::At(path) => out.text("socket", &path.to_string_lossy()),
        SocketChoice::Off => out.text("socket", SocketChoice::NONE),
    }
    out.maybe("listen", status.listen.map(|address| address.to_string()).as_deref());
    out.maybe("max_lag", status.max_lag.map(show_duration).as_deref());
    match &status.token_file {
        Some(file) => out.text("token_file", &file.to_string_lossy()),
        None => out.maybe("token", status.token.as_ref().map(|_| HIDDEN)),
    }
}

fn show_handover(out: &mut Out, handover: Option<&HandoverSettings>) {
    out.section("[handover]");
    let Some(HandoverSettings { claims, wait, poll, trial, standby, heartbeat, records }) = handover else {
        return out.raw("enabled", "false");
    };
    if !claims {
        return out.text("enabled", NEVER);
    }
    out.raw("enabled", "true");
    out.text("wait", &show_duration(*wait));
    out.text("poll", &poll.map_or_else(|| NEVER.to_owned(), show_duration));
    out.text("trial", &show_duration(*trial));
    out.raw("standby", &standby.to_string());
    out.text("heartbeat", &heartbeat.map_or_else(|| NEVER.to_owned(), show_duration));
    out.maybe("url", records.as_ref().map(|records| records.url.as_str()));
}

fn show_follow(out: &mut Out, follow: Option<&FollowSettings>) {
    out.section("[follow]");
    out.raw("enabled", &follow.is_some().to_string());
    let Some(FollowSettings { poll, max_lag }) = follow else { return };
    out.text("poll", &show_duration(*poll));
    out.text("max_lag", &show_duration(*max_lag));
}

fn show_verify(out: &mut Out, verify: &VerifySettings) {
    out.section("[verify]");
    out.text("interval", &verify.interval.map_or_else(|| verify::NEVER.to_owned(), show_duration));
    out.word("mode", &verify.mode);
    out.text("bandwidth", &show_size(verify.bandwidth));
}

/// Of the URLs the host alone: who knows the rest can write there.
fn show_notify(out: &mut Out, config: &Config) {
    let shown = |url| format!("{}/{HIDDEN}", notify::origin(url).unwrap_or_default());
    if let Some(NotifySettings { url, events, after }) = &config.notify {
        out.section("[notify]");
        out.text("url", &shown(url));
        out.word("events", events);
        out.text("after", &show_duration(*after));
    }
    if let Some(HeartbeatSettings { url, interval }) = &config.heartbeat {
        out.section("[heartbeat]");
        out.text("url", &shown(url));
        out.text("interval", &show_duration(*interval));
    }
}

fn show_gate(out: &mut Out, gate: &GateSettings) {
    out.section("[[gate]]");
    out.text("listen", &gate.listen.to_string());
    out.text("app", &gate.app.to_string());
    out.word("accept", &gate.accept);
    out.text("timeout", &show_duration(gate.timeout));
    out.word("on_failure", &gate.on_failure);
    out.text("min_interval", &show_duration(gate.min_interval));
    out.raw("max_connections", &gate.max_connections.to_string());
    out.raw("proxy_protocol", &gate.proxy_protocol.to_string());
    if let Some(set_port) = gate.set_port {
        out.raw("set_port", &set_port.to_string());
    }
}

fn show_app(out: &mut Out, app: &AppSettings) {
    out.section("[app]");
    out.raw("command", &array(&app.command));
    if !app.setup.commands.is_empty() {
        let commands: Vec<String> = app.setup.commands.iter().map(|command| array(command)).collect();
        out.raw("setup", &format!("[{}]", commands.join(", ")));
        out.word("setup_when", &app.setup.when);
        out.maybe("setup_id", app.setup.id.as_deref());
    }
    out.maybe("user", app.user.as_deref());
    out.maybe("working_dir", app.working_dir.as_ref().map(|dir| dir.to_string_lossy()).as_deref());
    out.text("stop_signal", &signal_name(app.stop_signal.0));
    out.word("signal_to", &app.signal_to);
    out.maybe("ready", app.ready.as_ref().map(ReadyCheck::text));
    out.raw("no_new_privs", &app.no_new_privs.to_string());
    if !app.env.is_empty() {
        // A value may be a password.
        let names: Vec<String> = app
            .env
            .iter()
            .map(|(name, _)| format!("{} = {}", quoted(&name.to_string_lossy()), quoted(HIDDEN)))
            .collect();
        out.raw("env", &format!("{{ {} }}", names.join(", ")));
    }
    if !app.env_remove.is_empty() {
        let _ = writeln!(out.text, "# removed from the app's environment: {}", array(&app.env_remove));
    }
}

fn show_rules(out: &mut Out, rules: &AppRules) {
    let restart = &rules.restart;
    out.word("restart", &restart.when);
    let span = |span| quoted(&show_duration(span));
    let window = span(restart.window);
    let delay = span(restart.delay);
    let longest = span(restart.delay_max);
    let limit = restart.limit;
    let backoff = format!("{{ limit = {limit}, window = {window}, delay = {delay}, delay_max = {longest} }}");
    out.raw("backoff", &backoff);
    out.raw("success_codes", &format!("{:?}", rules.success.0));
    if !rules.signals.0.is_empty() {
        let name = |signal: Signal| signal_name(signal.0);
        let pair = |(from, to): &(Signal, Option<Signal>)| {
            let to = to.map_or("none".to_owned(), name);
            format!("{} = {}", quoted(&name(*from)), quoted(&to))
        };
        let pairs: Vec<String> = rules.signals.0.iter().map(pair).collect();
        out.raw("signals", &format!("{{ {} }}", pairs.join(", ")));
    }
}

fn show_database(out: &mut Out, database: &DatabaseSettings) {
    out.maybe("owner", database.owner.as_deref());
    out.maybe("mode", database.mode.map(|mode| format!("{mode:04o}")).as_deref());
    out.maybe("meta_dir", database.meta_dir.as_ref().map(|path| path.to_string_lossy()).as_deref());
    out.word("on_restore_failure", &database.on_restore_failure);
    let replicate = &database.replicate;
    let bytes = show_size(replicate.checkpoint_bytes);
    let interval = show_duration(replicate.checkpoint_interval);
    out.raw("checkpoint", &format!("{{ bytes = {}, interval = {} }}", quoted(&bytes), quoted(&interval)));
    show_maintenance(out, replicate);
    out.section("[database.replica]");
    show_replica(out, &database.replica);
    out.text("sync_interval", &show_duration(replicate.sync_interval));
}

fn show_maintenance(out: &mut Out, replicate: &ReplicateSettings) {
    let span = |span| quoted(&show_duration(span));
    out.text("wal_limit", &show_size(replicate.wal_limit));
    out.text("spill_limit", &show_size(replicate.spill_limit));
    let levels: Vec<String> = replicate.levels.iter().map(|interval| span(*interval)).collect();
    out.raw("levels", &format!("[{}]", levels.join(", ")));
    out.raw("snapshot", &format!("{{ interval = {} }}", span(replicate.snapshot_interval)));
    let retention = match &replicate.retention {
        None => "{ enabled = false }".to_owned(),
        Some(Retention { snapshots, raw, tiers }) => {
            let Tiers { hourly, daily, weekly, monthly } = tiers;
            let tiers = format!("hourly = {hourly}, daily = {daily}, weekly = {weekly}, monthly = {monthly}");
            format!("{{ snapshots = {}, l0 = {}, {tiers} }}", span(*snapshots), span(*raw))
        }
    };
    out.raw("retention", &retention);
    out.word("on_conflict", &replicate.on_conflict);
    out.word("locking_mode", &replicate.locking_mode);
}

fn show_replica(out: &mut Out, replica: &StoreSettings) {
    let hidden = |given: bool| given.then_some(HIDDEN);
    let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let StoreSettings { s3, gs, abs, sftp, .. } = replica;
    out.text("url", &replica.url);
    out.maybe("endpoint", replica.endpoint.as_deref());
    out.maybe("region", s3.region.as_deref());
    if let Some(path_style) = s3.force_path_style {
        out.raw("force_path_style", &path_style.to_string());
    }
    out.maybe("access_key_id", hidden(s3.access_key_id.is_some()));
    out.maybe("secret_access_key", hidden(s3.secret_access_key.is_some()));
    out.maybe("session_token", hidden(s3.session_token.is_some()));
    out.maybe("profile", s3.profile.as_deref());
    out.maybe("storage_class", s3.storage_class.as_deref());
    out.maybe("sse_kms_key_id", s3.sse_kms_key_id.as_deref());
    out.maybe("sse_c_key", hidden(s3.sse_c_key.is_some()));
    out.maybe("credentials_file", file(&gs.credentials_file).as_deref());
    out.maybe("account_key", hidden(abs.account_key.is_some()));
    out.maybe("sas_token", hidden(abs.sas_token.is_some()));
    out.maybe("password", hidden(sftp.password.is_some()));
    out.maybe("key_file", file(&sftp.key_file).as_deref());
    out.maybe("key_passphrase", hidden(sftp.key_passphrase.is_some()));
    out.maybe("host_key", sftp.host_key.as_deref());
    out.maybe("known_hosts_file", file(&sftp.known_hosts_file).as_deref());
    out.maybe("age_identities", hidden(replica.age.identities.is_some()));
    out.maybe("age_recipients", hidden(replica.age.recipients.is_some()));
    out.maybe("ca_file", file(&replica.ca_file).as_deref());
    out.maybe("part_size", replica.part_size.map(show_size).as_deref());
    if let Some(concurrency) = replica.concurrency {
        out.raw("concurrency", &concurrency.to_string());
    }
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIGRTMIN+{}", number - nix::libc::SIGRTMIN()),
    }
}

fn array(words: &[impl AsRef<OsStr>]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(&word.as_ref().to_string_lossy())).collect();
    format!("[{}]", quoted.join(", "))
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn section(&mut self, header: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "{header}");
    }

    fn raw(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    /// A variant of an enum by the name that the file has for it.
    fn word(&mut self, key: &str, value: &impl Serialize) {
        self.raw(key, &serde_json::to_string(value).unwrap_or_default());
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }
}
