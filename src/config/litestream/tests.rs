//! Litestream's configurations as its documentation and its users write them, against what is in effect then.

use super::*;
use crate::config::{Additions, Checked, Config, Environment, Purpose, parse, parse_litestream};
use crate::store::Scheme;
use std::io::{Error, ErrorKind};
use std::time::Duration;

const FILE: &str = "litestream.yml";

fn with_env<T>(env: &[(&str, &str)], use_it: impl FnOnce(Environment<'_>) -> T) -> T {
    let known =
        |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let read = |path: &Path| match path.to_str() {
        Some("/keys/sse") => Ok(b"c2VjcmV0\n".to_vec()),
        _ => Err(Error::from(ErrorKind::NotFound)),
    };
    use_it(Environment { variable: &known, read: &read, working_dir: Path::new("/srv") })
}

fn imported(text: &str, env: &[(&str, &str)]) -> Converted {
    with_env(env, |environment| convert(text, Path::new(FILE), environment.variable))
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Run straight from the YAML; and what `import` prints must come to the same.
fn both(text: &str, env: &[(&str, &str)]) -> Checked {
    let additions = Additions::default();
    let direct = with_env(env, |environment| {
        parse_litestream((text, Path::new(FILE)), &additions, Purpose::Check, environment)
    })
    .unwrap_or_else(|error| panic!("{text}\n{error}"));
    let printed = imported(text, env).text;
    let again = with_env(env, |environment| {
        parse(Some((&printed, Path::new("supervisor.toml"))), &additions, Purpose::Check, environment)
    })
    .unwrap_or_else(|error| panic!("{printed}\n{error}"));
    assert_eq!(direct.config, again.config, "{printed}");
    direct
}

fn config(text: &str) -> Config {
    both(text, &[]).config
}

fn problems(text: &str) -> Vec<String> {
    let error = with_env(&[("BAD", "x; y")], |environment| {
        parse_litestream((text, Path::new(FILE)), &Additions::default(), Purpose::Check, environment)
    });
    error.unwrap_err().problems.iter().map(ToString::to_string).collect()
}

fn replica(keys: &str) -> String {
    let keys: String = keys.lines().map(|line| format!("      {line}\n")).collect();
    format!("dbs:\n  - path: /d/a.db\n    replica:\n{keys}")
}

/// Grafana on Cloud Run with Litestream 0.3.13: a bucket from the environment, `gcs://` as 0.3 calls it.
#[test]
fn grafana_on_cloud_run() {
    let text = "dbs:\n  - path: /var/lib/grafana/grafana.db\n    replicas:\n      - url: \
        gcs://$GCS_BUCKET/grafana\n\
                exec: /run.sh\n";
    let checked = both(text, &[("GCS_BUCKET", "my-grafana")]);
    let [database] = checked.config.databases.as_slice() else { panic!("{:?}", checked.config) };
    assert_eq!(database.path.as_path(), Path::new("/var/lib/grafana/grafana.db"));
    assert_eq!(
        (database.replica.scheme, database.replica.url.as_str()),
        (Scheme::Gs, "gs://my-grafana/grafana")
    );
    assert_eq!(checked.config.app.unwrap().command, ["/run.sh"]);
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    // By its parts, as the reference writes it.
    let parts = config(&replica("type: gcs\nbucket: my-grafana\npath: grafana"));
    assert_eq!(parts.databases[0].replica.url, "gs://my-grafana/grafana");
}

/// HedgeDoc on Kubernetes with an S3-compatible store: keys at the top, endpoint without a scheme.
#[test]
fn hedgedoc_with_an_s3_compatible_store() {
    let text = "access-key-id: ${TEBI_KEY}\nsecret-access-key: ${TEBI_SECRET}\ndbs:\n  - path: \
        /hedgedoc/data/db.sqlite\n    \
                replicas:\n      - type: s3\n        endpoint: s3.tebi.io\n        bucket: notes\n        \
                path: hedgedoc\n        \
                force-path-style: true\n        retention: 72h\n        snapshot-interval: 12h\n        \
                sync-interval: 10s\n";
    let env = [("TEBI_KEY", "AKID-VALUE"), ("TEBI_SECRET", "SECRET-VALUE")];
    let checked = both(text, &env);
    let database = &checked.config.databases[0];
    let replica = &database.replica;
    assert_eq!(
        (replica.url.as_str(), replica.endpoint.as_deref()),
        ("s3://notes/hedgedoc", Some("https://s3.tebi.io"))
    );
    assert_eq!(
        (replica.s3.access_key_id.as_deref(), replica.s3.force_path_style),
        (Some("AKID-VALUE"), Some(true))
    );
    assert_eq!(replica.s3.secret_access_key.as_ref().unwrap().reveal(), "SECRET-VALUE");
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(database.replicate.retention.as_ref().unwrap().snapshots, hours(72));
    assert_eq!(database.replicate.snapshot_interval, hours(12));
    assert_eq!(database.replicate.sync_interval, Duration::from_secs(10));
    let printed = imported(text, &env).text;
    assert!(
        !printed.contains("VALUE") && printed.contains("secret_access_key = \"${TEBI_SECRET:-}\""),
        "{printed}"
    );
}

#[test]
fn everything_of_version_0_5() {
    let text = r#"
addr: ":9090"
mcp-addr: ":3001"
socket: { enabled: true, path: /var/run/litestream.sock, permissions: 0600 }
levels:
  - interval: 20s
  - interval: 10m
snapshot: { interval: 6h, retention: 48h }
validation: { interval: 5m }
l0-retention: 10m
l0-retention-check-interval: 15s
retention: { enabled: true }
verify-compaction: true
heartbeat-url: https://example.com/ping
heartbeat-interval: 5m
shutdown-sync-timeout: 30s
shutdown-sync-interval: 500ms
region: eu-west-1
sync-interval: 2s
exec: "/bin/app --listen ':8080' $HOME"
logging: { level: WARNING, type: json, stderr: true, source: false }
dbs:
  - path: sqlite:///d/one.db
    meta-path: /d/meta
    monitor-interval: 1s
    checkpoint-interval: 30s
    busy-timeout: 5s
    min-checkpoint-page-count: 2000
    truncate-page-n: 121359
    max-sync-wal-bytes: 67108864
    restore-if-db-not-exists: true
    snapshot: { interval: 12h }
    replica:
      url: s3://bucket/one?endpoint=localhost:9000&forcePathStyle=true&signPayload=true
      sign-payload: true
      require-content-md5: false
      part-size: 8MiB
      concurrency: 4
      storage-class: STANDARD_IA
      sse-kms-key-id: key
      auto-recover: true
      max-sync-ltx-files: 256
      validation-interval: 1h
  - dir: ~/tenants
    pattern: "*.sqlite"
    watch: true
    recursive: true
    meta-dir: /meta
    replica: { type: file, path: /backup/tenants }
"#;
    let checked = both(text, &[("HOME", "/root")]);
    let Config { app, databases, directories, log, status, heartbeat, .. } = checked.config;
    let heartbeat = heartbeat.unwrap();
    assert_eq!(
        (heartbeat.url.reveal(), heartbeat.interval),
        ("https://example.com/ping", Duration::from_secs(300))
    );
    assert_eq!(status.listen.map(|address| address.port()), Some(9090));
    assert_eq!(app.unwrap().command, ["/bin/app", "--listen", ":8080", "/root"]);
    assert_eq!((log.level, log.format), (crate::config::LogLevel::Warn, crate::config::LogFormat::Json));
    let one = &databases[0];
    let seconds = Duration::from_secs;
    assert_eq!(one.path.as_path(), Path::new("/d/one.db"));
    let replicate = &one.replicate;
    assert_eq!((replicate.checkpoint_bytes, replicate.checkpoint_interval), (2000 * 4096, seconds(30)));
    assert_eq!(
        (&replicate.levels, replicate.snapshot_interval),
        (&vec![seconds(20), seconds(600)], seconds(12 * 3600))
    );
    let retention = replicate.retention.as_ref().unwrap();
    assert_eq!((retention.snapshots, retention.raw), (seconds(48 * 3600), seconds(600)));
    assert_eq!(replicate.sync_interval, seconds(2));
    let replica = &one.replica;
    assert_eq!(
        (replica.url.as_str(), replica.endpoint.as_deref()),
        ("s3://bucket/one", Some("http://localhost:9000"))
    );
    assert_eq!((replica.s3.region.as_deref(), replica.s3.force_path_style), (Some("eu-west-1"), Some(true)));
    assert_eq!((replica.part_size, replica.concurrency), (Some(8 << 20), Some(4)));
    assert_eq!(replica.s3.storage_class.as_deref(), Some("STANDARD_IA"));
    let many = &directories[0];
    assert_eq!((many.dir.as_path(), many.pattern.text()), (Path::new("/root/tenants"), "*.sqlite"));
    assert_eq!((many.watch, many.recursive), (true, true));
    assert_eq!(many.each().replica.url, "file:///backup/tenants");
    // What a user may rely on is logged, the rest is in comments only.
    let message = checked.warnings.join("\n");
    assert!(message.contains("mcp-addr (line 3)"), "{message}");
    for key in ["meta-path", "heartbeat"] {
        assert!(!message.contains(key), "{message}");
    }
}

#[test]
fn the_heartbeat_has_the_interval_of_litestream() {
    let env = [("PING", "https://hc.example.com/id"), ("EVERY", "90s")];
    let beat = |text: &str| {
        both(text, &env).config.heartbeat.map(|beat| (beat.url.reveal().to_owned(), beat.interval.as_secs()))
    };
    let ping = |url: &str, seconds: u64| Some((url.to_owned(), seconds));
    for (text, expected) in [
        ("heartbeat-url: http://h/p", ping("http://h/p", 300)),
        ("heartbeat-url: http://h/p\nheartbeat-interval: 10m", ping("http://h/p", 600)),
        ("heartbeat-url: http://h/p\nheartbeat-interval: 1s", ping("http://h/p", 60)),
        ("heartbeat-url: http://h/p\nheartbeat-interval: 48h", ping("http://h/p", 86_400)),
        ("heartbeat-url: $PING\nheartbeat-interval: ${EVERY}", ping("https://hc.example.com/id", 90)),
        ("heartbeat-url: $NONE", None),
        ("heartbeat-interval: 1m", None),
    ] {
        assert_eq!(beat(text), expected, "{text}");
    }
    let made = imported("heartbeat-url: $PING", &env);
    assert!(
        made.text.contains("url = \"${PING:-}\"") && !made.text.contains("hc.example.com"),
        "{}",
        made.text
    );
    let clear = imported("heartbeat-url: http://h/p", &[]).text;
    assert!(clear.contains("# A secret in the clear: better url = "), "{clear}");
}

#[test]
fn keys_of_age_are_those_of_the_replica() {
    const IDENTITY: &str = "AGE-SECRET-KEY-14XFHMT5X6M5ZDVU8A7X9HNYUVEEHPMN0PTTMR29LPLF5GY8XD28SQUW2T5";
    let text = replica("path: /r\nage:\n  identities: [$KEY]");
    let replica = both(&text, &[("KEY", IDENTITY)]).config.databases.remove(0).replica;
    assert_eq!(replica.age.identities.as_ref().map(|key| key.reveal()), Some(IDENTITY));
    assert!(!imported(&text, &[("KEY", IDENTITY)]).text.contains(IDENTITY));
}

#[test]
fn every_store() {
    let account = ("ABS_KEY", "K");
    for (keys, scheme, url) in [
        ("path: /backup/a", Scheme::File, "file:///backup/a"),
        ("url: file:///backup/a", Scheme::File, "file:///backup/a"),
        ("type: file\npath: backup", Scheme::File, "file:///srv/backup"),
        ("url: s3://b/p", Scheme::S3, "s3://b/p"),
        ("type: s3\nbucket: b\npath: p/q\nregion: eu", Scheme::S3, "s3://b/p/q"),
        ("type: s3\nbucket: b", Scheme::S3, "s3://b"),
        ("type: s3\nbucket: b\npath: 100%", Scheme::S3, "s3://b/100%"),
        ("url: gs://b/p", Scheme::Gs, "gs://b/p"),
        ("type: gs\nbucket: b\npath: p", Scheme::Gs, "gs://b/p"),
        ("url: abs://acc@c/p\naccount-key: ${ABS_KEY}", Scheme::Abs, "abs://acc@c/p"),
        ("type: abs\naccount-name: acc\naccount-key: k\nbucket: c\npath: p", Scheme::Abs, "abs://acc@c/p"),
        ("url: abs://other@c/p\naccount-name: acc\nsas-token: t", Scheme::Abs, "abs://acc@c/p"),
        ("type: sftp\nhost: h:2222\nuser: u\npath: /a/b\nkey-path: /k", Scheme::Sftp, "sftp://u@h:2222/a/b"),
        ("url: sftp://u@h:22/a\nhost-key: ssh-ed25519 AAAA", Scheme::Sftp, "sftp://u@h/a"),
        ("url: sftp://u:pass@h/a", Scheme::Sftp, "sftp://u@h/a"),
    ] {
        let checked = both(&replica(keys), &[account]);
        let found = &checked.config.databases[0].replica;
        assert_eq!((found.scheme, found.url.as_str()), (scheme, url), "{keys}");
    }
    let sftp = config(&replica("url: sftp://u:p%40ss@h/a")).databases.remove(0).replica.sftp;
    assert_eq!((sftp.user.as_str(), sftp.password.unwrap().reveal()), ("u", "p@ss"));
    let sse =
        config(&replica("url: s3://b/p\nsse-customer-algorithm: AES256\nsse-customer-key-path: /keys/sse"));
    assert_eq!(sse.databases[0].replica.s3.sse_c_key.as_ref().unwrap().reveal(), "c2VjcmV0");
}

#[test]
fn keys_at_the_top_are_for_those_who_have_none() {
    let text = "region: eu\naccess-key-id: A\nsecret-access-key: B\ndbs:\n- path: /a.db\n  replica: {url: \
        s3://b/a}\n\
                - path: /b.db\n  replica: {url: s3://b/b?region=us, access-key-id: C, secret-access-key: D}\n\
                - path: /c.db\n  replica: {path: /r/c}\n";
    let databases = config(text).databases;
    let seen: Vec<_> = databases
        .iter()
        .map(|database| (database.replica.s3.region.as_deref(), database.replica.s3.access_key_id.as_deref()))
        .collect();
    // A key, wherever it stands, counts more than a parameter of a URL.
    assert_eq!(seen, [(Some("eu"), Some("A")), (Some("eu"), Some("C")), (None, None)]);
}

#[test]
fn variables_that_are_not_set() {
    // A setting that is nothing but an unset variable is none, as with Litestream; a place is never half a
    // place.
    let text = replica("url: ${URL}\nregion: $REGION\naccess-key-id: $KEY\nsecret-access-key: $SECRET");
    let checked = both(&text, &[("URL", "s3://b/p?endpoint=http://h"), ("KEY", "")]);
    let replica = &checked.config.databases[0].replica;
    assert_eq!((replica.s3.region.as_deref(), replica.s3.access_key_id.as_deref()), (None, None));
    let message = problems(&text);
    assert_eq!(
        message,
        ["litestream.yml:4: dbs[0].replica.url uses ${URL}, which is not set: set it, or write \
             ${URL:-default}"]
    );
}

#[test]
fn problems_name_the_lines_of_the_yaml() {
    for (text, expected) in [
        ("dsb: []", "litestream.yml:1: dsb is an unknown key, did you mean \"dbs\"?"),
        ("dbs: 1", "litestream.yml:1: dbs must be a list"),
        ("dbs:\n- pth: /a\n", "litestream.yml:2: dbs[0].pth is an unknown key, did you mean \"path\"?"),
        ("dbs:\n- path: /a\n", "litestream.yml:2: dbs[0] has no replica: add one with a url"),
        ("dbs:\n- path: /a\n  replica: {}\n", "litestream.yml:3: dbs[0].replica has no url and no path"),
        ("dbs:\n- replica: {path: /r}\n", "litestream.yml:2: dbs[0] has no path"),
        (
            "dbs:\n- path: /a\n  replicas:\n  - path: /r\n  - path: /s\n",
            "litestream.yml:5: dbs[0] has several replicas",
        ),
        (
            "dbs:\n- path: /a\n  replica: {url: s4://b/p}\n",
            "litestream.yml:3: dbs[0].replica.url is of the unknown kind \"s4\", did you mean \"s3\"?",
        ),
        (
            "dbs:\n- path: /a\n  replica: {type: nats, bucket: b}\n",
            "litestream.yml:3: dbs[0].replica.type is of the kind nats, which litevisor does not have",
        ),
        (
            "dbs:\n- path: /a\n  replica: {url: webdavs://h/p}\n",
            "litestream.yml:3: dbs[0].replica.url is of the kind webdavs",
        ),
        (
            "dbs:\n- path: /a\n  replica:\n    url: s3://b/p\n    bukcet: x\n",
            "litestream.yml:5: dbs[0].replica.bukcet is an unknown key, did you mean \"bucket\"?",
        ),
        (
            "dbs:\n- path: /a\n  replica:\n    url: s3://b/p\n    path: x\n",
            "litestream.yml:5: dbs[0].replica.path cannot be given together with url",
        ),
        (
            "dbs:\n- path: /a\n  replica: {type: s3, bucket: b, path: /x}\n",
            "litestream.yml:3: dbs[0].replica.path begins with \"/\"",
        ),
        (
            "dbs:\n- path: /a\n  replica: {type: s3, bucket: b, path: x/}\n",
            "litestream.yml:3: dbs[0].replica.path has an empty name in it",
        ),
        (
            "dbs:\n- path: /a\n  replica: {type: s3, bucket: b, path: x//y}\n",
            "litestream.yml:3: dbs[0].replica.path has an empty name in it",
        ),
        ("dbs:\n- path: /a\n  replica: {type: s3}\n", "litestream.yml:3: dbs[0].replica has no bucket"),
        (
            "dbs:\n- path: /a\n  replica:\n    path: /r\n    age:\n      recipients: [age1x]\n",
            "litestream.yml:6: dbs[0].replica.age.recipients age_recipients need age_identities",
        ),
        (
            "dbs:\n- path: /a\n  replica:\n    url: s3://b/p\n    access-key-id: A\n",
            "litestream.yml:5: dbs[0].replica.access-key-id needs secret_access_key beside it",
        ),
        (
            "dbs:\n- path: /a\n  replica: {path: /r}\n- path: /b\n  replica: {path: /r}\n",
            "litestream.yml:5: dbs[1].replica.path is the replica of /a already (line 3)",
        ),
        (
            "dbs:\n- path: /a\n  checkpoint-interval: 10\n  replica: {path: /r}\n",
            "litestream.yml:3: dbs[0].checkpoint-interval has no unit",
        ),
        (
            "dbs:\n- path: /a\n  replica: {path: /r, sync-interval: [1s]}\n",
            "litestream.yml:3: dbs[0].replica.sync-interval must be a single value",
        ),
        (
            "dbs:\n- dir: /a\n  pattern: '*'\n  recursive: true\n  replica: {path: /r}\n",
            "litestream.yml:3: dbs[0].pattern matches every subdirectory",
        ),
        (
            "dbs:\n- path: /a\n  replica: {type: s3, bucket: b, force-path-style: maybe}\n",
            "litestream.yml:3: dbs[0].replica.force-path-style must be true or false",
        ),
        ("heartbeat-url: h/ping", "litestream.yml:1: heartbeat-url is no URL"),
        (
            "heartbeat-url: http://h\nheartbeat-interval: 5",
            "litestream.yml:2: heartbeat-interval has no unit",
        ),
        ("exec: app 'x", "litestream.yml:1: exec has a quote that is not closed"),
        ("exec: $BAD", "litestream.yml:1: exec uses ${BAD}, whose value holds quotes or signs of a shell"),
        (
            "exec: app ${PORT:-80}",
            "litestream.yml:1: exec uses ${PORT:-80}, which Litestream replaces by nothing",
        ),
        ("logging: {level: loud}", "litestream.yml:1: logging.level cannot be \"loud\""),
        ("a: [", "litestream.yml:"),
    ] {
        let message = problems(text);
        assert!(message.iter().any(|line| line.starts_with(expected)), "{text}\n{message:#?}");
    }
}

#[test]
fn secrets_in_the_clear_are_marked() {
    let made = imported(&replica("url: s3://b/p\naccess-key-id: AK\nsecret-access-key: 'pa\"ss'"), &[]);
    assert!(made.text.contains("# A secret in the clear"), "{}", made.text);
    assert!(made.text.contains("secret_access_key = \"pa\\\"ss\""), "{}", made.text);
    assert!(!made.warnings.join("").contains("pa\"ss"));
}

#[test]
fn an_empty_configuration_is_one_without_databases() {
    for text in ["", "# nothing\n", "dbs:\n", "addr:\n"] {
        let checked = both(text, &[]);
        assert!(checked.config.databases.is_empty() && checked.warnings[0].contains("NOTHING"), "{text}");
    }
}
