//! `restore --timestamp`, `--dry-run`, `list` and `verify` from outside, on a directory and on S3.

use crate::support::site::Site;
use crate::support::{bank, now_ms, wait_until};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

fn litevisor(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    let config: OsString = site.config().into();
    command.env_clear().args(args).arg("--config").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S"])
        .output()
        .unwrap();
    format!("{}.{ms:03}Z", String::from_utf8(output.stdout).unwrap().trim())
}

/// A moment that belongs to one side only: file times are milliseconds.
fn moment() -> u64 {
    let now = now_ms();
    wait_until("the next moments", crate::support::SOON, || now_ms() > now + 4);
    now + 2
}

#[test]
fn each_moment_between_the_lives_of_an_app() {
    for site in [Site::in_directory(), Site::in_s3("moments")] {
        let out = site.path("then.db");
        let restore = |at: &str| {
            let db = site.db();
            litevisor(
                &site,
                &["restore", db.to_str().unwrap(), "-o", out.to_str().unwrap(), "--force", "--timestamp", at],
            )
        };
        let before_all = text(moment());
        let mut past = Vec::new();
        for _ in 0..3 {
            site.make_history(40);
            past.push((text(moment()), bank::dump(&site.db())));
        }
        for (at, dump) in &past {
            let output = restore(at);
            assert!(output.status.success(), "{}", said(&output));
            assert!(&bank::dump(&out) == dump, "another state at {at}: {}", said(&output));
            assert!(said(&output).contains("committed at "), "{}", said(&output));
        }
        // After the last backup: the latest state, long after as well. Before the first: nothing, and when it
        // begins.
        let output = restore("2999-01-01T00:00:00+01:00");
        assert!(output.status.success() && bank::dump(&out) == past[2].1, "{}", said(&output));
        std::fs::remove_file(&out).unwrap();
        let output = restore(&before_all);
        assert_eq!(output.status.code(), Some(66), "{}", said(&output));
        assert!(said(&output).contains("the first state that can be restored is of "), "{}", said(&output));
        assert!(!out.exists());
    }
}

#[test]
fn a_dry_run_tells_everything_and_does_nothing() {
    let site = Site::in_directory();
    site.make_history(40);
    let before = site.files_on_disk();
    let content = std::fs::read(site.db()).unwrap();
    let output = litevisor(&site, &["restore", "--dry-run"]);
    assert!(output.status.success(), "{}", said(&output));
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "refused without --force",
        "state   TXID 0000",
        "committed at 20",
        "file    L9 0000000000000001-",
        "total   ",
    ] {
        assert!(plan.contains(part), "{part}:\n{plan}");
    }
    let files = plan.lines().filter(|line| line.contains("  file ")).count();
    assert!(plan.contains(&format!("in {files} files")), "{plan}");
    let elsewhere = site.path("new/dir/out.db");
    let db = site.db();
    let output = litevisor(
        &site,
        &["restore", db.to_str().unwrap(), "--dry-run", "--txid", "1", "-o", elsewhere.to_str().unwrap()],
    );
    assert!(said(&output).contains("would be made") && output.status.success(), "{}", said(&output));
    assert!(!elsewhere.parent().unwrap().exists());
    assert_eq!((site.files_on_disk(), std::fs::read(site.db()).unwrap()), (before, content));
    let output = litevisor(&site, &["restore", "--dry-run", "--timestamp", "2001-01-01T00:00:00Z"]);
    assert_eq!(output.status.code(), Some(66), "{}", said(&output));
}

#[test]
fn list_shows_what_can_be_had() {
    for site in [Site::in_directory(), Site::in_s3("listed")] {
        let empty = litevisor(&site, &["list"]);
        assert_eq!(empty.status.code(), Some(66), "{}", said(&empty));
        site.make_history(40);
        let output = litevisor(&site, &["list", "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let (one, newest) = (&listed[0], site.replica.newest_txid());
        assert_eq!(one["replica"], site.replica.url());
        assert_eq!(one["restorable"][0]["first"]["txid"], "0000000000000001");
        assert_eq!(one["restorable"][0]["last"]["txid"], format!("{newest:016x}"));
        assert_eq!(one["restorable"].as_array().unwrap().len(), 1);
        let files: u64 =
            one["levels"].as_array().unwrap().iter().map(|level| level["files"].as_u64().unwrap()).sum();
        assert_eq!(files as usize, site.replica.ltx_files().len());
        assert_eq!(
            (one["snapshots"][0]["txid"].as_str(), &one["problems"]),
            (Some("0000000000000001"), &serde_json::json!([]))
        );
        // The end of the range is a moment that gives the latest state, and a millisecond earlier does not.
        let last = one["restorable"][0]["last"]["time"].as_str().unwrap();
        let out = site.path("then.db");
        let db = site.db();
        let args = ["restore", db.to_str().unwrap(), "-o", out.to_str().unwrap(), "--timestamp", last];
        let output = litevisor(&site, &args);
        assert!(said(&output).contains(&format!("TXID {newest:016x}")), "{}", said(&output));
        let people = litevisor(&site, &["list"]);
        assert!(
            people.status.success() && said(&people).contains("restorable  TXID 0000000000000001"),
            "{}",
            said(&people)
        );
    }
}

#[test]
fn verify_proves_and_names_what_is_damaged() {
    let site = Site::in_directory();
    let empty = litevisor(&site, &["verify"]);
    assert_eq!(empty.status.code(), Some(66), "{}", said(&empty));
    site.make_history(40);
    site.make_history(40);
    let (before, content) = (site.files_on_disk(), std::fs::read(site.db()).unwrap());
    for args in [&["verify"][..], &["verify", "--quick"]] {
        let output = litevisor(&site, args);
        assert!(output.status.success() && said(&output).contains("is sound"), "{}", said(&output));
        assert!(said(&output).contains("check ok"), "{}", said(&output));
    }
    let bucket = site.path("bucket");
    let output = litevisor(&site, &["verify", bucket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    // Each file, in the plan or not.
    for key in site.replica.objects().into_keys().filter(|key| key.ends_with(".ltx")) {
        let path = bucket.join(&key);
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        write_in_place(&path, &damaged);
        let output = litevisor(&site, &["verify"]);
        assert_eq!(output.status.code(), Some(65), "{key}: {}", said(&output));
        assert!(said(&output).contains(&key), "{key}: {}", said(&output));
        write_in_place(&path, &sound);
    }
    assert_eq!((site.files_on_disk(), std::fs::read(site.db()).unwrap()), (before, content));
    std::fs::remove_file(bucket.join("ltx/9/0000000000000001-0000000000000001.ltx")).unwrap();
    for command in ["verify", "list"] {
        let output = litevisor(&site, &[command]);
        assert_eq!(output.status.code(), Some(65), "{}", said(&output));
    }
}

#[test]
fn an_unreachable_replica_is_69_and_no_such_state_66() {
    let site = Site::in_s3("away").with_settings("[restore]\ntimeout = \"1s\"");
    site.make_history(20);
    let db = site.db();
    for (args, code) in
        [(vec!["verify"], 0), (vec!["restore", db.to_str().unwrap(), "--force", "--txid", "ffff"], 66)]
    {
        let output = litevisor(&site, &args);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    }
    let mut away = site;
    away.replica = away.replica.at("http://127.0.0.1:9");
    for command in ["list", "verify"] {
        let output = litevisor(&away, &[command]);
        assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    }
}

fn write_in_place(path: &Path, bytes: &[u8]) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
