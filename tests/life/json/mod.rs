//! What `--json` prints, judged by a validator: whole documents of the shipped binary against `docs/schema`.
//! A field that a schema does not have is an error, and so is one that no document has.

mod files;
mod running;

use crate::support::asking::{client, said};
use crate::support::{peer, repository};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The documents of one test.
struct Documents {
    directory: tempfile::TempDir,
}

impl Documents {
    fn new() -> Documents {
        Documents { directory: tempfile::tempdir().unwrap() }
    }

    fn keep(&self, schema: &str, what: &str, text: &str) {
        std::fs::write(self.directory.path().join(format!("{schema}~{what}.json")), text).unwrap();
    }

    /// `litevisor WORDS --json` in a directory: one document, which says how the command has ended.
    fn ask(&self, schema: &str, what: &str, dir: &Path, words: &[&str], code: i32) -> Value {
        let said = said(client(words).arg("--json").current_dir(dir).output().unwrap());
        assert_eq!(said.code, code, "{what}: {said:?}");
        let value: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{what}: {error}: {said:?}"));
        let told: Vec<i64> = match &value {
            Value::Array(all) => all.iter().map(|one| one["exit_status"].as_i64().unwrap()).collect(),
            // A status that was had says nothing of the command's own end.
            one => one["exit_status"].as_i64().into_iter().collect(),
        };
        let is_told = told.contains(&i64::from(code)) || code == 0;
        assert!(is_told && (code != 0 || told.iter().all(|one| *one == 0)), "{what}: {code}: {value:#}");
        self.keep(schema, what, &said.out);
        value
    }

    fn count(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }

    /// `seen`: schemas whose every field must be in a document. Those in `but` need not be.
    fn judge(&self, seen: &[&str], but: &[&str]) {
        let judged = judge(&repository().join("docs/schema"), self.directory.path(), seen);
        let wrong: Vec<&str> =
            judged.lines().filter(|line| !but.iter().any(|known| line.ends_with(known))).collect();
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }
}

/// What is wrong, a line each.
fn judge(schemas: &Path, documents: &Path, seen: &[&str]) -> String {
    let script = repository().join("tests/life/json/validate.py");
    let mut python = Command::new(peer("jsonschema/bin/python"));
    let said = said(python.arg(script).args([schemas, documents]).args(seen).output().unwrap());
    assert!(said.code == 0 || !said.out.trim().is_empty(), "{said:?}");
    said.out.trim().to_owned()
}

fn sample(name: &str) -> PathBuf {
    repository().join("tests/samples").join(name).join("replica")
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Each example of docs/json.md, by the last schema that is named before it.
#[test]
fn the_documented_examples_are_valid() {
    let documents = Documents::new();
    let page = std::fs::read_to_string(repository().join("docs/json.md")).unwrap();
    let schemas: Vec<&str> = page.split("```json\n").collect();
    for (before, after) in schemas.iter().zip(&schemas[1..]) {
        let schema = before.rsplit_once("(schema/").unwrap().1.split_once(".schema.json)").unwrap().0;
        documents.keep(schema, &documents.count().to_string(), after.split_once("```").unwrap().0);
    }
    assert!(documents.count() > 9);
    documents.judge(&[], &[]);
    for name in std::fs::read_dir(repository().join("docs/schema")).unwrap().flatten() {
        let name = name.file_name().into_string().unwrap();
        assert!(page.contains(&format!("(schema/{name})")), "docs/json.md does not name {name}");
    }
}

/// The judge judges: a field more, a field less, a wrong type and a schema without a description are found.
#[test]
fn the_validator_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (schemas, documents) = (dir.path().join("schemas"), dir.path().join("documents"));
    std::fs::create_dir_all(&schemas).unwrap();
    let good = serde_json::json!({ "exit_status": 0, "problem": null, "message": "x" });
    for (document, schema, part) in [
        (good.clone(), None, ""),
        (
            serde_json::json!({ "exit_status": 0, "problem": null, "message": "x", "more": 1 }),
            None,
            "'more' was unexpected",
        ),
        (serde_json::json!({ "exit_status": 0, "problem": null }), None, "'message' is a required property"),
        (
            serde_json::json!({ "exit_status": "0", "problem": null, "message": "x" }),
            None,
            "is not of type 'integer'",
        ),
        (good.clone(), Some("description"), "has no description"),
    ] {
        std::fs::copy(
            repository().join("docs/schema/handover.schema.json"),
            schemas.join("handover.schema.json"),
        )
        .unwrap();
        if let Some(key) = schema {
            let path = schemas.join("handover.schema.json");
            let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            schema["properties"]["message"].as_object_mut().unwrap().remove(key);
            std::fs::write(&path, schema.to_string()).unwrap();
        }
        let _ = std::fs::remove_dir_all(&documents);
        std::fs::create_dir(&documents).unwrap();
        std::fs::write(documents.join("handover~x.json"), document.to_string()).unwrap();
        let found = judge(&schemas, &documents, &[]);
        assert!(found.contains(part) && found.is_empty() == part.is_empty(), "{document}: {found}");
    }
}
