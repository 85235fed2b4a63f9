//! The log of a healthy run is a story that a person reads: few lines, each of which says something.

use crate::support::bank;
use crate::support::site::Site;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Each life's lines, in order; what each must hold.
const FIRST: [&str; 7] = [
    "litevisor starts",
    "starting empty",
    "the app is started",
    "stop requested",
    "sent to the app",
    "the app exited with status 0",
    "done",
];

fn lines(text: &[String]) -> Vec<Value> {
    // The bank speaks on stderr, too.
    let ours = text.iter().filter(|line| !line.starts_with("bank: "));
    ours.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn life(site: &Site) -> Vec<Value> {
    let before = site.acked();
    let mut run = site.run_bank(&["--rate", "200"]);
    site.wait_for_acks(before + 50);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(crate::support::SOON).code, 0, "{}", run.log_text());
    lines(&run.log())
}

fn assert_story(lines: &[Value], parts: &[&str]) {
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(lines.len() <= 10 && lines.iter().all(|line| line["level"] == "info"), "{lines:#?}");
    // Two threads tell it: which of the app's start and the replication's comes first is left to chance.
    let replicating = messages.iter().filter(|message| **message == "replicating").count();
    assert_eq!(replicating, 1, "{messages:#?}");
    let mut rest = messages.iter().filter(|message| **message != "replicating");
    for part in parts {
        assert!(rest.any(|message| message.contains(part)), "no {part:?} (in this order) in {messages:#?}");
    }
    let last = lines.last().unwrap();
    let told = |key: &str| last[key].to_string();
    // How the app ended, positions, bytes, how long each phase took.
    assert!(told("app").contains("status 0") && last["status"] == 0 && last["flushed"] == true, "{last}");
    let phases: Vec<&str> =
        last["phases"].as_array().unwrap().iter().filter_map(|one| one["phase"].as_str()).collect();
    assert!(phases.contains(&"run") && phases.contains(&"flush"), "{last}");
    assert!(last["phases"][0]["ms"].is_u64(), "{last}");
    let [db] = last["databases"].as_array().unwrap().as_slice() else { panic!("{last}") };
    assert!(db["database"].as_str().unwrap().ends_with("bank.db") && db["state"] == "complete", "{last}");
    assert!(
        db["committed"] == db["uploaded"] && db["committed"].is_string() && db["bytes"].is_u64(),
        "{last}"
    );
}

#[test]
fn a_healthy_run_is_a_story_of_few_lines() {
    let site = Site::in_directory();
    bank::binary();
    assert_story(&life(&site), &FIRST);
    site.wipe();
    let second = FIRST.map(|part| if part == "starting empty" { "restored" } else { part });
    assert_story(&life(&site), &second);
}
