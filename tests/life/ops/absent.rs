//! A configured database that does not exist: a wrong path must not look well. Each of these lives waits for
//! the warning, which comes 10 s after the start when the app has other SQLite files open, and after 30 s in
//! any case; so they run side by side.

use crate::support::asking::{Said, ask, free_port, http};
use crate::support::bank;
use crate::support::litevisor::{As, Litevisor};
use crate::support::{SOON, side_by_side, wait_for, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The second warning, and a slow machine.
const LATE: Duration = Duration::from_secs(60);

struct Place {
    directory: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        for name in ["disk", "bucket"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Place { directory, port: free_port() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `entries`: keys of each `[[database]]`, and its replica's name.
    fn config(&self, entries: &[(String, &str)]) -> PathBuf {
        let mut text =
            format!("[status]\nsocket = {:?}\nlisten = \"127.0.0.1:{}\"\n", self.path("s.sock"), self.port);
        for (keys, replica) in entries {
            let url = self.path("bucket").join(replica);
            text +=
                &format!("[[database]]\n{keys}\n[database.replica]\nurl = \"file://{}\"\n", url.display());
        }
        let path = self.path("supervisor.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn database(&self, name: &str) -> String {
        format!("path = {:?}", self.path("disk").join(name))
    }

    fn run(&self, config: &Path, app: &[&str]) -> Litevisor {
        let mut args: Vec<std::ffi::OsString> = vec!["--config".into(), config.into(), "--".into()];
        args.extend(app.iter().map(Into::into));
        Litevisor::run(As::Process, &args)
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, text) = http(self.port, "GET", "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    fn ready_body(&self) -> String {
        let (code, body) = http(self.port, "GET", "/readyz");
        assert_eq!(code, 200, "an app that creates its database later is not taken from its users: {body}");
        body
    }
}

/// An app that has a database open, and goes on writing.
fn app_with(db: &Path) -> Vec<String> {
    let script = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1])\nc.execute('pragma journal_mode=wal')\n\
                  c.execute('create table if not exists t(x)')\n\
                  while True:\n c.execute('insert into t values (1)'); c.commit(); time.sleep(0.2)";
    ["python3", "-c", script, db.to_str().unwrap()].map(String::from).into()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

fn last(run: &Litevisor) -> Value {
    let done = run.log().into_iter().rev().find(|line| line.contains("\"status\""));
    serde_json::from_str(&done.unwrap_or_else(|| panic!("{}", run.log_text()))).unwrap()
}

fn assert_says_no_database(said: &Said, code: i32, subject: &str) {
    let told = format!("{}{}", said.out, said.err);
    assert!(said.code == code && told.contains("no database") && told.contains(subject), "{said:?}");
}

#[test]
fn the_warning_comes_and_everything_that_is_asked_says_the_same() {
    let lives = [
        a_wrong_path_is_red_everywhere,
        the_files_of_an_app_with_a_user_of_its_own_are_named,
        a_directory_that_matches_nothing_is_red_everywhere,
        a_database_that_comes_late_is_no_longer_absent,
        the_sidecar_and_cron_say_it_too,
        one_bad_database_among_fifty_is_seen,
    ];
    side_by_side(lives.len(), lives, |life: fn()| life());
}

/// Everything that is asked says that nothing is replicated; the app's own status stays.
fn a_wrong_path_is_red_everywhere() {
    let place = Place::new();
    let config = place.config(&[(place.database("typo.db"), "r")]);
    let used = place.path("disk").join("app.db");
    let mut run = place.run(&config, &words(&app_with(&used)));
    let warning = run.wait_for_complaint("typo.db", LATE);
    assert!(warning.contains("NOT REPLICATED") && warning.contains(used.to_str().unwrap()), "{warning}");
    wait_until("the metric", SOON, || place.metric("litevisor_databases_absent") == 1.0);
    let body = place.ready_body();
    assert!(body.starts_with("ready, but NOT REPLICATED\n") && body.contains("no database at"), "{body}");
    let status = ask(&config, &["status"]);
    assert!(status.code == 0 && status.out.contains("app.db"), "it names what was found: {status:?}");
    assert_says_no_database(&status, 0, "typo.db");
    let healthy = ask(&config, &["healthcheck"]);
    assert!(healthy.code == 0 && healthy.err.contains("NOT REPLICATED"), "{healthy:?}");
    assert_says_no_database(&ask(&config, &["sync"]), 66, "typo.db");
    let (code, body) = http(place.port, "POST", "/sync");
    assert!(
        code == 404 && body.contains("\"absent\":true") && body.contains("\"complete\":false"),
        "{code} {body}"
    );
    assert_eq!(ask(&config, &["verify"]).code, 66);
    assert_says_no_database(&ask(&config, &["list"]), 66, "typo.db");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let last = last(&run);
    let message = last["message"].as_str().unwrap();
    assert!(message.contains("NOTHING WAS REPLICATED") && message.contains("typo.db"), "{last}");
    assert!(
        last["level"] == "warn"
            && last["flushed"].is_null()
            && last["databases"][0]["state"] == "no database"
    );
}

/// Found although the app is another user, whose descriptors root may not read without CAP_SYS_PTRACE.
fn the_files_of_an_app_with_a_user_of_its_own_are_named() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let directory = place.path("disk");
    for path in [place.directory.path(), &directory] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let elsewhere = place.path("disk").join("sub");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let used = elsewhere.join("app.db");
    let config = place.config(&[(place.database("typo.db"), "r")]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("[app]\nuser = \"4242:4242\"\n{text}")).unwrap();
    // As Docker starts it: root without the capability.
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-sys_ptrace,-sys_admin", "--inh-caps", "-sys_ptrace,-sys_admin"]);
    command
        .args([env!("CARGO_BIN_EXE_litevisor"), "run", "--config"])
        .arg(&config)
        .arg("--")
        .args(app_with(&used));
    let mut run = crate::support::process::Process::start(command);
    let warning =
        run.wait_for_log("a warning", LATE, |line| line.contains("typo.db") && line.contains("NOT REPL"));
    assert!(warning.contains(used.to_str().unwrap()), "{warning}");
    run.kill_tree();
}

/// `dir` with `*.db`, and the app's file has another name.
fn a_directory_that_matches_nothing_is_red_everywhere() {
    let place = Place::new();
    let (disk, other) = (place.path("disk"), place.path("other"));
    std::fs::create_dir(&other).unwrap();
    let config = place.config(&[
        (format!("dir = {disk:?}\nwatch = false"), "tenants"),
        (format!("dir = {other:?}\npattern = \"*.sqlite\"\nwatch = true"), "others"),
    ]);
    // The app opens and closes it, so that nobody has it open when it is looked for.
    bank::seed(&disk.join("hedgedoc.sqlite"));
    let mut run = place.run(&config, &["sleep", "600"]);
    let warning = run.wait_for_complaint("hedgedoc.sqlite", LATE);
    assert!(warning.contains("matches \\\"*.db\\\"") && warning.contains("`watch = true`"), "{warning}");
    wait_until("the metric", SOON, || place.metric("litevisor_databases_absent") == 2.0);
    assert!(place.ready_body().contains("hedgedoc.sqlite"), "{}", place.ready_body());
    for word in ["status", "sync", "list", "verify"] {
        assert_says_no_database(&ask(&config, &[word]), if word == "status" { 0 } else { 66 }, "*.db");
    }
    // One that comes after all is replicated, and no longer called absent.
    bank::seed(&other.join("late.sqlite"));
    wait_until("the late one", SOON, || place.metric("litevisor_databases_absent") == 1.0);
    let synced = wait_for("its upload", SOON, || {
        Some(ask(&config, &["sync"])).filter(|said| said.out.contains("late.sqlite: uploaded"))
    });
    assert_says_no_database(&synced, 66, "*.db");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let last = last(&run);
    assert!(
        last["message"].as_str().unwrap().contains("not replicated") && last["flushed"] == true,
        "{last}"
    );
}

/// An app that needs its time is not called wrong, and afterwards everything is as ever.
fn a_database_that_comes_late_is_no_longer_absent() {
    let place = Place::new();
    let config = place.config(&[(place.database("app.db"), "r")]);
    let mut run = place.run(&config, &["sleep", "600"]);
    wait_until("the app", SOON, || http(place.port, "GET", "/readyz").0 == 200);
    assert_eq!(place.ready_body(), "ready\n");
    let warning = run.wait_for_complaint("app.db", LATE);
    assert!(warning.contains("Replication begins when the app creates it"), "{warning}");
    bank::seed(&place.path("disk").join("app.db"));
    wait_until("it is replicated", SOON, || {
        place.ready_body() == "ready\n" && place.metric("litevisor_databases_absent") == 0.0
    });
    assert_eq!(ask(&config, &["sync"]).code, 0);
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    assert_eq!(last(&run)["databases"][0]["state"], "complete");
}

/// A job of a second with a wrong path: its status is its own, and the log says it.
#[test]
fn a_short_job_with_a_wrong_path_does_not_end_well_silently() {
    let place = Place::new();
    let config = place.config(&[(place.database("typo.db"), "r")]);
    let mut run = place.run(&config, &["sh", "-c", "exit 3"]);
    assert_eq!(run.wait(SOON).code, 3, "{}", run.log_text());
    assert!(last(&run)["message"].as_str().unwrap().contains("NOTHING WAS REPLICATED"), "{}", run.log_text());
}

/// The sidecar has no app: it names what lies beside the path. `--once` is no success without one of its
/// databases.
fn the_sidecar_and_cron_say_it_too() {
    let place = Place::new();
    let config = place.config(&[(place.database("typo.db"), "r"), (place.database("here.db"), "h")]);
    bank::seed(&place.path("disk").join("here.db"));
    let mut once = Litevisor::replicate(As::Process, &config, &["--once"]);
    assert_eq!(once.wait(SOON).code, 66, "{}", once.log_text());
    assert!(ask(&config, &["list", place.path("disk").join("here.db").to_str().unwrap()]).code == 0);
    bank::seed(&place.path("disk").join("app.db"));
    let mut run = Litevisor::replicate(As::Process, &config, &[]);
    let warning = run.wait_for_complaint("typo.db", LATE);
    assert!(warning.contains("Did you mean") && warning.contains("disk/app.db"), "{warning}");
    assert!(!warning.contains("here.db"), "it is replicated: {warning}");
    assert_says_no_database(&ask(&config, &["sync"]), 66, "typo.db");
    assert!(place.ready_body().contains("NOT REPLICATED"));
    // Beside a running one its answer counts, and no success is made of it.
    let mut once = Litevisor::replicate(As::Process, &config, &["--once"]);
    assert_eq!(once.wait(SOON).code, 66, "{}", once.log_text());
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}

/// One of fifty does not exist: what is asked names it, and the others are as they should be.
fn one_bad_database_among_fifty_is_seen() {
    let place = Place::new();
    let names: Vec<String> = (0..50).map(|number| format!("tenant-{number}.db")).collect();
    let entries: Vec<(String, &str)> =
        names.iter().map(|name| (place.database(name), name.as_str())).collect();
    let config = place.config(&entries);
    for name in names.iter().skip(1) {
        bank::seed(&place.path("disk").join(name));
    }
    let mut run = place.run(&config, &["sleep", "600"]);
    let warning = run.wait_for_complaint("tenant-0.db", LATE);
    assert!(warning.contains("no database at"), "{warning}");
    wait_until("the metric", SOON, || place.metric("litevisor_databases_absent") == 1.0);
    let complaints = run.log().iter().filter(|line| line.contains("NOT REPLICATED")).count();
    assert_eq!(complaints, 1, "the others are there: {}", run.log_text());
    let said = ask(&config, &["sync"]);
    assert_says_no_database(&said, 66, "tenant-0.db");
    assert_eq!(said.out.lines().count(), 49, "{said:?}");
    let body = place.ready_body();
    assert!(body.lines().count() == 2 && body.contains("tenant-0.db"), "{body}");
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    let last = last(&run);
    let states = last["databases"].as_array().unwrap().iter().filter(|db| db["state"] == "complete").count();
    assert!(states == 49 && last["message"].as_str().unwrap().contains("tenant-0.db"), "{last}");
}

/// One of fifty in a directory is destroyed while the app runs: everything names it, and the end is no
/// success.
#[test]
fn one_sick_database_among_fifty_is_seen() {
    let place = Place::new();
    let disk = place.path("disk");
    let config = place.config(&[(format!("dir = {disk:?}"), "tenants")]);
    for number in 0..50 {
        bank::seed(&disk.join(format!("tenant-{number}.db")));
    }
    let mut run = place.run(&config, &["sleep", "600"]);
    wait_until("the app", SOON, || http(place.port, "GET", "/readyz").0 == 200);
    let synced = ask(&config, &["sync"]);
    assert!(synced.code == 0 && synced.out.lines().count() == 50, "{synced:?}");
    let sick = disk.join("tenant-7.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(disk.join(format!("tenant-7.db{suffix}")));
    }
    std::fs::write(&sick, "no database, but a text of more than a hundred bytes ".repeat(20)).unwrap();
    run.wait_for_complaint("tenant-7.db", SOON);
    let state = format!("litevisor_database_state{{db=\"{}\",state=\"replaced\"}}", sick.display());
    wait_until("the state", SOON, || place.metric(&state) == 1.0);
    let (code, body) = http(place.port, "GET", "/readyz");
    assert!(code == 503 && body.contains("tenant-7.db"), "{code}: {body}");
    let status = ask(&config, &["status"]);
    let rows = |state: &str| status.out.lines().filter(|line| line.contains(&format!("  {state}"))).count();
    assert!(rows("replaced") == 1 && rows("replicating") == 49, "{status:?}");
    let synced = ask(&config, &["sync", "--timeout", "15s"]);
    assert!(synced.code == 74 && synced.err.contains("tenant-7.db"), "{synced:?}");
    assert_eq!(synced.out.lines().count(), 49, "{synced:?}");
    assert_eq!(run.stop().code, 74, "{}", run.log_text());
    let last = last(&run);
    let incomplete = last["databases"].as_array().unwrap().iter().filter(|db| db["state"] == "INCOMPLETE");
    let [incomplete] = incomplete.collect::<Vec<_>>().try_into().unwrap();
    assert!(
        incomplete["database"].as_str().unwrap().ends_with("tenant-7.db") && last["flushed"] == false,
        "{last}"
    );
}
