//! A restore that is stopped: at once, with the previous file in place, and the app never started.

use crate::support::disk::HeldSync;
use crate::support::gate::{Gate, Mood};
use crate::support::process::Process;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, bank, wait_until};
use nix::sys::signal::{Signal, kill};
use std::process::Command;
use std::time::{Duration, Instant};

/// "Within a second", and what a busy machine adds to it.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// History in a bucket, a default file on the disk, and the gate between them.
fn gated(bucket: &str) -> (Site, Gate, Vec<u8>) {
    let mut site = Site::in_s3(bucket);
    (0..4).for_each(|_| site.make_history(50));
    site.wipe();
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Open);
    site.replica = site.replica.at(&gate.endpoint());
    bank::seed(&site.db());
    let before = std::fs::read(site.db()).unwrap();
    (site, gate, before)
}

fn assert_untouched(site: &Site, before: &[u8], when: &str) {
    assert!(!site.path("started").exists(), "{when} the app was started");
    assert!(std::fs::read(site.db()).unwrap() == before, "{when} the file was changed");
    assert!(
        !site.files_on_disk().iter().any(|name| name.contains(".litevisor-")),
        "{when}: {:?}",
        site.files_on_disk()
    );
}

/// Whenever the signal comes, the default file stays as it was.
#[test]
fn at_any_request() {
    let (site, gate, before) = gated("stopped-on-the-way");
    gate.set(Mood::Slow(Duration::from_millis(300)));
    for requests in 1..=4 {
        let seen = gate.requests();
        let mut run = site.run(&["touch", site.path("started").to_str().unwrap()]);
        wait_until("the store to be asked", SOON, || gate.requests() >= seen + requests);
        let sent = run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        let took = ended.at - sent;
        assert_eq!(ended.code, 143, "after {requests} requests:\n{}", run.log_text());
        assert!(took < AT_ONCE, "after {requests} requests it took {took:?}:\n{}", run.log_text());
        assert_untouched(&site, &before, &format!("after {requests} requests"));
    }
}

/// No answer ever comes to the first question; or bytes come, and do not end.
#[test]
fn before_any_answer_and_in_the_middle_of_one() {
    let (site, gate, before) = gated("stopped-in-answers");
    for mood in [Mood::Silent, Mood::Dripping(400)] {
        gate.set(mood);
        let seen = gate.requests();
        let mut run = site.run(&["touch", site.path("started").to_str().unwrap()]);
        wait_until("the store to be asked", SOON, || gate.requests() > seen);
        let sent = run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 143, "{mood:?}:\n{}", run.log_text());
        assert!(ended.at - sent < AT_ONCE, "{mood:?}: {:?}:\n{}", ended.at - sent, run.log_text());
        assert_untouched(&site, &before, &format!("{mood:?}:"));
    }
}

/// Each sync of a restore hangs once: that of the verification, and those between the steps of the
/// installation. Stopped there, it ends at once; the next start, which cannot reach the store, finds the one
/// file or the other, whole.
#[test]
fn at_any_sync() {
    let (site, gate, before) = gated("stopped-at-syncs");
    let held = HeldSync::built_in(&site.path(""));
    let truth = {
        let out = site.path("truth.db");
        let done = crate::support::litevisor::restore(&site.config(), &site.db(), &out);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(out).unwrap()
    };
    let (mut previous, mut restored) = (0, 0);
    for nth in 1.. {
        std::fs::write(site.db(), &before).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        command.args(["run", "--config"]).arg(site.config()).args(["--", "touch"]).arg(site.path("started"));
        held.at(&mut command, nth);
        let mut run = Process::start(command);
        wait_until("the held sync or the app", SOON, || held.reached() || site.path("started").exists());
        if !held.reached() || site.path("started").exists() {
            break;
        }
        let sent = Instant::now();
        kill(run.pid(), Signal::SIGTERM).unwrap();
        let ended = run.wait(SOON);
        assert_eq!(ended.code, 143, "sync {nth}:\n{}", run.log_text());
        assert!(ended.at - sent < AT_ONCE, "sync {nth}: {:?}:\n{}", ended.at - sent, run.log_text());
        assert!(!site.path("started").exists(), "sync {nth}");

        gate.set(Mood::Refusing);
        let impatient = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.path("supervisor.toml"), format!("[restore]\ntimeout = \"1s\"\n{impatient}"))
            .unwrap();
        let mut next = crate::support::litevisor::Litevisor::run(
            site.kind,
            &["--config".into(), site.path("supervisor.toml").into(), "--".into(), "true".into()],
        );
        assert_eq!(next.wait(SOON).code, 69, "sync {nth}:\n{}", next.log_text());
        gate.set(Mood::Open);
        let found = std::fs::read(site.db()).unwrap();
        previous += u32::from(found == before);
        restored += u32::from(found == truth);
        assert!(found == before || found == truth, "sync {nth}: neither the one nor the other");
        assert!(
            !site.files_on_disk().iter().any(|name| name.contains(".litevisor-")),
            "{nth}: {:?}",
            site.files_on_disk()
        );
        site.wipe();
    }
    assert!(previous >= 2 && restored >= 1, "{previous} {restored}: the test does not test what it says");
}
