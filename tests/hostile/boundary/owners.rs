//! Whose the files are that litevisor makes, and who may read them.

use super::place::{APP, CANARY, Place, binary, give, owner, sql_app, stop};
use crate::support::SOON;
use crate::support::process::Process;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looks at files again and again while something runs; what was seen, if it is not right.
struct Watch {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Watch {
    fn start(files: Vec<PathBuf>, wrong: impl Fn(&fs::Metadata) -> bool + Send + 'static) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut found = Vec::new();
            while !end.load(Ordering::Relaxed) && found.is_empty() {
                for file in &files {
                    if let Ok(meta) = fs::symlink_metadata(file).as_ref()
                        && wrong(meta)
                    {
                        found.push(format!("{}: uid {}, mode {:o}", file.display(), meta.uid(), meta.mode()));
                    }
                }
            }
            found
        });
        Watch { over, thread }
    }

    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// SQLite as root makes a side file and gives it away then: an app that opens it in between cannot write.
#[test]
fn what_is_made_beside_the_database_is_the_apps_from_the_first_instruction() {
    let Some(place) = Place::new() else { return };
    place.make_history();
    for life in 0..6 {
        if life % 2 == 0 {
            place.wipe();
        }
        let names =
            ["app.db", "app.db-wal", "app.db-shm", ".app.db-litevisor", ".app.db-litevisor/state.json"];
        let watch = Watch::start(names.map(|name| place.data(name)).to_vec(), |meta| meta.uid() != APP);
        let (ended, log) = place.live_sql("insert into t values (2)");
        assert_eq!(watch.end(), [""; 0], "{log}");
        assert_eq!(ended.code, 0, "{log}");
    }
}

/// The image's own entrypoint gives the database, and it alone, to the app's user.
#[test]
fn side_files_follow_the_databases_owner() {
    let Some(mut place) = Place::new() else { return };
    place.user = None;
    place.make_history();
    let times = std::env::var("LITEVISOR_BOUNDARY_STARTS").ok().map_or(5, |text| text.parse().unwrap());
    for _ in 0..times {
        place.wipe();
        give(&place.path("data"), 0, 0o755);
        let (data, db) = (place.path("data"), place.db());
        let entrypoint = "chown 4242:4242 $0 $1; PATH=/usr/bin:/bin exec setpriv --reuid 4242 --regid 4242 --clear-groups python3 -c \"$2\" $1 \"$3\"";
        let words = [data.to_str().unwrap(), db.to_str().unwrap(), sql_app(), "insert into t values (2)"];
        let (ended, log) = place.live(&[&["sh", "-c", entrypoint][..], &words].concat());
        assert_eq!(ended.code, 0, "{log}");
        for side in ["", "-wal", "-shm"] {
            let path = place.data(&format!("app.db{side}"));
            assert!(!path.exists() || owner(&path) == APP, "{side}\n{log}");
        }
    }
}

const AS_APP: &str =
    "PATH=/usr/bin:/bin exec setpriv --reuid 4242 --regid 4242 --clear-groups python3 -c \"$2\" $1 \"$3\"";

/// The same beside a database of a directory entry that is given away and one that stays root's.
#[test]
fn side_files_follow_the_owner_of_each_database_of_a_directory() {
    let Some(mut place) = Place::new() else { return };
    (place.user, place.name) = (None, "tenants");
    give(&place.make("tenants"), 0, 0o755);
    let [given, kept] = ["tenants/given.db", "tenants/kept.db"].map(|name| place.data(name));
    for db in [&given, &kept] {
        rusqlite::Connection::open(db)
            .unwrap()
            .execute_batch("pragma journal_mode=wal; create table t(x)")
            .unwrap();
    }
    let (ended, log) = place.live(&["true"]);
    assert_eq!(ended.code, 0, "{log}");
    for life in 0..3 {
        place.wipe();
        give(&place.make("tenants"), 0, 0o755);
        let entrypoint = format!("chown 4242:4242 $0 $1; {AS_APP}");
        let words = [place.data("tenants"), given.clone()].map(|path| path.to_str().unwrap().to_owned());
        let words = [&words[0], &words[1], sql_app(), "insert into t values (2)"];
        let (ended, log) = place.live(&[&["sh", "-c", &entrypoint][..], &words].concat());
        assert_eq!(ended.code, 0, "{life}: {log}");
        for (db, expected) in [(&given, APP), (&kept, 0)] {
            for side in ["", "-wal", "-shm"] {
                let path = PathBuf::from(format!("{}{side}", db.display()));
                assert!(!path.exists() || owner(&path) == expected, "{}\n{log}", path.display());
            }
        }
    }
}

/// And beside `replicate`, whose app has an entrypoint of its own.
#[test]
fn side_files_follow_the_databases_owner_beside_a_sidecar() {
    let Some(mut place) = Place::new() else { return };
    place.user = None;
    place.make_history();
    for _ in 0..3 {
        place.wipe();
        give(&place.path("data"), 0, 0o755);
        let mut command = std::process::Command::new(binary());
        command.args(["replicate", "--config"]).arg(place.config()).current_dir(place.path(""));
        let mut sidecar = Process::start(command);
        sidecar.wait_for_log("replication", SOON, |line| line.contains("\"replicating\""));
        let (data, db) = (place.path("data"), place.db());
        let words = [data.to_str().unwrap(), db.to_str().unwrap(), sql_app(), "insert into t values (2)"];
        let mut app = std::process::Command::new("sh");
        let app = app.args(["-c", &format!("chown 4242:4242 $0 $1; {AS_APP}")]).args(words).output().unwrap();
        assert!(app.status.success(), "{}\n{}", String::from_utf8_lossy(&app.stderr), sidecar.log_text());
        for side in ["", "-wal", "-shm"] {
            let path = place.data(&format!("app.db{side}"));
            assert!(!path.exists() || owner(&path) == APP, "{side}\n{}", sidecar.log_text());
        }
        assert_eq!(stop(&mut sidecar).code, 0, "{}", sidecar.log_text());
    }
}

#[test]
fn what_was_private_comes_back_private() {
    let Some(mut place) = Place::new() else { return };
    place.make_history();
    for (configured, expected) in [("", 0o600), ("mode = \"0640\"\n", 0o640)] {
        place.wipe();
        place.database = configured.into();
        let staged = place.data("app.db.litevisor-staged");
        let watch = Watch::start(vec![staged], move |meta| meta.mode() & 0o777 & !expected != 0);
        let (ended, log) = place.live(&["true"]);
        assert_eq!(watch.end(), [""; 0]);
        assert_eq!(ended.code, 0, "{log}");
        let made = fs::metadata(place.db()).unwrap();
        assert_eq!((made.mode() & 0o777, made.uid()), (expected, APP), "{log}");
        let state = fs::metadata(place.data(".app.db-litevisor")).unwrap();
        assert_eq!(state.mode() & 0o777, 0o700);
    }
}

#[test]
fn a_missing_data_directory_is_made_for_the_apps_user() {
    let Some(mut place) = Place::new() else { return };
    place.name = "new/deep/app.db";
    give(&place.path("data"), 0, 0o755);
    let (ended, log) = place.live_sql("create table t(x)");
    assert_eq!(ended.code, 0, "{log}");
    assert_eq!(owner(&place.data("new/deep")), APP);
    assert_eq!(owner(&place.db()), APP);
    assert_eq!(owner(&place.path("data")), 0);
}

#[test]
fn a_data_directory_that_the_apps_user_cannot_write_to_is_said() {
    let Some(place) = Place::new() else { return };
    place.make_history();
    give(&place.path("data"), 0, 0o755);
    let (_, log) = place.live(&["true"]);
    assert!(log.contains("uid 4242 cannot create files in") && log.contains("chown 4242"), "{log}");
    give(&place.path("data"), APP, 0o755);
    give(&place.db(), 0, 0o644);
    let (_, log) = place.live(&["true"]);
    assert!(log.contains("uid 4242 cannot write to it"), "{log}");
}

#[test]
fn check_refuses_users_that_are_not_there() {
    let Some(mut place) = Place::new() else { return };
    assert_eq!(place.command(&["check"]).status.code(), Some(0));
    place.database = "owner = \"nobody-knows\"\n".into();
    let refused = place.command(&["check"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody-knows"), "{refused:?}");
    place.database = String::new();
    place.user = Some("nobody-knows".into());
    assert_eq!(place.command(&["check"]).status.code(), Some(78));
}

/// `verify` restores the whole database: nobody else reads it, and what a kill leaves goes at the next start.
#[test]
fn a_scratch_copy_is_private_and_swept() {
    let Some(place) = Place::new() else { return };
    let (ended, log) = place.live_sql(&format!(
        "create table t(x); insert into t values ('{CANARY}' || hex(randomblob(900000)))"
    ));
    assert_eq!(ended.code, 0, "{log}");
    let mut verify = std::process::Command::new(super::place::binary());
    verify.args(["verify", "--config"]).arg(place.config()).env_remove("TMPDIR");
    let mut verify = crate::support::process::Process::start(verify);
    let scratch = place.data(&format!(".litevisor-verify-{}-0", verify.pid()));
    let files =
        vec![scratch.clone(), scratch.join("scratch.db"), scratch.join("scratch.db.litevisor-staged")];
    let watch = Watch::start(files, |meta| meta.mode() & 0o077 != 0);
    let ended = verify.wait(SOON);
    assert_eq!(watch.end(), [""; 0]);
    assert_eq!(ended.code, 0, "{}", verify.log_text());
    assert!(!scratch.exists());
    let left = place.make(".litevisor-verify-1-0");
    fs::write(left.join("scratch.db"), "all").unwrap();
    let (ended, log) = place.live(&["true"]);
    assert_eq!(ended.code, 0, "{log}");
    assert!(!left.exists(), "{log}");
}
