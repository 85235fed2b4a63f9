//! Commands that would replace a file under a living owner.

use super::place::{app_without_litevisor, assert_unharmed, dump, litevisor, running, said, site};
use crate::support::litevisor::{As, Litevisor};
use crate::support::{SOON, wait_until};
use std::os::unix::fs::MetadataExt;

/// A sidecar or cron's litevisor cannot stop the app: nothing is replaced under it.
#[test]
fn a_restore_beside_a_sidecar_is_refused() {
    let site = site();
    site.make_history(20);
    let mut sidecar = Litevisor::replicate(As::Process, &site.config(), &[]);
    sidecar.wait_for_log("replication", SOON, |line| line.contains("\"replicating\""));
    let (db, inode) = (site.db(), std::fs::metadata(site.db()).unwrap().ino());
    let link = site.path("link.db");
    std::os::unix::fs::symlink(&db, &link).unwrap();
    let db = db.to_str().unwrap();
    let dotted = format!("{}/./bank.db", site.disk().display());
    for words in [
        vec!["restore", "--force"],
        vec!["restore", db, "--force"],
        vec!["restore", db, "--force", "--txid", "1"],
        vec!["restore", db, "--force", "-o", db],
        vec!["restore", db, "--force", "-o", &dotted],
        vec!["restore", db, "--force", "-o", link.to_str().unwrap()],
    ] {
        let (code, told) = said(&litevisor(&site.config(), &words));
        assert!(code == 78 && told.contains(&format!("PID {}", sidecar.pid())), "{words:?}: {code} {told}");
        assert!(told.contains("Stop that"), "{words:?}: {told}");
        assert_eq!(std::fs::metadata(site.db()).unwrap().ino(), inode, "{words:?}");
    }
    // Another file is fine.
    let out = site.path("copy.db");
    let (code, told) = said(&litevisor(&site.config(), &["restore", db, "-o", out.to_str().unwrap()]));
    assert_eq!((code, dump(&out)), (0, dump(&site.db())), "{told}");
    assert!(!site.path(".copy.db-litevisor").exists(), "an output of its own needs no lock");
    assert_eq!(sidecar.stop().code, 0, "{}", sidecar.log_text());
}

/// The file was deleted under a running owner: without --force, too, it is not made anew beside it.
#[test]
fn a_deleted_file_of_a_running_one_is_not_made_anew_beside_it() {
    let site = site();
    let mut run = running(&site);
    let aside = site.path("aside.db");
    let other = site.path("offline.toml");
    let text = std::fs::read_to_string(site.config()).unwrap().replace("litevisor.sock", "nowhere.sock");
    std::fs::write(&other, text).unwrap();
    let db = site.db();
    let (code, told) = said(&litevisor(&other, &["restore", db.to_str().unwrap(), "--force"]));
    assert!(code == 78 && told.contains(&format!("PID {}", run.pid())), "it cannot be asked: {code} {told}");
    std::fs::rename(site.db(), &aside).unwrap();
    let (code, told) = said(&litevisor(&other, &["restore"]));
    assert!(code == 78 && told.contains(&format!("PID {}", run.pid())), "{code} {told}");
    assert!(!site.db().exists());
    std::fs::rename(&aside, site.db()).unwrap();
    assert_unharmed(&site, &mut run, "after the refusal");
}

#[test]
fn an_app_without_any_litevisor_is_not_robbed_of_its_file() {
    for mode in ["wal", "delete"] {
        let site = site();
        site.make_history(20);
        let db = site.db();
        let mut app = app_without_litevisor(&db, mode);
        let before = dump(&site.db());
        for words in
            [vec!["restore", "--force"], vec!["restore", db.to_str().unwrap(), "--force", "--txid", "1"]]
        {
            let (code, told) = said(&litevisor(&site.config(), &words));
            assert!(
                code == 78 && told.contains(&format!("PID {}", app.id())),
                "{mode} {words:?}: {code} {told}"
            );
            assert_eq!(dump(&site.db()), before);
        }
        // A run that would replace the file, because nothing proves that it continues the replica.
        let state = site.disk().join(".bank.db-litevisor");
        std::fs::remove_dir_all(&state).unwrap();
        if mode == "wal" {
            let (code, told) = said(&litevisor(&site.config(), &["run", "true"]));
            assert!(code == 78 && told.contains(&format!("PID {}", app.id())), "{mode}: {code} {told}");
            assert!(!state.exists(), "a refused start leaves nothing");
        }
        assert_eq!(dump(&site.db()), before);
        drop(app.stdin.take());
        wait_until("the app's end", SOON, || app.try_wait().unwrap().is_some());
        let (code, told) = said(&litevisor(&site.config(), &["restore", "--force"]));
        assert_eq!(code, 0, "{told}");
        assert_ne!(dump(&site.db()), before);
    }
}
