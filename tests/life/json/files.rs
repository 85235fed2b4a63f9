//! The commands that need no running litevisor, on good, empty, damaged, old and encrypted replicas.

use super::{Documents, copy, sample};
use crate::support::bank;
use std::fs;
use std::path::Path;

/// `a.db`: sound, with levels; `b.db`: of Litestream 0.3; `c.db`: empty; `d.db`: damaged; `e.db`: with a gap;
/// `tenants/*.db`: none.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, from) in
        [("a", "s2-v05-levels-ps512"), ("b", "s5-v03"), ("d", "s1-v05-tiny"), ("e", "s2-v05-levels-ps512")]
    {
        copy(&sample(from), &path(name));
    }
    fs::create_dir(path("c")).unwrap();
    // The store's time counts for retention: a checkout has the files of today.
    let mut old = std::process::Command::new("find");
    old.arg(path("a")).args(["-type", "f", "-exec", "touch", "-d", "3 days ago", "{}", "+"]);
    assert!(old.status().unwrap().success());
    let hurt = path("d/ltx/0/0000000000000002-0000000000000002.ltx");
    let mut bytes = fs::read(&hurt).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&hurt, bytes).unwrap();
    for level in ["0", "1", "2"] {
        fs::remove_dir_all(path("e/ltx").join(level)).unwrap();
    }
    fs::create_dir(path("e/ltx/0")).unwrap();
    let last = "ltx/0/000000000000003c-000000000000003c.ltx";
    fs::copy(path("a").join(last), path("e").join(last)).unwrap();
    let one =
        |name: &str| format!("[[database]]\npath = \"{name}.db\"\n[database.replica]\nurl = \"{name}\"\n");
    let all: String = ["a", "b", "c", "d", "e"].map(one).concat();
    let tenants = "[[database]]\ndir = \"tenants\"\n[database.replica]\nurl = \"none\"\n";
    fs::write(path("all.toml"), format!("{all}{tenants}")).unwrap();
    let retention = "retention = { snapshots = \"1h\", daily = 2 }\n[database.replica]";
    fs::write(path("a.toml"), one("a").replace("[database.replica]", retention)).unwrap();
    fs::write(path("wrong.toml"), "[ap]\n[shutdown]\ngrace = 10\n").unwrap();
    fs::write(path("is-a-file"), "").unwrap();
    dir
}

fn all(dir: &Path, documents: &Documents) {
    let ask = |schema: &str, what: &str, line: &str, code: i32| {
        let words: Vec<&str> = line.split(' ').collect();
        documents.ask(schema, what, dir, &words, code)
    };
    for (command, schema, code) in [
        ("restore --dry-run", "restore-dry-run", 65),
        ("list", "list", 65),
        ("verify", "verify", 65),
        ("verify --history", "verify-history", 66),
        ("restore", "restore", 65),
        // Two are restored by now.
        ("restore --dry-run", "restore-dry-run", 65),
        ("restore", "restore", 65),
    ] {
        let value = ask(
            schema,
            &format!("all {code} {}", documents.count()),
            &format!("{command} --config all.toml"),
            code,
        );
        let databases = value.as_array().unwrap();
        let names: Vec<&str> = databases
            .iter()
            .map(|one| one["database"].as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        let is_restore = command.starts_with("restore");
        assert_eq!(
            names,
            ["a.db", "b.db", "c.db", "d.db", "e.db", "*.db"][..if is_restore { 5 } else { 6 }],
            "{command}"
        );
    }
    ask("restore-dry-run", "replace", "restore a.db --dry-run --force --config all.toml", 0);
    ask("restore", "merged", "restore a -o merged.db --timestamp 2026-11-22T06:03:55Z", 0);
    ask("restore", "empty", "restore c -o none.db --if-replica-exists", 0);
    ask("restore-dry-run", "empty", "restore c -o none.db --if-replica-exists --dry-run", 0);
    ask("restore", "no such state", "restore a -o none.db --txid ffff", 66);
    ask("list", "url", "list a", 0);
    ask("verify", "url", "verify b --quick", 0);
    ask("list-retention", "some go", "list --retention --config a.toml", 0);
    ask("list-retention", "url", "list a --retention", 64);
    let no = "list --retention --config all.toml";
    ask("list-retention", "all", no, 66);
}

/// What fails before it comes to a database says so in the same place.
fn failures(dir: &Path, documents: &Documents) {
    for (schema, line, code) in [
        ("restore", "restore --wrong", 64),
        ("restore", "restore s3://b/p", 64),
        ("restore", "restore --config wrong.toml", 78),
        ("restore", "restore nothing.db --config all.toml", 64),
        ("restore-dry-run", "restore --dry-run --config absent.toml", 78),
        ("list", "list --config wrong.toml", 78),
        ("list", "list s3:// --config all.toml", 78),
        ("list-retention", "list --retention --txid", 64),
        ("verify", "verify --config wrong.toml", 78),
        ("verify-history", "verify --quick --history", 64),
        ("check", "check --config wrong.toml", 78),
        ("check", "check more", 64),
        ("status", "status --config wrong.toml", 78),
        ("status", "status --socket none.sock", 69),
        ("sync", "sync --socket none.sock", 69),
        ("sync", "sync --timeout 5", 64),
        ("handover", "promote --socket none.sock", 69),
        ("handover", "handover --timeout 0s", 64),
        ("healthcheck", "healthcheck --socket none.sock", 1),
        ("import", "import absent.yml", 78),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let what = format!("{code} {}", documents.count());
        let value = documents.ask(schema, &what, dir, &words, code);
        let value = value.get(0).unwrap_or(&value);
        assert!(value["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{line}: {value}");
    }
    let wrong = documents.ask("check", "two problems", dir, &["check", "--config", "wrong.toml"], 78);
    assert_eq!(wrong["problem"].as_str().unwrap().lines().count(), 2, "{wrong}");
}

fn configurations(dir: &Path, documents: &Documents) {
    let ask = |schema: &str, what: &str, line: &str, code: i32| {
        let words: Vec<&str> = line.split(' ').collect();
        documents.ask(schema, what, dir, &words, code)
    };
    ask("check", "all", "check --config all.toml", 0);
    let text = |url: &str| {
        format!(
            "[handover]\nenabled = true\n[[database]]\npath = \"x.db\"\n[database.replica]\nurl = \"{url}\"\n"
        )
    };
    fs::write(dir.join("good.toml"), text("fresh") + "[shutdown]\ngrace = \"30s\"\n").unwrap();
    fs::write(dir.join("bad.toml"), text("is-a-file/x")).unwrap();
    let good = ask("check", "connect", "check --connect --config good.toml", 0);
    assert_eq!(good["replicas"][0]["database"], "handover", "{good}");
    let bad = ask("check", "not usable", "check --connect --config bad.toml", 78);
    assert!(bad["problem"].is_null() && bad["replicas"][1]["problem"].is_string(), "{bad}");
    fs::write(
        dir.join("l.yml"),
        "dbs:\n  - path: /d/a.db\n    snapshot: { interval: 1h }\n    replica:\n      url: s3://${B}/a\nmcp-addr: :9\n",
    )
    .unwrap();
    ask("import", "with remarks", "import l.yml", 0);
}

fn encrypted(dir: &Path, documents: &Documents) {
    let key = |name: &str| {
        let output = std::process::Command::new("age-keygen").arg("-o").arg(dir.join(name)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    ["key", "other"].iter().for_each(|name| key(name));
    bank::seed(&dir.join("sealed.db"));
    for key in ["key", "other"] {
        let text = format!(
            "[status]\nsocket = \"none\"\n[[database]]\npath = \"sealed.db\"\n[database.replica]\nurl = \"sealed\"\nage_identities_file = \"{key}\"\n"
        );
        fs::write(dir.join(format!("{key}.toml")), text).unwrap();
    }
    let once = crate::support::asking::client(&["replicate", "--once", "--config", "key.toml"])
        .current_dir(dir)
        .output();
    assert!(once.as_ref().unwrap().status.success(), "{once:?}");
    for (schema, command) in [
        ("list", "list"),
        ("verify", "verify"),
        ("verify-history", "verify --history"),
        ("restore-dry-run", "restore --dry-run"),
    ] {
        for (key, code) in [("key", 0), ("other", 78)] {
            let line = format!("{command} --config {key}.toml");
            let words: Vec<&str> = line.split(' ').collect();
            let code = if command == "verify --history" { 0 } else { code };
            documents.ask(schema, &format!("encrypted, {key}"), dir, &words, code);
        }
    }
}

#[test]
fn documents_of_files_and_replicas() {
    let place = place();
    let documents = Documents::new();
    all(place.path(), &documents);
    failures(place.path(), &documents);
    configurations(place.path(), &documents);
    encrypted(place.path(), &documents);
    documents
        .judge(&["restore", "restore-dry-run", "list", "list-retention", "verify", "check", "import"], &[]);
}
