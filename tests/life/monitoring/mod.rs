//! examples/monitoring: the rules and the dashboard, judged by promtool, by a real Prometheus, and against
//! the real `/metrics`.

mod dashboard;
mod scraped;

use crate::support::repository;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn example(file: &str) -> PathBuf {
    repository().join("examples/monitoring").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(example(file)).unwrap()
}

/// The rules, each an object.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read("litevisor.rules.yml")).unwrap();
    file["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Names of litevisor's metrics in a query or in the metrics' text. A histogram is named by its family.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    let names = words.filter(|word| word.starts_with("litevisor_") || *word == "process_start_time_seconds");
    let family = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    names.map(family).collect()
}

fn promtool(words: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command
        .args(words)
        .current_dir(example(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is missing: run tests/setup.sh");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn assert_content(words: &[&str], input: &str) {
    let output = promtool(words, input);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {words:?}: {said}\n{input}");
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    assert_content(&["check", "rules", "litevisor.rules.yml"], "");
    assert_content(&["check", "config", "prometheus.yml"], "");
    assert_content(&["test", "rules", "litevisor.test.yml"], "");
}

/// Each has a world in which it fires, a severity, a sentence, and a place that says what to do.
#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let tests = read("litevisor.test.yml");
    let operations = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let mut alerts = BTreeSet::new();
    for rule in rules() {
        let alert = text(&rule, "alert");
        assert!(alerts.insert(alert.to_owned()), "{alert}: twice");
        assert!(tests.contains(&format!("ALERTS{{alertname=\"{alert}\"")), "{alert}: no test has it fire");
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")), "{alert}");
        let summary = text(&rule["annotations"], "summary");
        assert!(summary.ends_with('.') && summary.contains("{{ $labels."), "{alert}: {summary}");
        assert_eq!(
            text(&rule["annotations"], "runbook"),
            format!("docs/operations.md#{}", alert.to_lowercase())
        );
        let what_to_do =
            operations.split_once(&format!("\n#### {alert}\n")).map(|(_, rest)| rest.trim_start());
        let what_to_do = what_to_do.and_then(|rest| rest.split("\n#").next()).unwrap_or_default();
        assert!(what_to_do.len() > 80, "{alert}: docs/operations.md does not say what to do: {what_to_do}");
    }
    let described = operations.lines().filter_map(|line| line.strip_prefix("#### Litevisor"));
    for alert in described.map(|rest| format!("Litevisor{rest}")) {
        assert!(alerts.contains(&alert), "docs/operations.md describes {alert}, which is no rule");
    }
}
