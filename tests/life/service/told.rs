//! The manager's view of a life: ready, status, stop, and which of its variables the app sees.

use super::*;
use crate::support::litevisor::As;

const SHOW_ENV: &str =
    "env | grep -e NOTIFY_ -e WATCHDOG_ -e LITEVISOR_ > $0.new; mv $0.new $0; exec sleep 60";

fn assert_in_order(told: &[String], expected: &[&str]) {
    let mut rest = told.iter();
    for part in expected {
        assert!(
            rest.any(|line| line.starts_with(part)),
            "{part} is missing, or not in its place:\n{}",
            told.join("\n")
        );
    }
}

#[test]
fn a_restore_a_start_and_a_stop() {
    for kind in [As::Process, As::Pid1] {
        let mut site = Site::in_directory();
        site.make_history(20);
        site.wipe();
        let manager = if kind == As::Pid1 { Manager::abstract_name(&site) } else { Manager::at_path(&site) };
        (site.kind, site.env) = (kind, manager.env(Some(Duration::from_secs(60))));
        let env = site.path("env");
        let mut run = site.run(&["sh", "-c", SHOW_ENV, env.to_str().unwrap()]);
        manager.wait_for("READY=1");
        manager.wait_for_status("running");
        wait_until("the app's environment", SOON, || env.exists());
        assert_eq!(std::fs::read_to_string(&env).unwrap(), "", "the manager is not the app's");
        assert!(!manager.has("STOPPING=1"));
        assert_eq!(run.stop().code, 143, "{}", run.log_text());
        let order = [
            "EXTEND_TIMEOUT_USEC=90000000",
            "STATUS=",
            "WATCHDOG=1",
            "READY=1",
            "STATUS=running",
            "STOPPING=1",
        ];
        wait_until("the last word", SOON, || manager.has("STATUS=ended"));
        assert_in_order(&manager.lines(), &order);
        for once in ["READY=1", "STOPPING=1"] {
            assert_eq!(manager.lines().iter().filter(|line| *line == once).count(), 1, "{once}");
        }
        let first = &manager.values("STATUS")[0];
        assert!(first.contains("restoring: "), "{first}");
        // The grace, and a little: systemd's own limit may be shorter.
        let times: Vec<u64> =
            manager.values("EXTEND_TIMEOUT_USEC").iter().map(|time| time.parse().unwrap()).collect();
        assert!((10_000_000..=15_000_000).contains(times.last().unwrap()), "{times:?}");
        assert!(!run.log_text().contains("does not take"), "{}", run.log_text());
    }
}

#[test]
fn an_app_that_ends_by_itself_and_a_start_that_fails() {
    let mut site = Site::in_directory();
    let manager = Manager::at_path(&site);
    site.env = manager.env(None);
    let mut run = site.run(&["sh", "-c", "kill -9 $$"]);
    assert_eq!(run.wait(SOON).code, 137, "{}", run.log_text());
    manager.wait_for("STATUS=ended");
    assert_in_order(&manager.lines(), &["READY=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=", "STATUS=ended"]);
    assert_eq!(manager.values("WATCHDOG"), [""; 0], "there is no watchdog");
    let manager = Manager::abstract_name(&site);
    site.env = manager.env(None);
    let mut run = site.run(&["/no/such/program"]);
    assert_eq!(run.wait(SOON).code, 127, "{}", run.log_text());
    manager.wait_for("STATUS=ended");
    assert!(!manager.has("READY=1"), "{:?}", manager.lines());
}

#[test]
fn a_sidecar_is_ready_once_it_replicates() {
    let site = Site::in_directory();
    site.make_history(5);
    let manager = Manager::at_path(&site);
    let mut run = Litevisor::replicate_with(
        As::Process,
        &site.config(),
        &[],
        &manager.env(Some(Duration::from_secs(2))),
    );
    manager.wait_for("READY=1");
    wait_until("a fed watchdog", SOON, || manager.values("WATCHDOG").len() >= 3);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    manager.wait_for("STATUS=ended");
    assert_in_order(&manager.lines(), &["READY=1", "STATUS=running", "STOPPING=1", "STATUS=ended"]);
}

/// It waits for hours, and a start must not.
#[test]
fn a_standby_is_ready_while_it_stands_by() {
    let mut owner = Site::in_directory();
    owner.settings = "[handover]\nenabled = true\n".into();
    let first = owner.run(&["sleep", "60"]);
    first.wait_for_log("the app", SOON, |line| line.contains("the app is started"));
    let mut standby = Site::in_directory();
    standby.replica = owner.replica.clone();
    standby.settings = "[handover]\nenabled = true\nstandby = true\n".into();
    let manager = Manager::at_path(&standby);
    standby.env = manager.env(None);
    let mut second = standby.run(&["sleep", "60"]);
    manager.wait_for("READY=1");
    manager.wait_for_status("standby of");
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    manager.wait_for("STOPPING=1");
}

/// A restore in place stops the app, not the service.
#[test]
fn a_restore_in_place_is_no_stop() {
    let mut site = Site::in_directory();
    site.make_history(20);
    let manager = Manager::at_path(&site);
    site.env = manager.env(None);
    let mut run = site.run(&["sleep", "60"]);
    manager.wait_for("READY=1");
    let db = site.db().to_str().unwrap().to_owned();
    let (code, said) = litevisor::ask(&site.config(), &["restore", &db, "--force"]);
    assert_eq!(code, 0, "{said}");
    wait_until("the app again", SOON, || run.log_text().matches("the app is started").count() == 2);
    assert!(!manager.has("STOPPING=1"), "{:?}", manager.lines());
    assert_eq!(run.stop().code, 143, "{}", run.log_text());
    manager.wait_for("STOPPING=1");
}

/// A socket that is away, and one of a kind that litevisor does not speak to: the app does not care.
#[test]
fn a_manager_that_cannot_be_told() {
    for (address, kept, complaint) in [
        ("/no/such/socket", "", "does not take a message"),
        ("vsock:2:9", "NOTIFY_SOCKET=vsock:2:9\n", "is told nothing"),
    ] {
        let mut site = Site::in_directory();
        site.env = vec![("NOTIFY_SOCKET".into(), address.into())];
        let env = site.path("env");
        let mut run = site.run(&["sh", "-c", SHOW_ENV, env.to_str().unwrap()]);
        wait_until("the app's environment", SOON, || env.exists());
        assert_eq!(std::fs::read_to_string(&env).unwrap(), kept);
        assert_eq!(run.stop().code, 143, "{}", run.log_text());
        assert_eq!(run.log_text().matches(complaint).count(), 1, "{}", run.log_text());
    }
}
