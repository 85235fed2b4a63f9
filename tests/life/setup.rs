//! `[app] setup`: commands between the restore and the app. All of what they write is replicated once all
//! have succeeded; after any other end nothing is, and the next start begins from the state before.

use crate::support::litevisor::{As, Litevisor};
use crate::support::replica::Replica;
use crate::support::site::Site;
use crate::support::{SOON, bank, litestream, peer, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;

/// Each command is a line for a shell that has the database's path in `$DB`.
fn set_up(site: &mut Site, commands: &[&str], more: &str) {
    let shell = |line: &&str| format!("[\"sh\", \"-ec\", {line:?}]");
    let commands: Vec<String> = commands.iter().map(shell).collect();
    let db = site.db();
    site.settings = format!("[app]\nsetup = [{}]\nenv = {{ DB = {db:?} }}\n{more}\n", commands.join(", "));
}

fn run(site: &Site, app: &str) -> Litevisor {
    site.run(&["sh", "-ec", app])
}

/// Runs to its end and returns the exit status.
fn status(site: &Site, app: &str) -> (i32, String) {
    let mut run = run(site, app);
    let code = run.wait(SOON).code;
    (code, run.log_text())
}

fn query(db: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(db).arg(sql).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().replace('\n', " ")
}

/// What Litestream restores from the replica.
fn in_replica(site: &Site, sql: &str) -> String {
    let out = site.path("judged.db");
    litestream::restore(&site.replica, &out).unwrap();
    query(&out, sql)
}

const WORDS: &str = "select group_concat(word) from words";

/// The app: it writes its own word and ends.
fn says(word: &str) -> String {
    format!("sqlite3 $DB \"insert into words values ('{word}')\"")
}

/// A first life with its history in the replica.
fn lived() -> Site {
    let mut site = Site::in_directory();
    set_up(&mut site, &["sqlite3 $DB 'create table if not exists words (word)'"], "");
    let (code, log) = status(&site, &says("one"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "one"), "{log}");
    site
}

#[test]
fn commands_run_in_order_and_then_the_app() {
    let mut site = Site::in_directory();
    let commands = ["sqlite3 $DB 'create table words (word)'", &says("first"), &says("second")];
    set_up(&mut site, &commands, "");
    let (code, log) = status(&site, &says("app"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "first,second,app"), "{log}");
    assert!(log.contains("setup, command 3 of 3 is started"), "{log}");
    // The marks are gone, and the next start keeps the file.
    set_up(&mut site, &[], "");
    let (code, log) = status(&site, &says("again"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "first,second,app,again"), "{log}");
    assert!(log.contains("it continues the replica"), "{log}");
}

/// What a failed setup leaves on the disk is not used, and not in the replica.
#[test]
fn a_command_that_fails_is_undone() {
    let half = says("half");
    let cases = [
        ("it fails", format!("{half}; exit 7"), 7),
        ("it dies", format!("{half}; kill -9 $$$$"), 137),
        ("it leaves a process", format!("{half}; sleep 60 & exit 3"), 3),
    ];
    for (what, command, expected) in cases {
        let mut site = lived();
        let before = site.replica.objects();
        set_up(&mut site, &[&half, &command, &says("never")], "");
        let (code, log) = status(&site, &says("app"));
        assert_eq!(code, expected, "{what}: {log}");
        assert_eq!(query(&site.db(), WORDS), "one,half,half", "{what}: the test tests nothing");
        let after = site.replica.objects();
        assert!(after.keys().eq(before.keys()), "{what}: {after:?}");
        // Without a setup, as an older image has none.
        set_up(&mut site, &[], "");
        let (code, log) = status(&site, &says("two"));
        assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "one,two"), "{what}: {log}");
        assert!(log.contains("the commands of app.setup did not end with success"), "{what}: {log}");
    }
}

/// Its status is not one of the app's successes, and a program that is not there is named.
#[test]
fn a_setup_that_fails_is_no_success() {
    let mut site = lived();
    set_up(&mut site, &["exit 9"], "success_codes = [9]\nrestart = \"always\"");
    let (code, log) = status(&site, &says("app"));
    assert_eq!(code, 9, "{log}");
    site.settings = "[app]\nsetup = [[\"/no/such/program\"]]\n".into();
    let (code, log) = status(&site, &says("app"));
    assert_eq!(code, 127, "{log}");
    assert!(log.contains("setup, command 1 of 1: ") && log.contains("/no/such/program"), "{log}");
}

#[test]
fn a_first_start_begins_empty_again() {
    let mut site = Site::in_directory();
    let create = "sqlite3 $DB 'pragma journal_mode = wal; create table words (word)'";
    set_up(&mut site, &[create, &says("half"), "exit 7"], "");
    assert_eq!(status(&site, &says("app")).0, 7);
    assert_eq!((query(&site.db(), WORDS).as_str(), site.replica.newest_txid()), ("half", 0));
    set_up(&mut site, &[create, &says("whole")], "");
    let (code, log) = status(&site, &says("app"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "whole,app"), "{log}");
    assert!(log.contains("starting empty again, as before"), "{log}");
}

/// A database that comes with the image, or from before litevisor: it is uploaded first, and brought back.
#[test]
fn a_file_that_was_there_first_comes_back() {
    let mut site = Site::in_directory();
    query(&site.db(), "create table words (word); insert into words values ('image')");
    set_up(&mut site, &[&says("half"), "exit 7"], "");
    assert_eq!(status(&site, &says("app")).0, 7);
    assert_eq!(in_replica(&site, WORDS), "image");
    assert_eq!(query(&site.db(), WORDS), "image,half");
    set_up(&mut site, &[&says("whole")], "");
    let (code, log) = status(&site, &says("app"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "image,whole,app"), "{log}");
}

/// Commits that had not been uploaded when the last run was killed are part of the state before.
#[test]
fn commits_that_were_not_uploaded_are_kept() {
    let mut site = Site::in_directory();
    site.make_history(20);
    let words = site.bank_words(&["--rate", "max", "--count", "50"]);
    assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
    assert!(site.judge_replica(None).is_err(), "the replica has them: the test tests nothing");
    set_up(&mut site, &["sqlite3 $DB 'create table half (word)'", "exit 7"], "");
    assert_eq!(status(&site, "exit 0").0, 7);
    assert!(bank::schema(&site.db()).contains("half"), "the test tests nothing");
    site.assert_replica_holds_everything("after the setup that failed");
    set_up(&mut site, &[], "");
    let mut run = site.run_bank(&["--count", "1"]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    site.assert_disk_holds_everything("after the next run");
    site.assert_replica_holds_everything("after the next run");
    assert!(!bank::schema(&site.db()).contains("half"));
}

/// A stop reaches the command, and a kill -9 counts as a failure.
#[test]
fn a_setup_that_is_stopped_or_killed_is_undone() {
    for stopped in [true, false] {
        let mut site = lived();
        let trap = "trap 'exit 5' TERM; touch $DB.begun; while :; do sleep 0.05; done";
        set_up(&mut site, &[&says("half"), trap], "");
        let mut life = run(&site, &says("app"));
        wait_until("the second command", SOON, || site.path("disk/bank.db.begun").exists());
        if stopped {
            life.signal(Signal::SIGTERM);
            assert_eq!(life.wait(SOON).code, 5, "{}", life.log_text());
        } else {
            life.kill_everything();
        }
        set_up(&mut site, &[], "");
        let (code, log) = status(&site, &says("two"));
        assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "one,two"), "{log}");
    }
}

/// A mark that cannot be read says that a setup has begun, and not that it has succeeded.
#[test]
fn a_mark_that_cannot_be_read_is_no_success() {
    for text in ["", "{\"succeeded\":true}"] {
        let mut site = lived();
        set_up(&mut site, &[&says("half"), "exit 7"], "");
        assert_eq!(status(&site, &says("app")).0, 7);
        std::fs::write(site.path("disk/.bank.db-litevisor/setup.json"), text).unwrap();
        set_up(&mut site, &[], "");
        let (code, log) = status(&site, &says("two"));
        assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "one,two"), "{log}");
        assert!(log.contains("the mark of a setup cannot be used"), "{log}");
    }
    // Nothing to go back to: the file is neither used nor removed.
    let mut site = Site::in_directory();
    set_up(&mut site, &["sqlite3 $DB 'create table words (word)'", &says("half"), "exit 7"], "");
    assert_eq!(status(&site, &says("app")).0, 7);
    std::fs::write(site.path("disk/.bank.db-litevisor/setup.json"), "{").unwrap();
    let (code, log) = status(&site, &says("app"));
    assert!(code != 0 && log.contains("Bring the replica back, or remove the local file"), "{code} {log}");
    assert_eq!((query(&site.db(), WORDS).as_str(), site.replica.newest_txid()), ("half", 0));
    std::fs::remove_file(site.db()).unwrap();
    set_up(&mut site, &["sqlite3 $DB 'create table words (word)'"], "");
    let (code, log) = status(&site, &says("whole"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "whole"), "{log}");
}

/// The commands succeed with the first database and fail with the second: neither has anything of them.
#[test]
fn two_databases_are_set_up_together_or_not_at_all() {
    let site = Site::in_directory();
    let names = ["a", "b"];
    let db = |name: &str| site.path(&format!("disk/{name}.db"));
    let replica = |name: &str| Replica::Directory(site.path(&format!("bucket/{name}")));
    let says = |name: &str, word: &str| {
        format!("sqlite3 {} \"insert into words values ('{word}')\"", db(name).display())
    };
    let live = |setup: &[String], app: &str| {
        let setup: Vec<String> = setup.iter().map(|line| format!("[\"sh\", \"-ec\", {line:?}]")).collect();
        let mut text = format!("[app]\nsetup = [{}]\n", setup.join(", "));
        for name in names {
            text +=
                &format!("[[database]]\npath = {:?}\n[database.replica]\n{}", db(name), replica(name).toml());
        }
        let config = site.path("two.toml");
        std::fs::write(&config, text).unwrap();
        let args = ["--config".into(), config.into(), "--".into(), "sh".into(), "-ec".into(), app.into()];
        let mut run = Litevisor::run(As::Process, &args);
        (run.wait(SOON).code, run.log_text())
    };
    let judged = || {
        names.map(|name| {
            let out = site.path("judged.db");
            litestream::restore(&replica(name), &out).unwrap();
            query(&out, WORDS)
        })
    };
    let both = |word: &str| names.map(|name| says(name, word)).join("; ");
    for name in names {
        query(&db(name), "create table words (word)");
    }
    let (code, log) = live(&[], &both("one"));
    assert_eq!((code, judged()), (0, ["one", "one"].map(String::from)), "{log}");
    let before = names.map(|name| replica(name).objects());

    let failing = [says("a", "half"), says("b", "half"), "exit 7".to_owned()];
    assert_eq!(live(&failing, &both("app")).0, 7);
    assert_eq!(names.map(|name| query(&db(name), WORDS)), ["one,half", "one,half"], "the test tests nothing");
    assert_eq!(names.map(|name| replica(name).objects()), before);
    // The first one's mark says that it has not succeeded, the second one's that it asks the first one.
    let mark = |name: &str| site.path(&format!("disk/.{name}.db-litevisor/setup.json"));
    assert!(mark("a").exists() && mark("b").exists());

    let (code, log) = live(&[says("a", "set up"), says("b", "set up")], &both("two"));
    assert_eq!((code, judged()), (0, ["one,set up,two", "one,set up,two"].map(String::from)), "{log}");
    assert!(!mark("a").exists() && !mark("b").exists());
}

/// An empty disk knows it from the replica.
#[test]
fn a_setup_that_was_done_is_not_done_again() {
    let mut site = lived();
    let done = site.path("bucket/setup/done.json");
    let setup = says("migrated");
    let changed = |id: &str| format!("setup_when = \"changed\"\nsetup_id = \"{id}\"");
    // The app waits until the setup is recorded, which comes after its upload.
    let waits =
        |word: &str| format!("while ! [ -e {} ]; do sleep 0.05; done; {}", done.display(), says(word));
    let mut live = |more: &str, app: &str, expected: &str| {
        set_up(&mut site, &[&setup], more);
        let (code, log) = status(&site, app);
        assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, expected), "{log}");
        site.wipe();
    };
    live(&changed("v1"), &waits("a"), "one,migrated,a");
    live(&changed("v1"), &says("b"), "one,migrated,a,b");
    // Another one; its record replaces the first.
    std::fs::remove_file(&done).unwrap();
    live(&changed("v2"), &waits("c"), "one,migrated,a,b,migrated,c");
    live(&changed("v2"), &says("d"), "one,migrated,a,b,migrated,c,d");
    live("", &says("e"), "one,migrated,a,b,migrated,c,d,migrated,e");
    // An older state was restored on purpose: what the setup had made of it is gone.
    let first = ["restore", "--config", site.config().to_str().unwrap(), "--txid", "0000000000000002"]
        .map(str::to_owned);
    let restored = Command::new(env!("CARGO_BIN_EXE_litevisor")).args(first).arg(site.db()).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let older = query(&site.db(), WORDS);
    set_up(&mut site, &[&setup], &changed("v2"));
    let (code, log) = status(&site, &says("f"));
    assert_eq!((code, in_replica(&site, WORDS)), (0, format!("{older},migrated,f")), "{log}");
}

/// Alembic: the first of two new migrations is committed, the second one fails after a part of it was.
#[test]
fn a_migration_that_fails_is_rolled_back_and_a_mended_one_succeeds() {
    let mut site = Site::in_directory();
    let project = site.path("project");
    std::fs::create_dir_all(project.join("versions")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(project.join(name), text).unwrap();
    write("alembic.ini", "[alembic]\nscript_location = %(here)s\n");
    write("script.py.mako", "");
    let env = "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n\
               with create_engine('sqlite:///' + os.environ['DB']).connect() as connection:\n    \
               context.configure(connection=connection, transaction_per_migration=True)\n    \
               with context.begin_transaction():\n        context.run_migrations()\n";
    write("env.py", env);
    let version = |number: u32, body: &str| {
        let down = if number == 1 { "None".to_owned() } else { format!("'{}'", number - 1) };
        let head = format!("from alembic import op\nrevision = '{number}'\ndown_revision = {down}\n");
        write(&format!("versions/{number}.py"), &format!("{head}def upgrade():\n{body}"));
    };
    let insert = |word: &str| format!("    op.execute(\"insert into words values ('{word}')\")\n");
    version(1, "    op.execute('create table words (word)')\n");
    let alembic = peer("alembic/bin/alembic");
    let ini = project.join("alembic.ini");
    let upgrade = format!("{} -c {} upgrade head", alembic.display(), ini.display());
    set_up(&mut site, &[&upgrade], "");
    let (code, log) = status(&site, &says("app 1"));
    assert_eq!((code, in_replica(&site, WORDS).as_str()), (0, "app 1"), "{log}");

    let tip = site.replica.newest_txid();
    version(2, &insert("two"));
    let commit = "    op.get_bind().connection.commit()\n";
    version(3, &format!("{}{commit}    raise Exception('a bug')\n", insert("half")));
    let (code, log) = status(&site, &says("app 2"));
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("a bug"), "{log}");
    assert_eq!(query(&site.db(), WORDS), "app 1,two,half", "the test tests nothing");
    assert_eq!((site.replica.newest_txid(), in_replica(&site, WORDS).as_str()), (tip, "app 1"));

    version(3, &insert("three"));
    let (code, log) = status(&site, &says("app 3"));
    assert_eq!(code, 0, "{log}");
    assert_eq!(in_replica(&site, WORDS), "app 1,two,three,app 3", "{log}");
    assert_eq!(in_replica(&site, "select version_num from alembic_version"), "3");
}
