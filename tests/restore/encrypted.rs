//! Encrypted replicas, from outside: whole lives of an app in a directory and in a bucket; the `age` tool and
//! Litestream as judges; keys that do not fit; keys that change; replicas that Litestream 0.3 encrypted.

use crate::support::age::{Key, key};
use crate::support::litestream::{self, v3};
use crate::support::process::Process;
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, bank, litevisor, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MAGIC: &[u8] = b"age-encryption.org/v1\n";

fn with_keys(site: Site, identities: &[&Key], recipients: &[&Key]) -> Site {
    let identities: Vec<&str> = identities.iter().map(|key| key.identity.as_str()).collect();
    let recipients: Vec<&str> = recipients.iter().map(|key| key.recipient.as_str()).collect();
    let recipients = match recipients.is_empty() {
        true => String::new(),
        false => format!("age_recipients = \"{}\"\n", recipients.join(" ")),
    };
    site.with_replica_settings(&format!("age_identities = \"{}\"\n{recipients}", identities.join(" ")))
}

fn live(site: &Site, transfers: u64) -> String {
    let mut run = site.run_bank(&["--rate", "max", "--count", &transfers.to_string()]);
    let ended = run.wait(SOON);
    assert_eq!(ended.code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after a life");
    run.log_text()
}

fn litevisor(args: &[&str], config: &Path) -> Output {
    litevisor_with(args, config, &[])
}

fn litevisor_with(args: &[&str], config: &Path, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(args).env_remove("LITEVISOR_AGE_IDENTITIES").envs(env.iter().copied());
    if !config.as_os_str().is_empty() {
        command.arg("--config").arg(config);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The keys of all files that hold data of the database.
fn data_files(replica: &Replica) -> Vec<String> {
    let keys: Vec<String> = replica.objects().into_keys().filter(|key| key.ends_with(".ltx")).collect();
    assert!(!keys.is_empty());
    keys
}

/// Decrypts every file with the age tool into a directory, which Litestream restores: what the app's users
/// hold is in it.
fn judge(site: &Site, replica: &Replica, key: &Key) {
    let root = site.path("decrypted");
    let _ = std::fs::remove_dir_all(&root);
    let identity = site.path("identity.txt");
    std::fs::write(&identity, &key.identity).unwrap();
    for name in data_files(replica) {
        let bytes = replica.read(&name);
        assert!(bytes.starts_with(MAGIC), "{name} is not encrypted");
        assert!(!bytes.windows(6).any(|part| part == b"SQLite" || part == b"accoun"), "{name} can be read");
        let (level, file) = name.rsplit_once('/').unwrap();
        let level = level.rsplit('/').next().unwrap().trim_start_matches('0');
        let directory = root.join("ltx").join(if level.is_empty() { "0" } else { level });
        std::fs::create_dir_all(&directory).unwrap();
        let sealed = site.path("sealed");
        std::fs::write(&sealed, bytes).unwrap();
        let mut age = Command::new("age");
        age.arg("-d").arg("-i").arg(&identity).arg("-o").arg(directory.join(file)).arg(&sealed);
        let output = age.output().unwrap();
        assert!(output.status.success(), "{name}: {}", said(&output));
    }
    let out = site.path("judged.db");
    litestream::restore(&Replica::Directory(root), &out).unwrap();
    bank::check(&out, &site.ack(), None).unwrap();
    let ours = site.path("ours.db");
    let _ = std::fs::remove_file(&ours);
    let restored = litevisor::restore(&site.config(), &site.db(), &ours);
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(bank::dump(&ours), bank::dump(&out), "both tools read the same");
}

fn whole_lives(site: Site) {
    let key = key();
    let site = with_keys(site, &[&key], &[]).with_database_settings(
        "levels = [\"100ms\", \"1s\"]\nsnapshot = { interval = \"1m\" }\nretention = { snapshots = \"1m\", l0 = \"100ms\" }",
    );
    live(&site, 300);
    site.wipe();
    let log = live(&site, 200);
    assert!(log.contains("restored"), "{log}");
    assert!(!log.contains("AGE-SECRET"), "{log}");
    live(&site, 100);
    judge(&site, &site.replica, &key);
    for words in [&["verify"][..], &["list"], &["restore", "--dry-run", "--force"], &["check", "--connect"]] {
        let output = litevisor(words, &site.config());
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        assert!(!said(&output).contains(&key.identity), "{}", said(&output));
    }
}

#[test]
fn an_app_lives_on_an_encrypted_directory() {
    whole_lives(Site::in_directory());
}

#[test]
fn an_app_lives_on_an_encrypted_bucket() {
    whole_lives(Site::in_s3("encrypted"));
}

/// Nothing is written, and no app is started.
fn refused(site: &Site, words: &[&str]) {
    let marker = site.path("started");
    let before = site.replica.objects();
    for disk in ["there", "wiped"] {
        if disk == "wiped" {
            site.wipe();
        }
        let files = site.files_on_disk();
        let mut run = site.run(&["touch", marker.to_str().unwrap()]);
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 78, "{disk}: {}", run.log_text());
        assert!(words.iter().all(|word| run.log_text().contains(word)), "{words:?}: {}", run.log_text());
        assert!(!run.log_text().contains("AGE-SECRET"), "{}", run.log_text());
        assert!(!marker.exists() && site.replica.objects() == before, "{disk}");
        assert!(
            !site.files_on_disk().iter().any(|name| name == "bank.db" && !files.contains(name)),
            "{disk}"
        );
    }
    for command in ["verify", "list"] {
        let output = litevisor(&[command], &site.config());
        assert_eq!(output.status.code(), Some(78), "{command}: {}", said(&output));
    }
}

#[test]
fn keys_that_do_not_fit_start_nothing() {
    let (own, other) = (key(), key());
    let site = with_keys(Site::in_directory(), &[&own], &[]);
    live(&site, 50);
    let mut site = with_keys(site, &[&other], &[]);
    refused(&site, &["age_identities", &other.recipient]);
    site.replica_settings = String::new();
    refused(&site, &["no age_identities are configured"]);
    // The right key among others.
    let site = with_keys(site, &[&other, &own], &[]);
    live(&site, 20);
    let plain = Site::in_directory();
    plain.make_history(50);
    let plain = with_keys(plain, &[&own], &[]);
    refused(&plain, &["it is not encrypted", "litevisor rekey"]);
}

/// New files are written for new recipients, old ones stay readable with the old identity.
#[test]
fn keys_are_changed_while_the_replica_lives() {
    let (old, new) = (key(), key());
    let site = with_keys(Site::in_directory(), &[&old], &[]);
    live(&site, 60);
    let site = with_keys(site, &[&new, &old], &[&new]);
    site.wipe();
    live(&site, 60);
    let identity = site.path("new.txt");
    std::fs::write(&identity, format!("# a comment\n{}\n", new.identity)).unwrap();
    let opened = |name: &&String| {
        let sealed = site.path("one");
        std::fs::write(&sealed, site.replica.read(name)).unwrap();
        Command::new("age").arg("-d").arg("-i").arg(&identity).arg(&sealed).output().unwrap().status.success()
    };
    let files = data_files(&site.replica);
    let for_new = files.iter().filter(opened).count();
    assert!(for_new > 0 && for_new < files.len(), "{for_new} of {}", files.len());
    // Without the old identity the newest file opens, and what it builds on does not: no database appears.
    let site = with_keys(site, &[&new], &[]);
    site.wipe();
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    assert!(run.log_text().contains("age_identities") && !site.db().exists(), "{}", run.log_text());
    assert!(
        !run.log_text().contains("\"restoring\""),
        "not even the file beside it was begun: {}",
        run.log_text()
    );
    let site = with_keys(site, &[&new, &old], &[&new]);
    // All of it is copied for the new key alone, then back into the clear.
    let copy = Replica::Directory(site.path("copy"));
    let rekey = |site: &Site, to: &str, more: &[&str]| {
        let db = site.db();
        let words = [&["rekey", db.to_str().unwrap(), "--to", to], more].concat();
        litevisor(&words, &site.config())
    };
    let before = site.replica.objects();
    for _ in 0..2 {
        let output = rekey(&site, &copy.url(), &["--identities", identity.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(site.replica.objects(), before, "the old replica is only read");
    let mut site = with_keys(site, &[&new], &[]);
    site.replica = copy;
    judge(&site, &site.replica, &new);
    live(&site, 20);
    let plain = Replica::Directory(site.path("plain"));
    let output = rekey(&site, &plain.url(), &["--plain"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = rekey(&site, &site.replica.url(), &["--plain"]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    site.replica = plain;
    site.replica_settings = String::new();
    site.assert_replica_holds_everything("after the copy in the clear");
    live(&site, 20);
    // The place holds another replica by now.
    let other = Site::in_directory();
    other.make_history(80);
    let output = rekey(&other, &site.replica.url(), &["--plain"]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("another replica"), "{}", said(&output));
}

#[test]
fn a_replica_is_copied_only_while_nothing_runs() {
    let own = key();
    let site = with_keys(Site::in_directory(), &[&own], &[]);
    let mut run = site.run_bank(&["--rate", "50"]);
    site.wait_for_acks(3);
    let (db, to) = (site.db(), site.path("copy"));
    let output = litevisor(&["rekey", db.to_str().unwrap(), "--to", to.to_str().unwrap()], &site.config());
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(!to.exists());
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

#[test]
fn the_environment_has_keys_for_a_url() {
    let own = key();
    let site = with_keys(Site::in_directory(), &[&own], &[]);
    live(&site, 40);
    let url = site.replica.url();
    let env = [("LITEVISOR_AGE_IDENTITIES", own.identity.as_str())];
    for (words, out) in [(["restore", "-o"], "restored.db"), (["follow", "-o"], "copy.db")] {
        let out = site.path(out);
        let mut words = vec![words[0], &url, words[1], out.to_str().unwrap()];
        if words[0] == "follow" {
            words.push("--once");
        }
        let none = PathBuf::new();
        let output = litevisor(&words, &none);
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(!out.exists());
        let output = litevisor_with(&words, &none, &env);
        assert!(output.status.success(), "{}", said(&output));
        bank::check(&out, &site.ack(), None).unwrap();
    }
}

/// A file that was changed is damage: 65, and its name.
#[test]
fn a_changed_file_is_named() {
    let own = key();
    let site = with_keys(Site::in_directory(), &[&own], &[]);
    live(&site, 40);
    let Replica::Directory(root) = &site.replica else { panic!("a directory") };
    for name in data_files(&site.replica) {
        let mut bytes = site.replica.read(&name);
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        std::fs::write(root.join(&name), bytes).unwrap();
    }
    site.wipe();
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 65, "{}", run.log_text());
    assert!(run.log_text().contains("its encrypted content was changed"), "{}", run.log_text());
    let output = litevisor(&["verify"], &site.config());
    assert_eq!(output.status.code(), Some(65), "{}", said(&output));
}

/// Of two files that end at the newest position one is damaged. The other one is used, encrypted or not.
#[test]
fn one_damaged_newest_file_is_gone_around() {
    let own = key();
    for encrypted in [false, true] {
        let site = Site::in_directory();
        let site = if encrypted { with_keys(site, &[&own], &[]) } else { site };
        live(&site, 40);
        let Replica::Directory(root) = &site.replica else { panic!("a directory") };
        let newest = site.replica.newest_txid();
        let name = |level: u32| root.join(format!("ltx/{level}/{newest:016x}-{newest:016x}.ltx"));
        std::fs::create_dir_all(root.join("ltx/1")).unwrap();
        std::fs::copy(name(0), name(1)).unwrap();
        let mut bytes = std::fs::read(name(0)).unwrap();
        // The magic of a plain file; in the content of an encrypted one.
        let at = if encrypted { bytes.len() - 20 } else { 0 };
        bytes[at] ^= 1;
        std::fs::write(name(0), bytes).unwrap();
        let log = live(&site, 20);
        assert!(log.contains("it continues the replica"), "{encrypted}: {log}");
        site.wipe();
        assert!(live(&site, 20).contains("\"restored\""), "{encrypted}");
    }
}

/// Litestream 0.3.13 with `age:`; its configuration is taken over as it is.
#[test]
fn a_replica_that_litestream_03_encrypted_is_restored() {
    let own = key();
    let site = Site::in_directory();
    let keys = format!(
        "        age:\n          identities: [{}]\n          recipients: [{}]\n",
        own.identity, own.recipient
    );
    let old = v3::replicate_with(&site.replica, &site.db(), &keys);
    let words = site.bank_words(&["--rate", "200", "--count", "150"]);
    let mut app = Process::start({
        let mut app = Command::new(&words[0]);
        app.args(&words[1..]);
        app
    });
    assert_eq!(app.wait(SOON).code, 0, "{}", app.log_text());
    let out = site.path("judged-by-v3.db");
    wait_until("everything in Litestream 0.3's replica", SOON, || {
        v3::restore_with(&site.replica, &site.db(), &out, &keys)
            .and_then(|()| bank::check(&out, &site.ack(), None))
            .is_ok()
    });
    old.stop();
    let files: Vec<String> = site.replica.objects().into_keys().filter(|key| key.ends_with(".lz4")).collect();
    assert!(!files.is_empty() && files.iter().all(|file| site.replica.read(file).starts_with(MAGIC)));
    // Without the key nothing is started, with it everything is there, and what follows is encrypted.
    site.wipe();
    let mut run = site.run(&["true"]);
    assert_eq!(run.wait(SOON).code, 78, "{}", run.log_text());
    let site = with_keys(site, &[&own], &[]);
    site.wipe();
    let log = live(&site, 30);
    assert!(log.contains("restored from Litestream 0.3's format"), "{log}");
    judge(&site, &site.replica, &own);
}
