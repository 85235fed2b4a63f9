//! The configuration as a whole: text in, settings or problems out.

use super::*;
use crate::model::{Restart, Secret, Signal, SuccessCodes};
use crate::replica::ProofMode;
use crate::replicate::{LockingMode, OnConflict, ReplicateSettings, Retention, Tiers};
use crate::restore::{OnRestoreFailure, RestoreSettings};
use crate::store::Scheme;
use crate::supervise::{AppSettings, SetupSettings, SetupWhen, SignalTo};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod age;
mod environment;
mod follow;
mod gate;
mod handover;
mod problems;
mod reference;

/// Of age, and the recipient that it belongs to.
const IDENTITY: &str = "AGE-SECRET-KEY-14XFHMT5X6M5ZDVU8A7X9HNYUVEEHPMN0PTTMR29LPLF5GY8XD28SQUW2T5";
const RECIPIENT: &str = "age1h63k32f74yv7uvakh33dg5sz8h4n2napfw8ys62qlckqdepevdhqscvrxa";

const EXAMPLE: &str = include_str!("../../supervisor.toml.example");

/// A world of its own: variables and files by name.
#[derive(Default)]
struct World {
    env: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl World {
    fn with<T>(&self, use_it: impl FnOnce(Environment<'_>) -> T) -> T {
        let env = |name: &str| self.env.get(name).map(OsString::from);
        let read = |path: &Path| match self.files.get(path.to_str().unwrap()) {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(Error::from(ErrorKind::NotFound)),
        };
        use_it(Environment { variable: &env, read: &read, working_dir: Path::new("/srv") })
    }

    fn parse(&self, text: &str, purpose: Purpose) -> Result<Checked, ConfigError> {
        self.with(|environment| {
            parse(Some((text, Path::new("s.toml"))), &Additions::default(), purpose, environment)
        })
    }
}

fn read(text: &str) -> Config {
    World::default().parse(text, Purpose::Check).unwrap_or_else(|error| panic!("{error}")).config
}

fn problems(text: &str) -> Vec<String> {
    let error = World::default().parse(text, Purpose::Check).unwrap_err();
    error.problems.iter().map(ToString::to_string).collect()
}

/// One database with `keys` in [database.replica].
fn with_replica(keys: &str) -> String {
    format!("[[database]]\npath = \"/d/a.db\"\n[database.replica]\n{keys}\n")
}

fn app(text: &str) -> AppSettings {
    read(text).app.unwrap()
}

#[test]
fn the_example_parses_to_the_defaults() {
    let config = read(EXAMPLE);
    let database = config.databases.first().unwrap();
    assert_eq!(database.replicate, ReplicateSettings::default());
    assert_eq!(config.restore, RestoreSettings::default());
    assert_eq!(config.log, LogSettings::default());
    assert_eq!(config.status, StatusSettings::default());
    assert_eq!(config.app_rules, AppRules::default());
    assert_eq!(config.shutdown, read("").shutdown);
    let bare = app("[app]\ncommand = [\"/usr/bin/app\", \"--port\", \"8080\"]\n");
    assert_eq!(AppSettings { env_remove: Vec::new(), ..config.app.unwrap() }, bare);
}

#[test]
fn the_example_parses_with_every_comment_key_too() {
    let key = |line: &str| {
        let name = line.strip_prefix("# ")?.split_once(" = ")?.0;
        name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then(|| name.to_owned())
    };
    // All keys at once contradict each other (NAME and NAME_file), so one line is opened at a time.
    for (number, line) in EXAMPLE.lines().enumerate() {
        let Some(name) = key(line) else { continue };
        let mut lines: Vec<&str> = EXAMPLE.lines().collect();
        lines[number] = line.strip_prefix("# ").unwrap();
        // A key of the gate needs its table and the two required keys, the first lines that are so written.
        let gate = lines.iter().position(|line| *line == "# [[gate]]").unwrap();
        if number > gate {
            for needed in ["# [[gate]]", "# listen = \":8080\"", "# app = "] {
                let at = gate + lines[gate..].iter().position(|line| line.starts_with(needed)).unwrap_or(0);
                lines[at] = lines[at].trim_start_matches("# ");
            }
        }
        let mut world = World::default();
        for variable in [
            "S3_KEY",
            "S3_SECRET",
            "S3_TOKEN",
            "S3_SSE_KEY",
            "ABS_KEY",
            "ABS_SAS",
            "SFTP_PASSWORD",
            "SFTP_PASSPHRASE",
            "STATUS_TOKEN",
        ] {
            world.env.insert(format!("APP_{variable}").leak(), "x");
        }
        for file in [
            "s3_key",
            "s3_secret",
            "s3_token",
            "s3_sse_key",
            "abs_key",
            "abs_sas",
            "sftp_password",
            "sftp_passphrase",
            "status_token",
        ] {
            world.files.insert(format!("/run/secrets/{file}").leak(), "x\n");
        }
        world.env.insert("APP_AGE_IDENTITIES", IDENTITY);
        world.files.insert("/run/secrets/age.txt", IDENTITY);
        world.files.insert("/etc/litevisor/recipients.txt", RECIPIENT);
        for name in ["webhook", "heartbeat"] {
            world.env.insert(format!("APP_{}", name.to_uppercase()).leak(), "https://h/x");
            world.files.insert(format!("/run/secrets/{name}").leak(), "https://h/x\n");
        }
        let Err(error) = world.parse(&lines.join("\n"), Purpose::Check) else { continue };
        let told = error.to_string();
        let partner = told.contains("needs ") && (name.contains("_key") || name.contains("session_token"));
        let second_database =
            ["path", "url", "dir", "pattern", "watch", "recursive"].contains(&name.as_str());
        let other_store = told.contains("belongs to ") && told.contains("this one is s3://");
        let partner = partner || told.contains("age_recipients need age_identities");
        assert!(partner || second_database || other_store, "{name}: {told}");
    }
}

/// Asks every section for its valid keys through its own error message, and looks each of them up in the
/// example.
#[test]
fn the_example_names_every_key() {
    let probe = "qqqqqqqqqqqq = 1\n[app]\nqqqqqqqqqqqq = 1\n[shutdown]\nqqqqqqqqqqqq = \
        1\n[restore]\nqqqqqqqqqqqq = 1\n\
                 [log]\nqqqqqqqqqqqq = 1\n[status]\nqqqqqqqqqqqq = 1\n[notify]\nqqqqqqqqqqqq = \
                 1\n[heartbeat]\nqqqqqqqqqqqq = 1\n[[gate]]\nqqqqqqqqqqqq = 1\n[[database]]\nqqqqqqqqqqqq = \
                 1\n[database.checkpoint]\nqqqqqqqqqqqq = 1\n\
                 [database.replica]\nqqqqqqqqqqqq = 1\n";
    let told = problems(probe);
    let lists: Vec<&str> = told.iter().filter_map(|line| Some(line.split_once("valid here: ")?.1)).collect();
    assert_eq!(lists.len(), 12, "{told:?}");
    for key in lists.iter().flat_map(|list| list.split(", ")) {
        let forms = [format!("\n{key} = "), format!("\n# {key} = "), format!("[{key}]"), format!(".{key}]")];
        let inline = [format!("{{ {key} = "), format!(", {key} = ")];
        assert!(
            forms.iter().chain(&inline).any(|form| EXAMPLE.contains(form.as_str())),
            "{key} is not in the example"
        );
    }
}

#[test]
fn every_key_arrives() {
    let mut world = World::default();
    world.env.extend([("KEY", "AK"), ("SECRET", "SK"), ("IDENTITY", IDENTITY)]);
    world.files.extend([
        ("/run/token", "TOK\n"),
        ("/run/beat", "http://h/1\n"),
        ("/srv/sse", "SSE\r\n"),
        ("/etc/age", RECIPIENT),
    ]);
    let text = r#"
        [app]
        command = ["/run.sh", "$HOME"]
        setup = [["/run.sh", "migrate"], ["seed"]]
        setup_when = "changed"
        setup_id = "v${KEY}"
        user = "1000:1000"
        working_dir = "srv"
        stop_signal = "INT"
        signal_to = "main"
        ready = "http://127.0.0.1:3000/health"
        restart = "on-failure"
        backoff = { limit = 9, window = "5m", delay = "250ms", delay_max = "1m" }
        success_codes = [143, 3]
        signals = { TERM = "QUIT", SIGHUP = "none", RTMIN = "USR1" }
        env = { A = "${KEY}", B = "" }
        no_new_privs = true
        [shutdown]
        grace = "20s"
        app_timeout = "15s"
        pre_sync_timeout = "3s"
        [restore]
        timeout = "2m"
        parallelism = 4
        [[database]]
        path = "data/a.db"
        owner = "app"
        mode = "0600"
        meta_dir = "meta"
        on_restore_failure = "start"
        checkpoint = { bytes = "1MiB", interval = "30s" }
        wal_limit = "64MiB"
        spill_limit = "2GiB"
        levels = ["10s", "2m"]
        snapshot = { interval = "6h" }
        retention = { snapshots = "48h", l0 = "1m", hourly = 24, daily = 7, weekly = 4, monthly = 12 }
        on_conflict = "continue"
        locking_mode = "exclusive"
        [database.replica]
        url = "s3://bucket/a"
        endpoint = "https://s3.example.com/"
        region = "auto"
        force_path_style = false
        access_key_id = "${KEY}"
        secret_access_key = "${SECRET}"
        session_token_file = "/run/token"
        storage_class = "STANDARD_IA"
        sse_kms_key_id = "k"
        sse_c_key_file = "sse"
        age_identities = "${IDENTITY}"
        age_recipients_file = "/etc/age"
        ca_file = "/ca.pem"
        part_size = "8MiB"
        concurrency = 3
        sync_interval = "250ms"
        [verify]
        interval = "12h"
        mode = "quick"
        bandwidth = "1MiB"
        [log]
        level = "debug"
        format = "json"
        [notify]
        url = "https://hooks.example.com/${SECRET}"
        events = ["taken-over"]
        after = "2m"
        [heartbeat]
        url_file = "/run/beat"
        interval = "30s"
        [status]
        socket = "run/l.sock"
        listen = ":9090"
        max_lag = "5m"
        token_file = "/run/token"
    "#;
    let config = world.parse(text, Purpose::Run).unwrap().config;
    let app = config.app.unwrap();
    assert_eq!(app.command, ["/run.sh", "$HOME"]);
    let commands = vec![vec!["/run.sh".into(), "migrate".into()], vec!["seed".into()]];
    assert_eq!(app.setup, SetupSettings { commands, when: SetupWhen::Changed, id: Some("vAK".into()) });
    assert_eq!((app.user.as_deref(), app.stop_signal.0, app.no_new_privs), (Some("1000:1000"), 2, true));
    assert_eq!(app.working_dir.as_deref(), Some(Path::new("/srv/srv")));
    let ready = app.ready.map(|ready| ready.text().to_owned());
    assert_eq!((app.signal_to, ready.as_deref()), (SignalTo::Main, Some("http://127.0.0.1:3000/health")));
    assert_eq!(app.env, [("A".into(), "AK".into()), ("B".into(), OsString::new())]);
    let seconds = Duration::from_secs;
    let rules = config.app_rules;
    let real_time = Signal(nix::libc::SIGRTMIN());
    let signals = [(Signal(1), None), (real_time, Some(Signal(10))), (Signal::TERM, Some(Signal(3)))];
    assert!(
        signals.iter().all(|pair| rules.signals.0.contains(pair)) && rules.signals.0.len() == 3,
        "{rules:?}"
    );
    assert_eq!(rules.success, SuccessCodes(vec![143, 3]));
    let backoff = (rules.restart.limit, rules.restart.window, rules.restart.delay, rules.restart.delay_max);
    assert_eq!(backoff, (9, seconds(300), Duration::from_millis(250), seconds(60)));
    assert_eq!(rules.restart.when, Restart::OnFailure);
    let shutdown =
        ShutdownSettings { grace: seconds(20), app_timeout: seconds(15), pre_sync_timeout: seconds(3) };
    assert_eq!(config.shutdown, shutdown);
    assert_eq!(
        config.restore,
        RestoreSettings { timeout: seconds(120), parallelism: 4, ..RestoreSettings::default() }
    );
    assert_eq!(config.log, LogSettings { level: LogLevel::Debug, format: LogFormat::Json });
    let verify =
        VerifySettings { interval: Some(seconds(12 * 3600)), mode: ProofMode::Quick, bandwidth: 1 << 20 };
    assert_eq!(config.verify, verify);
    let socket = SocketChoice::At("/srv/run/l.sock".into());
    let (token, token_file) = (Some(Secret::new("TOK")), Some("/run/token".into()));
    let (listen, max_lag) = ("[::]:9090".parse().ok(), Some(seconds(300)));
    let status = StatusSettings { socket, listen, max_lag, token, token_file, token_variables: Vec::new() };
    assert_eq!(config.status, status);
    let url = Secret::new("https://hooks.example.com/SK");
    let notify = NotifySettings { url, events: vec![NotifyEvent::TakenOver], after: seconds(120) };
    let heartbeat = HeartbeatSettings { url: Secret::new("http://h/1"), interval: seconds(30) };
    assert_eq!((config.notify, config.heartbeat), (Some(notify), Some(heartbeat)));
    let [database] = config.databases.as_slice() else { panic!("one database") };
    assert_eq!(database.path.as_path(), Path::new("/srv/data/a.db"));
    assert_eq!((database.owner.as_deref(), database.mode), (Some("app"), Some(0o600)));
    assert_eq!(database.meta_dir.as_deref(), Some(Path::new("/srv/meta")));
    assert_eq!(database.on_restore_failure, OnRestoreFailure::Start);
    let tiers = Tiers { hourly: 24, daily: 7, weekly: 4, monthly: 12 };
    let replicate = ReplicateSettings {
        sync_interval: Duration::from_millis(250),
        checkpoint_bytes: 1 << 20,
        checkpoint_interval: seconds(30),
        wal_limit: 64 << 20,
        spill_limit: 2 << 30,
        levels: vec![seconds(10), seconds(120)],
        snapshot_interval: seconds(6 * 3600),
        retention: Some(Retention { snapshots: seconds(48 * 3600), raw: seconds(60), tiers }),
        on_conflict: OnConflict::Continue,
        locking_mode: LockingMode::Exclusive,
    };
    assert_eq!(database.replicate, replicate);
    let replica = &database.replica;
    assert_eq!((replica.scheme, replica.bucket.as_str(), replica.path.as_str()), (Scheme::S3, "bucket", "a"));
    assert_eq!(replica.endpoint.as_deref(), Some("https://s3.example.com"));
    assert_eq!((replica.s3.region.as_deref(), replica.s3.force_path_style), (Some("auto"), Some(false)));
    assert_eq!(replica.s3.access_key_id.as_deref(), Some("AK"));
    let secret =
        |secret: &Option<crate::model::Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
    assert_eq!(secret(&replica.s3.secret_access_key).as_deref(), Some("SK"));
    assert_eq!(secret(&replica.s3.session_token).as_deref(), Some("TOK"));
    assert_eq!(secret(&replica.s3.sse_c_key).as_deref(), Some("SSE"));
    assert_eq!(secret(&replica.age.identities).as_deref(), Some(IDENTITY));
    assert_eq!(secret(&replica.age.recipients).as_deref(), Some(RECIPIENT));
    assert_eq!((replica.part_size, replica.concurrency), (Some(8 << 20), Some(3)));
    assert_eq!(replica.ca_file, Some(PathBuf::from("/ca.pem")));
}

/// Without the key, a replica that is encrypted with it would go on in the clear.
#[test]
fn parameters_of_the_url_count_in_a_file_too() {
    let url = "s3://b/p?partSize=8388608&concurrency=3&storageClass=IA&sseKmsKeyId=k&sseCustomerKey=${KEY}";
    let mut world = World::default();
    world.env.insert("KEY", "SECRET");
    let checked = world.parse(&with_replica(&format!("url = \"{url}\"")), Purpose::Check).unwrap();
    let replica = &checked.config.databases[0].replica;
    assert_eq!((replica.part_size, replica.concurrency), (Some(8 << 20), Some(3)));
    assert_eq!(
        (replica.s3.storage_class.as_deref(), replica.s3.sse_kms_key_id.as_deref()),
        (Some("IA"), Some("k"))
    );
    assert_eq!(replica.s3.sse_c_key.as_ref().map(Secret::reveal), Some("SECRET"));
    assert!(checked.secret_variables.contains(&"KEY".into()), "{:?}", checked.secret_variables);
    for (key, value) in
        [("part_size", "\"9MiB\""), ("concurrency", "4"), ("storage_class", "\"x\""), ("sse_c_key", "\"x\"")]
    {
        let text = with_replica(&format!("url = \"{url}\"\n{key} = {value}"));
        let told = world.parse(&text, Purpose::Check).unwrap_err().to_string();
        assert_eq!(
            told,
            format!("s.toml:5: database.replica.{key} is given in the url too: keep one of the two")
        );
    }
}

#[test]
fn same_bucket_and_path_on_another_endpoint_is_another_replica() {
    let text = with_replica("url = \"s3://b/p\"")
        + "[[database]]\npath = \"/d/b.db\"\n[database.replica]\nurl = \"s3://b/p?endpoint=http://h\"\n";
    assert_eq!(read(&text).databases.len(), 2);
}

#[test]
fn what_a_command_needs() {
    let world = World::default();
    let database = with_replica("url = \"/backup\"");
    let with_app = format!("[app]\ncommand = [\"x\"]\n{database}");
    assert!(world.parse(&database, Purpose::Run).unwrap_err().to_string().contains("no command to run"));
    assert!(world.parse(&database, Purpose::Databases).unwrap().config.app.is_none());
    assert!(world.parse(&with_app, Purpose::Run).unwrap().warnings.is_empty());
    assert!(world.parse("[app]\ncommand = [\"x\"]", Purpose::Run).unwrap().warnings[0].contains("NOTHING"));
    let told = world.parse("", Purpose::Databases).unwrap_err().to_string();
    assert_eq!(told, "s.toml: there is no [[database]]: add one with its path and replica");
}

#[test]
fn the_command_line_adds_and_replaces() {
    let additions = Additions {
        command: vec!["/other".into()],
        pairs: vec![("b.db".into(), "file:///r/b".into()), ("/d/c.db".into(), "s3://k/c?region=eu".into())],
        ..Additions::default()
    };
    let text = format!("[app]\ncommand = [\"x\"]\nuser = \"u\"\n{}", with_replica("url = \"/r/a\""));
    let found = World::default()
        .with(|environment| parse(Some((&text, Path::new("s.toml"))), &additions, Purpose::Run, environment))
        .unwrap()
        .config;
    let paths: Vec<String> = found.databases.iter().map(|database| database.path.to_string()).collect();
    assert_eq!(paths, ["/d/a.db", "/srv/b.db", "/d/c.db"]);
    let app = found.app.unwrap();
    assert_eq!((app.command, app.user), (vec![OsString::from("/other")], Some("u".into())));
    // A pair that collides with the file is a problem like any other.
    let collision = Additions { pairs: vec![("/d/z.db".into(), "/r/a".into())], ..additions };
    let told = World::default()
        .with(|environment| parse(Some((&text, Path::new("s.toml"))), &collision, Purpose::Run, environment))
        .unwrap_err();
    assert_eq!(
        told.to_string(),
        "--replica is the replica of /d/a.db already (line 7): every database needs a path of its own"
    );
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let mut world = World::default();
    world.env.extend([("K", "AKID-VALUE"), ("S", "SECRET-VALUE")]);
    let replica = "url = \"s3://b/p\"\naccess_key_id = \"${K}\"\nsecret_access_key = \"${S}\"\nsse_c_key = \
        \"${S}\"\n\
                   region = \"a$$b\"\npart_size = \"8MiB\"\nconcurrency = 2\nforce_path_style = true\n";
    let text = format!(
        "[app]\ncommand = [\"x\", \"say \\\"$HOME\\\"\"]\nuser = \"u\"\nenv = {{ TOKEN = \"${{S}}\" }}\n{}",
        with_replica(replica)
    );
    let config = world.parse(&text, Purpose::Run).unwrap().config;
    let shown = show::show(&config);
    assert!(!shown.contains("AKID-VALUE") && !shown.contains("SECRET-VALUE"), "{shown}");
    assert!(!format!("{:?}", config.databases).contains("SECRET-VALUE"));
    let again = world.parse(&shown, Purpose::Run).unwrap().config;
    let keys =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect::<Vec<_>>();
    assert_eq!(keys(&show::show(&again)), keys(&shown));
    assert_eq!(again.databases[0].replica.s3.region, config.databases[0].replica.s3.region);
    assert_eq!(again.app.unwrap().command, config.app.unwrap().command);
}

#[test]
fn defaults_by_platform() {
    let mut world = World::default();
    world.env.insert("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let grace = |text: &str| world.parse(text, Purpose::Check).unwrap().config.shutdown.grace;
    assert_eq!(grace(""), Duration::from_secs(30));
    assert_eq!(grace("[shutdown]\ngrace = \"12s\""), Duration::from_secs(12));
    // A part that does not fit the platform's default is named where it is written.
    let told = world.parse("[shutdown]\napp_timeout = \"40s\"", Purpose::Check).unwrap_err().to_string();
    assert!(
        told.starts_with("s.toml:2: shutdown.app_timeout is 40s, but the whole of it, grace, is 30s"),
        "{told}"
    );
}
