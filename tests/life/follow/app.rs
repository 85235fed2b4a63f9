//! `litevisor run --follow`: the app beside a copy that it can read and not change.

use super::*;
use crate::support::age::key;
use crate::support::asking::{free_port, http};
use crate::support::litevisor::{As, Litevisor};
use std::ffi::OsString;

const UID: u32 = 4242;

/// A place for copies that root owns, and one where the app may write its report.
fn directories(site: &Site) -> (PathBuf, PathBuf) {
    let (copies, reports) = (site.path("copies"), site.path("reports"));
    for (directory, mode) in [(&copies, 0o755), (&reports, 0o777)] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
    }
    (copies, reports)
}

fn run(config: &Path, command: &[&str]) -> Litevisor {
    let mut args: Vec<OsString> = vec!["--follow".into(), "--config".into(), config.into(), "--".into()];
    args.extend(command.iter().map(OsString::from));
    Litevisor::run(As::Process, &args)
}

/// A machine that had the writer before.
fn leave_behind(site: &Site, copy: &Path) {
    let mut restored = follow(site, copy, &["--once"]);
    assert_eq!(restored.wait(SOON).code, 0, "{}", restored.log_text());
    std::os::unix::fs::chown(copy, Some(UID), Some(UID)).unwrap();
    fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_app_reads_a_copy_that_it_cannot_change_and_nothing_is_written_to_the_replica() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let site = site();
    site.make_history(30);
    let (copies, reports) = directories(&site);
    let (copy, seen, port) = (copies.join("bank.db"), reports.join("seen"), free_port());
    let config = site.path("reader.toml");
    let text = format!(
        "[app]\nuser = \"{UID}:{UID}\"\n[follow]\npoll = \"100ms\"\nmax_lag = \"1s\"\n[status]\nsocket = \"none\"\n\
         listen = \"127.0.0.1:{port}\"\n[[database]]\npath = {copy:?}\n[database.replica]\n{}",
        site.replica.toml()
    );
    fs::write(&config, text).unwrap();
    leave_behind(&site, &copy);
    let objects = site.replica.objects();
    let mut reader = run(&config, &["python3", "-c", READER, copy.to_str().unwrap(), seen.to_str().unwrap()]);
    wait_until("the app's first look", SOON, || first(&seen).exists());
    let ask = |path: &str| http(port, "GET", path);
    wait_until("readiness", SOON, || ask("/readyz").0 == 200);
    let (_, metrics) = ask("/metrics");
    assert!(
        metrics.contains("litevisor_follow_seconds_behind{db=") && metrics.contains("state=\"following\"} 1")
    );
    assert_eq!(site.replica.objects(), objects, "a follower writes nothing");
    let mut writer = site.run_bank(&["--rate", "100", "--count", "100"]);
    assert_eq!(writer.wait(SOON).code, 0, "{}", writer.log_text());
    wait_for_everything(&site, &copy);
    // The replica is away: first nothing is said, then the copy is stale.
    let (bucket, away) = (site.path("bucket"), site.path("away"));
    fs::rename(&bucket, &away).unwrap();
    wait_until("staleness", SOON, || {
        let (status, why) = ask("/readyz");
        status == 503 && why.contains("s behind its replica")
    });
    fs::rename(&away, &bucket).unwrap();
    wait_until("readiness again", SOON, || ask("/readyz").0 == 200);
    let ended = reader.stop();
    assert_eq!(ended.code, 7, "the app's own status: {}", reader.log_text());
    let seen = Seen::read(&seen);
    seen.assert_whole();
    assert_eq!((seen.uid, seen.role.as_str()), (UID, "replica"), "{seen:?}");
    assert_eq!(seen.attempts, "OperationalError,PermissionError,PermissionError", "{seen:?}");
}

/// Also without an option: the configuration says it. Nothing of copies is ever replicated.
#[test]
fn copies_of_a_directory_are_followed_and_never_replicated() {
    let site = site();
    let (copies, _) = directories(&site);
    let writers = site.path("disk");
    let config = |name: &str, dir: &Path, more: &str| {
        let path = site.path(name);
        let text = format!(
            "[app]\ncommand = [\"sleep\", \"1000\"]\n[status]\nsocket = \"none\"\n{more}[[database]]\ndir = {dir:?}\npattern = \"*.db\"\nwatch = true\n\
             [database.replica]\nsync_interval = \"100ms\"\n{}",
            site.replica.toml()
        );
        fs::write(&path, text).unwrap();
        path
    };
    let databases = 5;
    for number in 0..databases {
        bank::seed(&writers.join(format!("{number}.db")));
    }
    let writer = config("writer.toml", &writers, "");
    let mut once = Litevisor::replicate(As::Process, &writer, &["--once"]);
    assert_eq!(once.wait(SOON).code, 0, "{}", once.log_text());
    let reader = config("reader.toml", &copies, "[follow]\nenabled = true\npoll = \"100ms\"\n");
    let mut follower = Litevisor::run(As::Process, &["--config".into(), reader.clone().into()]);
    for number in 0..databases {
        let name = format!("{number}.db");
        wait_until("a copy", SOON, || copies.join(&name).exists());
        wait_until("its content", SOON, || {
            bank::dump(&copies.join(&name)) == bank::dump(&writers.join(&name))
        });
    }
    bank::seed(&writers.join("late.db"));
    let mut once = Litevisor::replicate(As::Process, &writer, &["--once"]);
    assert_eq!(once.wait(SOON).code, 0, "{}", once.log_text());
    wait_until("a late copy", SOON * 3, || copies.join("late.db").exists());
    wait_until("its content", SOON, || {
        bank::dump(&copies.join("late.db")) == bank::dump(&writers.join("late.db"))
    });
    let ended = follower.stop();
    assert_eq!(ended.code, 143, "{}", follower.log_text());
    let mut refused = Litevisor::replicate(As::Process, &reader, &[]);
    assert_eq!(refused.wait(SOON).code, 78, "{}", refused.log_text());
}

/// An encrypted replica: a copy for the key, and no file for another one.
#[test]
fn a_copy_of_an_encrypted_replica_needs_the_key() {
    let (own, other) = (key(), key());
    let mut site = site();
    site.replica_settings += &own.settings();
    let config = |name: &str, keys: &str| {
        let (path, copy) = (site.path(&format!("{name}.toml")), site.path(&format!("{name}.db")));
        let text = format!(
            "[follow]\npoll = \"100ms\"\n[status]\nsocket = \"none\"\n[[database]]\npath = {copy:?}\n[database.replica]\n{}{keys}",
            site.replica.toml()
        );
        fs::write(&path, text).unwrap();
        (path, copy)
    };
    let mut writer = site.run_bank(&["--rate", "100", "--count", "200"]);
    site.wait_for_acks(20);
    wait_until("the first upload", SOON, || site.replica.newest_txid() > 0);
    let (reads, copy) = config("copy", &own.settings());
    let mut reader = run(&reads, &["sleep", "1000"]);
    reader.wait_for_app();
    // The writer's compactions and retention pass by meanwhile.
    assert_eq!(writer.wait(SOON).code, 0, "{}", writer.log_text());
    wait_for_everything(&site, &copy);
    for (name, keys) in [("other", other.settings()), ("none", String::new())] {
        let (denied, copy) = config(name, &keys);
        let mut denied = run(&denied, &["sleep", "1000"]);
        assert_eq!(denied.wait(SOON).code, 78, "{name}: {}", denied.log_text());
        assert!(
            denied.log_text().contains("age_identities") && !copy.exists(),
            "{name}: {}",
            denied.log_text()
        );
    }
    assert_eq!(reader.stop().code, 143, "{}", reader.log_text());
}
