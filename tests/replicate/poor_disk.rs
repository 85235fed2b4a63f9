//! A replica and a database on a file system that sets no times and syncs no directories: replicated,
//! compacted and restored all the same, by litevisor and by Litestream.

use crate::support::SOON;
use crate::support::disk::PoorFileSystem;
use crate::support::process::Process;
use crate::support::site::Site;
use std::process::Command;

#[test]
fn times_that_cannot_be_set_and_directories_that_cannot_be_synced_are_no_error() {
    let site = Site::in_directory();
    let poor = PoorFileSystem::built_in(&site.path(""));
    let litevisor = |words: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        command.args(words);
        poor.under(&mut command);
        Process::start(command)
    };
    let config = site.config().display().to_string();
    let life = |count: &str| {
        let mut words: Vec<String> = ["run", "--config", &config, "--"].map(String::from).to_vec();
        words.extend(site.bank_words(&["--rate", "max", "--count", count]));
        let mut run = litevisor(&words);
        assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
        assert_eq!(poor.take_refused(), (true, true), "nothing was refused: the test tests nothing");
    };
    life("200");
    site.assert_replica_holds_everything("after the first life");
    // The state file continues the replica, and a wiped disk is restored.
    life("200");
    site.wipe();
    life("1");
    site.assert_replica_holds_everything("after a restore");
    let db = site.db().display().to_string();
    let out = site.path("out.db").display().to_string();
    let mut restore = litevisor(&["restore", "--config", &config, &db, "-o", &out].map(String::from));
    assert_eq!(restore.wait(SOON).code, 0, "{}", restore.log_text());
    assert!(poor.take_refused().1, "nothing was refused: the test tests nothing");
    let mut verify = litevisor(&["verify", "--config", &config, &db].map(String::from));
    assert_eq!(verify.wait(SOON).code, 0, "{}", verify.log_text());
}
