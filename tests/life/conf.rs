//! Litestream's own configuration run as it is, imported, and what `check --connect` finds out about a
//! replica: the shipped binary on a directory and on real S3.

use crate::support::SOON;
use crate::support::gate::{Gate, Mood};
use crate::support::litestream::v3;
use crate::support::litevisor::{As, Litevisor};
use crate::support::process::Process;
use crate::support::replica::Replica;
use crate::support::seaweed::SECRET_KEY;
use crate::support::site::Site;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// litevisor with an environment of its own.
fn litevisor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.env_clear().stdin(Stdio::null()).args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A litestream.yml of 0.3 for this site, as both programs read it, with the bank as `exec`.
fn yml(site: &Site, count: u32) -> PathBuf {
    let path = site.path("litestream.yml");
    let keys = site.replica.yaml().replace("\n      ", "\n        ").replacen("      ", "      - ", 1);
    let bank = site.bank_line(&["--rate", "200", "--count", &count.to_string()]);
    let db = site.db();
    let db = db.display();
    std::fs::write(
        &path,
        format!("dbs:\n  - path: {db}\n    replicas:\n{keys}        retention: 72h\nexec: {bank}\n"),
    )
    .unwrap();
    path
}

/// The lines of `check` but for the file's name.
fn effective(config: &Path) -> String {
    let said = litevisor(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(said.status.success(), "{}", text(&said.stderr));
    text(&said.stdout).lines().skip(1).collect::<Vec<_>>().join("\n")
}

/// A container that ran `litestream replicate`: only the entrypoint is changed, the file stays. Then it is
/// imported.
#[test]
fn the_litestream_yml_stays_where_it_is() {
    for site in [Site::in_directory(), Site::in_s3("yml-stays")] {
        let words = site.bank_words(&["--rate", "200", "--count", "60"]);
        let old = v3::replicate(&site.replica, &site.db());
        let mut app = Command::new(&words[0]);
        app.args(&words[1..]);
        let mut app = Process::start(app);
        assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
        let out = site.path("judged-by-v3.db");
        crate::support::wait_until("everything in Litestream 0.3's replica", SOON, || {
            let restored = v3::restore(&site.replica, &site.db(), &out);
            restored.and_then(|()| crate::support::bank::check(&out, &site.ack(), None)).is_ok()
        });
        old.stop();
        let config = yml(&site, 40);
        for life in 1..=2 {
            site.wipe();
            let mut run = Litevisor::run(As::Process, &["--config".into(), config.clone().into_os_string()]);
            assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
            assert!(run.log_text().contains("restored"), "life {life}: {}", run.log_text());
            site.assert_replica_holds_everything(&format!("after life {life}"));
        }
        assert_eq!(site.acked(), 140);
        // What import prints comes to the same, and goes on there.
        let imported = litevisor(&["import", config.to_str().unwrap()]).output().unwrap();
        assert!(imported.status.success() && imported.stderr.is_empty(), "{}", text(&imported.stderr));
        let ours = site.path("imported.toml");
        std::fs::write(&ours, &imported.stdout).unwrap();
        assert_eq!(effective(&ours), effective(&config));
        assert!(effective(&ours).contains("snapshots = \"72h\""), "{}", effective(&ours));
        site.wipe();
        let mut run = Litevisor::run(As::Process, &["--config".into(), ours.into_os_string()]);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        site.assert_replica_holds_everything("after a life with what was imported");
        assert_eq!(site.acked(), 180);
    }
}

#[test]
fn a_yml_that_cannot_be_taken_over_starts_nothing() {
    let site = Site::in_directory();
    let config = site.path("litestream.yaml");
    let marker = site.path("started");
    let exec = format!("exec: touch {}\n", marker.display());
    for (yml, part) in [
        (
            "dbs:\n- path: /d/a.db\n  replica:\n    url: s3://b/a\n    age: {identities: [x], recipients: [age1x]}\n",
            "age: identity 1 is not an X25519 identity",
        ),
        (
            "dbs:\n- path: /d/a.db\n  replica: {type: nats, url: 'nats://h'}\n",
            "3: dbs[0].replica.url is of the kind nats",
        ),
        (
            "dbs:\n- path: /d/a.db\n  replica: {url: 's3://${NO_SUCH_BUCKET}/a'}\n",
            "uses ${NO_SUCH_BUCKET}, which is not set",
        ),
        ("dbs:\n- pfad: /d/a.db\n", "2: dbs[0].pfad is an unknown key"),
    ] {
        std::fs::write(&config, format!("{yml}{exec}")).unwrap();
        for args in [&["run"][..], &["check"]] {
            let said = litevisor(args).args(["--config", config.to_str().unwrap()]).output().unwrap();
            assert_eq!(said.status.code(), Some(78), "{yml}");
            assert!(text(&said.stderr).contains(part), "{yml}\n{}", text(&said.stderr));
        }
        assert!(!marker.exists());
    }
    let none = litevisor(&["import", "/no/such/litestream.yml"]).output().unwrap();
    assert_eq!(none.status.code(), Some(78));
    assert!(text(&none.stderr).contains("does not exist"));
}

/// Where it was made is not where it runs: variables that are missing here are references there.
#[test]
fn import_needs_no_variable_and_prints_no_value() {
    let site = Site::in_directory();
    let config = site.path("litestream.yml");
    let yml = "access-key-id: $KEY\nsecret-access-key: ${SECRET}\ndbs:\n- path: /d/a.db\n  replica: {url: 's3://${BUCKET}/a'}\n";
    std::fs::write(&config, yml).unwrap();
    let bare = litevisor(&["import", config.to_str().unwrap()]).output().unwrap();
    assert!(bare.status.success() && text(&bare.stderr).contains("${BUCKET}"), "{}", text(&bare.stderr));
    let mut full = litevisor(&["import", config.to_str().unwrap()]);
    let full =
        full.envs([("KEY", "hidden-1"), ("SECRET", "hidden-2"), ("BUCKET", "hidden-3")]).output().unwrap();
    assert!(full.status.success() && full.stderr.is_empty(), "{}", text(&full.stderr));
    assert_eq!(full.stdout, bare.stdout);
    assert!(!text(&full.stdout).contains("hidden"), "{}", text(&full.stdout));
    assert!(text(&full.stdout).contains("url = \"s3://${BUCKET}/a\""), "{}", text(&full.stdout));
}

fn connect(site: &Site, replica: &Replica, extra: &str) -> Output {
    let config = site.path("connect.toml");
    let database =
        format!("[[database]]\npath = \"/d/a.db\"\n{extra}\n[database.replica]\n{}", replica.toml());
    std::fs::write(&config, database).unwrap();
    litevisor(&["check", "--connect", "--config", config.to_str().unwrap()]).output().unwrap()
}

#[test]
fn check_connect_tries_what_is_needed_and_leaves_nothing() {
    for site in [Site::in_directory(), Site::in_s3("check-connect")] {
        site.make_history(20);
        let before = site.replica.objects();
        let said = connect(&site, &site.replica, "");
        assert!(said.status.success() && said.stderr.is_empty(), "{}", text(&said.stderr));
        let out = text(&said.stdout);
        for part in [
            "#   list  ",
            "#   create  ",
            "refused, as it must be",
            "#   read  ",
            "#   delete  ",
            "not there, as it must be",
        ] {
            assert!(out.contains(part), "{part}\n{out}");
        }
        assert_eq!(site.replica.objects(), before, "nothing is left, nothing was changed");
        // What it prints is a configuration still, but for the secrets.
        let again = site.path("again.toml");
        std::fs::write(&again, out).unwrap();
        effective(&again);
    }
}

#[test]
fn check_connect_names_what_is_wrong() {
    let site = Site::in_s3("check-connect-wrong");
    let Replica::S3 { endpoint, bucket, .. } = &site.replica else { panic!() };
    let upstream = endpoint.strip_prefix("http://").unwrap();
    // Nobody answers.
    let silent = Gate::before(upstream, Mood::Open);
    silent.set(Mood::Refusing);
    let said = connect(&site, &site.replica.at(&silent.endpoint()), "");
    assert_eq!(said.status.code(), Some(69), "{}", text(&said.stderr));
    assert!(
        text(&said.stdout).contains("FAILED") && text(&said.stderr).contains(bucket),
        "{}",
        text(&said.stderr)
    );
    // A bucket that is not there.
    let missing =
        Replica::S3 { endpoint: endpoint.clone(), bucket: "no-such-bucket".into(), prefix: "a".into() };
    let said = connect(&site, &missing, "");
    assert_eq!(said.status.code(), Some(69), "{}", text(&said.stderr));
    assert!(text(&said.stderr).contains("needed: s3:ListBucket"), "{}", text(&said.stderr));
    // Wrong keys: no secret is shown.
    let config = site.path("wrong.toml");
    let keys = site.replica.toml().replace(SECRET_KEY, "not-the-secret-key");
    std::fs::write(&config, format!("[[database]]\npath = \"/d/a.db\"\n[database.replica]\n{keys}")).unwrap();
    let said = litevisor(&["check", "--connect", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(said.status.code(), Some(69), "{}", text(&said.stderr));
    assert!(!format!("{}{}", text(&said.stderr), text(&said.stdout)).contains("not-the-secret-key"));
    assert!(site.replica.objects().is_empty());
}

#[test]
fn the_platform_is_said_and_its_grace_counts() {
    let site = Site::in_directory();
    let db: OsString = site.db().into();
    for (variable, part, severity) in [
        ("K_SERVICE", "platform: Cloud Run, grace 10s", "severity"),
        ("CLOUD_RUN_WORKER_POOL", "platform: Cloud Run worker pool, grace 10s", "severity"),
        ("FLY_APP_NAME", "platform: Fly.io, grace 5s, stops with SIGINT", "level"),
        ("KUBERNETES_SERVICE_HOST", "platform: Kubernetes, grace 30s", "level"),
        ("UNRELATED", "platform: none that is known here, grace 10s", "level"),
    ] {
        let mut run = litevisor(&["run", "--db"]);
        run.arg(&db).args(["--replica", &site.replica.url(), "--", "/bin/true"]).env(variable, "x");
        let said = run.output().unwrap();
        assert!(said.status.success(), "{}", text(&said.stderr));
        let line = text(&said.stderr).lines().next().unwrap().to_owned();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], part, "{line}");
        assert!(line[severity].is_string(), "{line}");
    }
    let config = site.path("long.toml");
    std::fs::write(&config, "[shutdown]\ngrace = \"60s\"\n").unwrap();
    let said =
        litevisor(&["check", "--config", config.to_str().unwrap()]).env("K_SERVICE", "x").output().unwrap();
    assert!(said.status.success());
    assert!(
        text(&said.stderr).contains("Cloud Run kills everything 10s after its stop signal"),
        "{}",
        text(&said.stderr)
    );
}

/// Railway kills at once unless it is asked not to; Fly.io runs the entrypoint on its release machine, too.
#[test]
fn platforms_that_take_the_data_are_warned_of_or_refused() {
    let site = Site::in_directory();
    let run = |name: &str, env: &[(&str, &str)]| {
        let mut run = litevisor(&["run", "--db"]);
        run.arg(site.path(name)).args(["--replica", &format!("{}-{name}", site.replica.url())]);
        let said = run.args(["--", "/bin/echo", "it runs"]).envs(env.iter().copied()).output().unwrap();
        (said.status.code(), text(&said.stdout), text(&said.stderr))
    };
    let (code, _, log) = run("a.db", &[("RAILWAY_SERVICE_ID", "x")]);
    assert_eq!(code, Some(0), "{log}");
    let warned = "\"level\":\"warn\",\"message\":\"Railway kills everything right after its stop signal";
    assert!(log.contains(warned) && log.contains("RAILWAY_DEPLOYMENT_DRAINING_SECONDS"), "{log}");
    let draining = ("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "20");
    let (_, _, log) = run("b.db", &[("RAILWAY_SERVICE_ID", "x"), draining]);
    assert!(log.contains("platform: Railway, grace 20s") && !log.contains("kills everything"), "{log}");
    let (code, out, log) = run("c.db", &[("FLY_APP_NAME", "x"), ("RELEASE_COMMAND", "1")]);
    assert_eq!((code, out.as_str()), (Some(78), ""), "{log}");
    assert!(log.contains("release_command") && log.contains("under [app]"), "{log}");
    assert!(!site.path("c.db").exists());
}
