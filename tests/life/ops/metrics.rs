//! `/metrics`, read as Prometheus reads it.

use crate::support::asking::{free_port, http};
use crate::support::litevisor::{As, Litevisor};
use crate::support::{SOON, wait_for, wait_until};
use std::collections::BTreeMap;

/// One series: name, labels, value.
type Series = (String, BTreeMap<String, String>, f64);

/// Types of the families, and their series. Panics at what the format does not allow.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Series>) {
    let (mut types, mut helped, mut all) = (BTreeMap::new(), Vec::new(), Vec::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.push(rest.split_once(' ').unwrap().0.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            assert!(helped.contains(&name.to_owned()), "{line}: no HELP before");
            assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "{line}: twice");
        } else {
            all.push(series(line));
        }
    }
    (types, all)
}

fn series(line: &str) -> Series {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"").unwrap();
            let (value, after) = unescaped(value);
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    (name.to_owned(), labels, rest.trim().parse().unwrap_or_else(|_| panic!("{line}")))
}

/// The value up to its quote, and what comes after that.
fn unescaped(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => panic!("\\{other}"),
            },
            char => value.push(char),
        }
    }
    panic!("no end: {text}")
}

#[test]
fn they_are_prometheus_text_also_for_an_odd_path() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("a \"b\\c.db");
    let (config, port) = (directory.path().join("supervisor.toml"), free_port());
    let text = format!(
        "[status]\nsocket = \"none\"\nlisten = \"127.0.0.1:{port}\"\n[[database]]\npath = '{}'\nlevels = [\"1s\"]\n\
         [database.replica]\nurl = 'file://{}/r'\n",
        db.display(),
        directory.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let write = |n: i64| {
        let db = rusqlite::Connection::open(&db).unwrap();
        db.execute_batch(&format!("PRAGMA journal_mode = WAL; CREATE TABLE t{n} (a)")).unwrap();
    };
    write(0);
    let mut run = Litevisor::run(
        As::Process,
        &["--config".into(), config.into(), "--".into(), "sleep".into(), "600".into()],
    );
    run.wait_for_app();
    wait_until("/readyz", SOON, || http(port, "GET", "/readyz").0 == 200);
    // Until something was uploaded and merged.
    let mut n = 0;
    let (types, all) = wait_for("uploads and a merged file", SOON * 2, || {
        n += 1;
        write(n);
        let (code, text) = http(port, "GET", "/metrics");
        assert_eq!(code, 200);
        let parsed = parse(&text);
        let merged =
            parsed.1.iter().any(|(name, _, value)| name == "litevisor_compactions_total" && *value > 0.0);
        // The file's length is looked at once a second.
        let wal = parsed.1.iter().any(|(name, _, value)| name == "litevisor_wal_bytes" && *value > 0.0);
        (merged && wal).then_some(parsed)
    });
    let value = |name: &str, more: &[(&str, &str)]| {
        let found = all.iter().find(|(known, labels, _)| {
            known == name
                && more.iter().all(|(label, value)| labels.get(*label).is_some_and(|known| known == value))
        });
        found.unwrap_or_else(|| panic!("no {name} {more:?} in {all:?}")).2
    };
    let path = db.to_str().unwrap();
    for (name, labels, _) in &all {
        let kind = types.get(name).unwrap_or_else(|| panic!("{name} has no type"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(labels.get("db").is_none_or(|db| db == path), "{labels:?}");
        assert!(name.starts_with("litevisor_") || name == "process_start_time_seconds", "{name}");
    }
    let db = [("db", path)];
    assert!(value("litevisor_uploaded_txid", &db) >= 1.0);
    assert!(value("litevisor_committed_txid", &db) >= value("litevisor_uploaded_txid", &db));
    assert!(value("litevisor_sent_bytes_total", &db) > 100.0 && value("litevisor_uploads_total", &db) >= 1.0);
    assert!(value("litevisor_snapshots_total", &db) >= 1.0);
    assert!(value("litevisor_lag_seconds", &db) < 20.0 && value("litevisor_spilled_bytes", &db) == 0.0);
    let now = crate::support::now_ms() as f64 / 1000.0;
    assert!((now - 60.0..=now).contains(&value("litevisor_last_upload_timestamp_seconds", &db)));
    assert!((now - 60.0..=now).contains(&value("process_start_time_seconds", &[])));
    let put = [("db", path), ("operation", "put"), ("result", "ok")];
    assert!(value("litevisor_store_requests_total", &put) >= 2.0);
    assert_eq!(value("litevisor_phase", &[("phase", "running")]), 1.0);
    assert_eq!((value("litevisor_app_up", &[]), value("litevisor_ready", &[])), (1.0, 1.0));
    assert_eq!(value("litevisor_database_state", &[("db", path), ("state", "replicating")]), 1.0);
    value("litevisor_restore_duration_seconds", &db);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}
