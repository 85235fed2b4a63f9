//! "Go back to yesterday 14:05": an older state that was restored in its place is what the next run goes on
//! from, on top of everything; and nothing but that wish makes an older state the newest one.

use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, now_ms, wait_until};
use std::path::Path;
use std::process::{Command, Output};

/// `litevisor restore DB --force ARGS`, in its place.
fn restore_in_place(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.arg("restore").arg(site.db()).arg("--config").arg(site.config()).arg("--force").args(args);
    command.output().unwrap()
}

fn wish(site: &Site, txid: u64) -> String {
    let done = restore_in_place(site, &["--txid", &format!("{txid:016x}")]);
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{log}");
    log
}

/// A site with an older state, its position and content, and a newer one.
fn older_and_newer() -> (Site, u64, String) {
    let site = Site::in_directory();
    site.make_history(50);
    let (txid, older) = (site.replica.newest_txid(), bank::dump(&site.db()));
    site.make_history(50);
    assert!(site.replica.newest_txid() > txid);
    assert_ne!(bank::dump(&site.db()), older);
    (site, txid, older)
}

fn run(site: &Site) -> String {
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    run.log_text()
}

/// What Litestream makes of the replica.
fn newest(site: &Site) -> String {
    let out = site.path("judged.db");
    let _ = std::fs::remove_file(&out);
    litestream::restore(&site.replica, &out).unwrap();
    bank::dump(&out)
}

#[test]
fn the_wished_state_becomes_the_next_position_and_nothing_is_lost() {
    let (site, txid, older) = older_and_newer();
    let (newer, tip, held) = (bank::dump(&site.db()), site.replica.newest_txid(), site.replica.objects());
    let told = wish(&site, txid);
    assert!(told.contains("the next run goes on from this older state"), "{told}");
    assert_eq!(bank::dump(&site.db()), older);
    assert_eq!(site.replica.objects(), held, "a restore writes nothing to the replica");

    let log = run(&site);
    assert!(log.contains("ON PURPOSE"), "{log}");
    assert_eq!(bank::dump(&site.db()), older);
    assert_eq!(site.replica.newest_txid(), tip + 1, "{log}");
    assert_eq!(newest(&site), older);
    let now = site.replica.objects();
    assert!(
        held.iter().all(|(key, content)| now.get(key) == Some(content)),
        "something was deleted or replaced"
    );
    // What was the newest state is there as before.
    let out = site.path("before.db");
    let txid = format!("{tip:016x}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["restore", &site.replica.url(), "--txid", &txid, "-o"]).arg(&out);
    assert!(command.status().unwrap().success());
    assert_eq!(bank::dump(&out), newer);

    // From here on it is an ordinary database: the next run goes on, and a new disk gets the wished state.
    let log = run(&site);
    assert!(!log.contains("ON PURPOSE"), "{log}");
    assert_eq!(site.replica.newest_txid(), tip + 1);
    site.wipe();
    run(&site);
    assert_eq!(bank::dump(&site.db()), older);
}

/// By the clock, and the app has written before the image had arrived.
#[test]
fn a_moment_is_wished_in_the_same_way_and_the_app_goes_on() {
    let site = Site::in_directory();
    site.make_history(30);
    let (older, acked, then) = (bank::dump(&site.db()), std::fs::read(site.ack()).unwrap(), now_ms());
    wait_until("the clock to go on", SOON, || now_ms() > then + 1);
    site.make_history(30);
    let time = litevisor::testing::model::Moment(i64::try_from(then).unwrap()).to_string();
    let done = restore_in_place(&site, &["--timestamp", &time]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bank::dump(&site.db()), older);
    // The users have been told; from here on only what is acknowledged now counts.
    std::fs::write(site.ack(), acked).unwrap();
    let mut run = site.run_bank(&["--rate", "max", "--count", "20"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after the wish");
    site.assert_replica_holds_everything("after the wish");
}

/// No mark, another file, another replica's growth: the replica's newest state is brought back, as ever.
#[test]
fn nothing_else_makes_an_older_state_the_newest() {
    type Spoil = fn(&Site, &Path);
    let no_mark: Spoil = |site, _| std::fs::remove_dir_all(site.disk().join(".bank.db-litevisor")).unwrap();
    let another_file: Spoil = |site, _| {
        let copy = site.disk().join("copy");
        std::fs::write(&copy, std::fs::read(site.db()).unwrap()).unwrap();
        std::fs::rename(copy, site.db()).unwrap();
    };
    // Somebody else has gone on from the newest state meanwhile.
    let grown: Spoil = |site, aside| {
        std::fs::rename(site.disk(), aside).unwrap();
        std::fs::create_dir(site.disk()).unwrap();
        site.make_history(5);
        std::fs::remove_dir_all(site.disk()).unwrap();
        std::fs::rename(aside, site.disk()).unwrap();
    };
    for (what, spoil) in [("no mark", no_mark), ("another file", another_file), ("grown", grown)] {
        let (site, txid, older) = older_and_newer();
        wish(&site, txid);
        spoil(&site, &site.path("aside"));
        let (tip, held) = (site.replica.newest_txid(), newest(&site));
        let log = run(&site);
        assert!(log.contains("replacing the local file"), "{what}: {log}");
        assert_eq!(site.replica.newest_txid(), tip, "{what}: {log}");
        assert_ne!(newest(&site), older, "{what}");
        assert_eq!(bank::dump(&site.db()), held, "{what}");
    }
}

/// The newest state in its place is not restored a second time.
#[test]
fn the_newest_state_is_kept_by_the_next_run() {
    let (site, _, _) = older_and_newer();
    let (newer, tip) = (bank::dump(&site.db()), site.replica.newest_txid());
    site.wipe();
    let done = restore_in_place(&site, &[]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let log = run(&site);
    assert!(log.contains("it continues the replica") && !log.contains("replacing"), "{log}");
    assert_eq!((site.replica.newest_txid(), bank::dump(&site.db())), (tip, newer));
}
