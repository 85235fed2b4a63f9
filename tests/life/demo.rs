//! The README's demo keeps its word: it ends with success, and its story is told to the end.

use crate::support::{bank, repository};
use std::path::Path;
use std::process::Command;

#[test]
fn the_rollout_runs_to_its_happy_end() {
    bank::binary();
    let output = Command::new(repository().join("examples/rollout.sh"))
        .env("DEMO_BIN_DIR", bank::binary().parent().unwrap().parent().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("version 3 ended with status 1"), "{told}");
    assert!(told.contains("Every acknowledged transfer is in the bucket"), "{told}");
}

#[test]
fn the_demo_runs_to_its_happy_end() {
    bank::binary();
    let output = Command::new(repository().join("examples/demo.sh"))
        .env("DEMO_BIN_DIR", Path::new(env!("CARGO_BIN_EXE_litevisor")).parent().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.matches("rm -rf disk").count(), 2, "{told}");
    assert_eq!(told.matches("✔").count(), 3, "{told}");
    assert!(told.contains("every one is there, and no coin is missing"), "{told}");
}
