//! The owner records: elsewhere than beside the replica, and the old ones deleted.

use super::*;
use crate::support::bank;
use crate::support::litevisor::check_connect;
use crate::support::replica::Replica;
use std::path::Path;

const RATE: [&str; 2] = ["--rate", "100"];

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory.join("owner")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_records_are_where_the_url_says() {
    let shared = tempfile::tempdir().unwrap();
    let url = format!("url = \"{}\"", shared.path().display());
    let old = Machine::first(&url);
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let new = Machine::next(&old, &url);
    let mut second = new.run_bank(&RATE);
    old.wait_until_retired();
    new.site.wait_for_acks(20);
    first.stop();
    assert_exit(&mut first, 0, "the retired one");
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after both");
    let names = names_in(shared.path());
    assert_eq!(names.iter().filter(|name| name.ends_with("released.json")).count(), 2, "{names:?}");
    assert_eq!(new.names(), [""; 0], "nothing is beside the replica");
}

/// A new revision names another database before the old one: it still finds the owner.
#[test]
fn a_configuration_in_another_order_finds_the_records() {
    let old = Machine::first("");
    let mut first = old.run_bank(&RATE);
    old.site.wait_for_acks(20);
    let added = tempfile::tempdir().unwrap();
    let database = format!("[[database]]\npath = {:?}\n", added.path().join("disk/added.db"));
    let replica = format!("[database.replica]\nurl = {:?}\n", added.path().join("replica"));
    let new = Machine::next(&old, &format!("{database}{replica}"));
    let (_, text) = check_connect(&new.site.config());
    let line =
        text.lines().find(|line| line.starts_with("# handover in ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&old.site.replica.url()), "as the start: {text}");
    let mut second = new.run_bank(&RATE);
    old.wait_until_retired();
    new.site.wait_for_acks(20);
    first.stop();
    assert_exit(&mut first, 0, "the retired one");
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    new.site.assert_replica_holds_everything("after both");
    assert_eq!(names_in(&added.path().join("replica")), [""; 0], "the records stay where they are");
}

/// An owner whose trial is over deletes the answers and releases of old epochs. The claims stay.
#[test]
fn old_records_are_deleted() {
    let old = Machine::first("trial = \"0s\"");
    let Replica::Directory(replica) = &old.site.replica else { panic!("{:?}", old.site.replica) };
    let mut run = old.run_bank(&RATE);
    old.site.wait_for_acks(10);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    // As after many deploys: each claim and release under later numbers.
    let owner = replica.join("owner");
    for number in 2..=20 {
        for kind in ["json", "released.json"] {
            let text = std::fs::read_to_string(owner.join(format!("{:016x}.{kind}", 1))).unwrap();
            let text =
                text.replace(&format!("{:016x}\",\"instance", 1), &format!("{number:016x}\",\"instance"));
            std::fs::write(owner.join(format!("{number:016x}.{kind}")), text).unwrap();
        }
    }
    let mut run = old.run_bank(&RATE);
    let released = || names_in(replica).iter().filter(|name| name.ends_with("released.json")).count();
    // Its epoch is 21: 1 to 4 are old.
    wait_until("the deletion of old records", SOON, || released() == 16);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    let names = names_in(replica);
    assert_eq!(names.len(), 21 + 17, "{names:?}");
    assert!(
        names.contains(&format!("{:016x}.json", 1)) && names.contains(&format!("{:016x}.released.json", 5)),
        "{names:?}"
    );
}
