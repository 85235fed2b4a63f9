//! A standby leaves the owner alone, follows it, and takes over when it is gone; an operator's `promote` and
//! `handover`.

use super::*;
use crate::support::bank;
use crate::support::litevisor::ask;
use nix::sys::signal::{Signal, kill};

const RATE: [&str; 2] = ["--rate", "50"];
const BEATING: &str = "standby = true\nheartbeat = \"1s\"\ntrial = \"2s\"\nwait = \"2s\"\n";
const SILENT: &str = "standby = true\nwait = \"2s\"\ntrial = \"2s\"\n";

/// An owner that has served some transfers, and a standby of it.
fn pair(owner: Machine, keys: &str) -> (Machine, Litevisor, Machine, Litevisor) {
    let first = owner.run_bank(&RATE);
    owner.site.wait_for_acks(20);
    let standby = Machine::next(&owner, keys);
    let second = standby.run_bank(&RATE);
    standby.wait_until_standing_by(&second);
    (owner, first, standby, second)
}

impl Machine {
    fn wait_until_standing_by(&self, run: &Litevisor) {
        self.wait_until_unready("standby of");
        assert_eq!(self.site.acked(), 0, "a standby runs no app: {}", run.log_text());
    }

    /// The exit status of a command to the running litevisor, and what it says.
    fn ask(&self, words: &[&str]) -> (i32, String) {
        ask(&self.site.config(), words)
    }

    fn claims(&self) -> usize {
        let epoch = |name: &String| Some(name.rsplit_once("owner/")?.1.strip_suffix(".json")?.len());
        self.names().iter().filter(|name| epoch(name) == Some(16)).count()
    }
}

fn assert_all_is_there(machines: [&Machine; 2]) {
    let [first, last] = machines;
    let out = last.site.path("judged.db");
    crate::support::litestream::restore(&last.site.replica, &out).unwrap();
    for machine in machines.into_iter().filter(|machine| machine.site.acked() > 0) {
        bank::check(&out, &machine.site.ack(), None).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    assert!(first.site.acked() > 0);
}

/// The machine of the writer dies; two stand by. The gate has acknowledged what must be there.
#[test]
fn a_dead_owner_is_replaced_by_one_of_two_standbys() {
    let (owner, port) = super::load::machine_with(None, BEATING);
    let mut first = super::load::serve(&owner);
    owner.wait_until_ready(SOON);
    let acknowledged: Vec<String> = (0..30).map(|number| format!("before-{number}")).collect();
    acknowledged.iter().for_each(|id| assert!(super::load::ask(port, id).unwrap(), "{id}"));
    let standbys = [(); 2].map(|()| {
        let (machine, port) = super::load::machine_with(Some(&owner), BEATING);
        let run = super::load::serve(&machine);
        machine.wait_until_unready("standby of");
        (machine, port, run)
    });
    wait_until("a heartbeat that is seen", SOON, || {
        standbys[0].0.ready().is_some_and(|(_, text)| text.contains("the last heartbeat came"))
    });
    assert_eq!(owner.claims(), 1, "nobody has asked the owner: {:?}", owner.names());
    let (_, text) = standbys[0].0.ask(&["status"]);
    assert!(text.contains("hand-over: standby") && text.contains("one every 1 s"), "{text}");
    first.kill_everything();
    let serving = wait_for("one of the standbys to serve", SOON, || {
        standbys.iter().position(|(machine, ..)| machine.ready().is_some_and(|(status, _)| status == 200))
    });
    let [(machine, port, run), (other, _, other_run)] = match serving {
        0 => standbys,
        _ => {
            let [one, two] = standbys;
            [two, one]
        }
    };
    let log = run.log_text();
    assert!(log.contains("fencing"), "{log}");
    assert!(super::load::ask(port, "after").unwrap());
    other.wait_until_unready("epoch 0000000000000002");
    assert_eq!(owner.claims(), 2, "{:?}", owner.names());
    // A clean end: the other one takes over without a fence.
    let (mut run, mut other_run) = (run, other_run);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    other.wait_until_ready(SOON);
    assert!(!other_run.log_text().contains("fencing"), "{}", other_run.log_text());
    assert_eq!(other_run.stop().code, 0, "{}", other_run.log_text());
    let out = machine.site.path("judged.db");
    crate::support::litestream::restore(&machine.site.replica, &out).unwrap();
    let connection = bank::read_only(&out);
    let lost = |id: &&String| !super::load::is_there(&connection, id);
    assert_eq!(acknowledged.iter().filter(lost).count(), 0);
    assert!(super::load::is_there(&connection, "after"));
}

/// It thaws later, is fenced and ends; started again, it stands by.
fn frozen(owner: Machine) {
    let (old, mut first, new, mut second) = pair(owner, BEATING);
    let all = [first.bank(), first.pid()];
    all.iter().for_each(|process| kill(*process, Signal::SIGSTOP).unwrap());
    new.site.wait_for_acks(20);
    all.iter().for_each(|process| kill(*process, Signal::SIGCONT).unwrap());
    assert_exit(&mut first, 75, "the owner that was frozen");
    let mut again = old.run_bank(&RATE);
    old.wait_until_unready("standby of");
    assert_eq!(again.stop().code, 0, "{}", again.log_text());
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    new.site.assert_replica_holds_everything("after the takeover");
}

#[test]
fn a_frozen_owner_is_fenced_and_stands_by_later() {
    frozen(Machine::first(BEATING));
}

#[cfg(feature = "s3")]
#[test]
fn a_frozen_owner_is_fenced_through_s3() {
    frozen(Machine::on(Site::in_s3("standby-frozen"), BEATING));
}

/// There and back by an operator. The owner writes no heartbeats, which its standby says.
#[test]
fn an_operator_promotes_and_hands_over() {
    let (old, mut first, new, mut second) = pair(Machine::first(SILENT), SILENT);
    new.wait_until_unready("writes no heartbeats");
    let (code, text) = old.ask(&["promote"]);
    assert_eq!((code, text.contains("owns the replica already")), (64, true), "{text}");
    let (code, text) = new.ask(&["handover"]);
    assert_eq!((code, text.contains("does not own the replica")), (64, true), "{text}");
    let (code, text) = new.ask(&["promote"]);
    assert_eq!(code, 0, "{text}\n{}", second.log_text());
    new.site.wait_for_acks(20);
    assert!(!second.log_text().contains("fencing"), "{}", second.log_text());
    bank::check(&new.site.db(), &old.site.ack(), None).unwrap();
    // Its predecessor is its standby when the trial is over.
    old.wait_until_unready("standby of");
    let acked = old.site.acked();
    let (code, text) = new.ask(&["handover"]);
    assert_eq!(code, 0, "{text}\n{}", second.log_text());
    old.site.wait_for_acks(acked + 20);
    // By force, while the owner is frozen.
    new.wait_until_unready("standby of");
    let acked = new.site.acked();
    let all = [first.bank(), first.pid()];
    all.iter().for_each(|process| kill(*process, Signal::SIGSTOP).unwrap());
    let (code, text) = new.ask(&["promote", "--force"]);
    assert_eq!(code, 0, "{text}\n{}", second.log_text());
    new.site.wait_for_acks(acked + 20);
    all.iter().for_each(|process| kill(*process, Signal::SIGCONT).unwrap());
    assert_exit(&mut first, 75, "the owner that was frozen");
    let mut first = old.run_bank(&RATE);
    old.wait_until_unready("standby of");
    let acked = old.site.acked();
    assert_eq!(second.stop().code, 0, "{}", second.log_text());
    old.site.wait_for_acks(acked + 20);
    assert_eq!(first.stop().code, 0, "{}", first.log_text());
    assert_all_is_there([&new, &new]);
}

/// No instance comes: after the trial it serves again. Without the hand-over there is nothing to ask for.
#[test]
fn an_owner_that_let_go_takes_the_replica_back() {
    let alone = Machine::first("wait = \"1s\"\ntrial = \"1s\"\n");
    let mut run = alone.run_bank(&RATE);
    alone.site.wait_for_acks(20);
    let (code, text) = alone.ask(&["handover"]);
    assert_eq!((code, text.contains("is released")), (0, true), "{text}\n{}", run.log_text());
    let acked = alone.site.acked();
    alone.site.wait_for_acks(acked + 20);
    assert_eq!(alone.claims(), 2);
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
    alone.site.assert_replica_holds_everything("after it came back");
    let mut off = Machine::next(&alone, "");
    off.site.settings = off.site.settings.replace("enabled = true", "enabled = false");
    let mut run = off.run_bank(&RATE);
    off.site.wait_for_acks(5);
    for word in ["promote", "handover"] {
        let (code, text) = off.ask(&[word]);
        assert_eq!((code, text.contains("the hand-over is off here")), (78, true), "{word}: {text}");
    }
    assert_eq!(run.stop().code, 0, "{}", run.log_text());
}
