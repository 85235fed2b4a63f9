//! The gates and hand-overs in the documentation: each configuration passes `check`, and the command line in
//! docs/gate.md runs.

use super::{inline, with_environment};
use crate::support::asking::free_port;
use crate::support::litevisor::{As, Litevisor};
use crate::support::{SOON, repository, wait_for};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

/// Every page that a user reads.
fn pages() -> Vec<PathBuf> {
    let root = repository();
    let directories =
        ["docs".into(), ".".into()].into_iter().chain(super::RECIPES.map(|name| format!("examples/{name}")));
    let entries = directories.flat_map(|directory| std::fs::read_dir(root.join(directory)).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == "md"))
        .collect()
}

/// The blocks of TOML with a gate or a hand-over in them.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| ["[[gate]]", "[handover]"].iter().any(|section| block.contains(section)))
}

/// Who the app's user is only its image knows.
fn of_root(text: &str) -> String {
    let users = ["grafana", "app", "hedgedoc"];
    users.iter().fold(text.to_owned(), |text, user| text.replace(&format!("\"{user}\""), "\"0:0\""))
}

/// What the block does not say comes from the recipe beside it, or is a database.
fn complete(block: &str, page: &std::path::Path) -> String {
    let recipe = std::fs::read_to_string(page.with_file_name("supervisor.toml"));
    let plain =
        "[[database]]\npath = \"/data/app.db\"\n[database.replica]\nurl = \"file:///replica\"\n".to_owned();
    let mut whole: toml::Table = of_root(&recipe.unwrap_or(plain)).parse().unwrap();
    for (name, value) in of_root(block).parse::<toml::Table>().unwrap() {
        match (whole.get_mut(&name).and_then(toml::Value::as_table_mut), value) {
            (Some(section), toml::Value::Table(keys)) => section.extend(keys),
            (_, value) => drop(whole.insert(name, value)),
        }
    }
    whole.iter().map(|(key, value)| format!("{key} = {}\n", inline(value))).collect()
}

#[test]
fn every_gate_in_the_documentation_passes_check() {
    let keys = tempfile::tempdir().unwrap();
    let config = keys.path().join("supervisor.toml");
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&text) {
            std::fs::write(&config, complete(block, &page)).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_litevisor"));
            check.args(["check", "--config"]).arg(&config).env("PORT", "8080");
            with_environment(&mut check, keys.path());
            let output = check.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{}:\n{block}\n{said}", page.display());
            assert!(!block.contains("[[gate]]") || said.contains("[[gate]]"), "{said}");
            assert!(!block.contains("[handover]") || said.contains("[handover]\nenabled = true"), "{said}");
            count += 1;
        }
    }
    assert!(count >= 3, "docs/gate.md, Grafana and HedgeDoc have one: {count}");
}

/// The command line of docs/gate.md, with the machine's own ports and paths.
#[test]
fn the_command_line_of_the_documentation_runs() {
    let text = std::fs::read_to_string(repository().join("docs/gate.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("litevisor run --gate ")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("replica")).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (gate, app) = (free_port().to_string(), free_port().to_string());
    let app_words = format!("python3 -m http.server --bind 127.0.0.1 {app}");
    let replica = format!("file://{}", path("replica"));
    let mut line = line.to_owned();
    for (documented, here) in [
        (":8080=3000", format!(":{gate}={app}")),
        ("/data/app.db", path("app.db")),
        ("s3://bucket/app", replica),
        ("/usr/bin/app --port 3000", app_words),
    ] {
        assert!(line.contains(documented), "{line}");
        line = line.replace(documented, &here);
    }
    let words: Vec<OsString> = line.split(' ').skip(2).map(OsString::from).collect();
    let mut run = Litevisor::run(As::Process, &words);
    let port: u16 = gate.parse().unwrap();
    let mut client = wait_for("the gate to open", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    run.stop();
}
