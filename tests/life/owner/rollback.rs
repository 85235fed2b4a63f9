//! `litevisor restore DB --force` beside a `run`: it stops the app, restores, and starts the app again; the
//! command has its outcome.

use super::place::{dump, litevisor, said, site, with_socket};
use crate::support::litevisor::Litevisor;
use crate::support::site::Site;
use crate::support::{SOON, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A site with an older and a newer state, under an app that notes its starts.
struct Rolled {
    site: Site,
    run: Litevisor,
    older: String,
    newer: String,
    older_txid: u64,
}

fn starts(site: &Site) -> usize {
    std::fs::read_to_string(site.path("starts")).unwrap_or_default().lines().count()
}

fn running(site: Site) -> Rolled {
    site.make_history(30);
    let (older, older_txid) = (dump(&site.db()), site.replica.newest_txid());
    site.make_history(20);
    let newer = dump(&site.db());
    assert_ne!(older, newer);
    let note = format!("echo started >> {}; exec sleep 600", site.path("starts").display());
    let run = site.run(&["sh", "-c", &note]);
    wait_until("the app", SOON, || starts(&site) == 1);
    wait_until("replication", SOON, || litevisor(&site.config(), &["sync"]).status.success());
    Rolled { site, run, older, newer, older_txid }
}

fn restore(site: &Site, txid: u64) -> (i32, String) {
    let (db, txid) = (site.db(), format!("{txid:016x}"));
    said(&litevisor(&site.config(), &["restore", db.to_str().unwrap(), "--force", "--txid", &txid]))
}

#[test]
fn an_older_state_is_put_in_place_and_the_app_runs_again() {
    for site in [site(), site().with_pid1(), with_socket(Site::in_s3("owner-rollback"))] {
        let Rolled { site, mut run, older, newer, older_txid } = running(site);
        let tip = site.replica.newest_txid();
        let (code, told) = restore(&site, older_txid);
        assert!(code == 0 && told.contains("restored"), "{code} {told}\n{}", run.log_text());
        assert_eq!(dump(&site.db()), older);
        wait_until("the app's second start", SOON, || starts(&site) == 2);
        let sync = said(&litevisor(&site.config(), &["sync"]));
        assert_eq!(sync.0, 0, "{}\n{}", sync.1, run.log_text());
        assert_eq!(site.replica.newest_txid(), tip + 1, "it is the next position: {}", run.log_text());
        // And back: nothing was lost.
        let (code, told) = restore(&site, tip);
        assert_eq!(code, 0, "{told}\n{}", run.log_text());
        assert_eq!((dump(&site.db()) == newer, starts(&site) >= 2), (true, true));
        wait_until("the app's third start", SOON, || starts(&site) == 3);
        assert_eq!(run.stop().code, 143, "{}", run.log_text());
        site.wipe();
        let mut next = site.run(&["true"]);
        assert_eq!(next.wait(SOON).code, 0, "{}", next.log_text());
        assert_eq!(dump(&site.db()), newer);
    }
}

/// As in a container: the command runs in litevisor's own PID namespace, by `docker exec`, and is not ended
/// with the app.
#[test]
fn from_inside_of_the_container() {
    let Rolled { site, mut run, older, older_txid, .. } = running(site().with_pid1());
    let pid = run.pid().to_string();
    let mut inside = Command::new("nsenter");
    inside
        .args(["--target", &pid, "--pid", "--mount", env!("CARGO_BIN_EXE_litevisor"), "--config"])
        .arg(site.config());
    inside.arg("restore").arg(site.db()).args(["--force", "--txid", &format!("{older_txid:016x}")]);
    let (code, told) = said(&inside.output().unwrap());
    assert_eq!(code, 0, "{told}\n{}", run.log_text());
    assert_eq!(dump(&site.db()), older);
    wait_until("the app's second start", SOON, || starts(&site) == 2);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}

fn segment(directory: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { segment(&path, name) } else { Some(path).filter(|path| path.ends_with(name)) }
    })
}

#[test]
fn what_cannot_be_restored_stops_nothing_and_what_fails_puts_the_old_file_back() {
    let Rolled { site, mut run, newer, older_txid, .. } = running(site());
    let (code, told) = restore(&site, 0xffff);
    assert!(code == 66 && run.is_running(), "{code} {told}");
    assert_eq!(starts(&site), 1, "the app was not stopped for it: {}", run.log_text());
    let unknown = said(&litevisor(&site.config(), &["restore", "/nowhere.db", "--force"]));
    assert_eq!(unknown.0, 64, "{}", unknown.1);
    // One of its files is damaged: that shows when it is fetched.
    let name = format!("{older_txid:016x}-{older_txid:016x}.ltx");
    let file = segment(&site.path("bucket"), &name).unwrap_or_else(|| panic!("{name}"));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let (code, told) = restore(&site, older_txid);
    assert_eq!(code, 65, "{told}\n{}", run.log_text());
    assert!(told.contains("the previous database stays in place"), "{told}");
    assert_eq!(dump(&site.db()), newer);
    wait_until("the app again", SOON, || starts(&site) == 2);
    let sync = said(&litevisor(&site.config(), &["sync"]));
    assert_eq!(sync.0, 0, "{}", sync.1);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
}
