//! Rounds of kill -9 with a store that lies now and then: what `sync` or the exit status called complete is
//! there, for Litestream as for us. A few rounds here; `LITEVISOR_LYING_ROUNDS=110` for the long one,
//! `LITEVISOR_LYING_SEED` to live one again.

use crate::support::gate::{Gate, Mood};
use crate::support::lies::{Lie, Op};
use crate::support::litevisor::Litevisor;
use crate::support::seaweed::Seaweed;
use crate::support::site::Site;
use crate::support::{SOON, now_ms, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;

/// A small generator: the same rounds for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const ABOUT: [Op; 9] =
    [Op::Put, Op::Get, Op::Range, Op::Head, Op::List, Op::Delete, Op::Begin, Op::Part, Op::Finish];
const LIES: [Lie; 11] = [
    Lie::Untagged,
    Lie::Html,
    Lie::Empty,
    Lie::LongLength,
    Lie::SamePage,
    Lie::LostToken,
    Lie::RetryAfter(1),
    Lie::LateSuccess,
    Lie::WrongRange,
    Lie::Refused,
    Lie::Half,
];

/// A lie makes sense about some things only.
fn fits(lie: Lie, op: Op) -> bool {
    match lie {
        Lie::WrongRange | Lie::Refused => op == Op::Range,
        Lie::SamePage | Lie::LostToken => op == Op::List,
        Lie::Half => matches!(op, Op::Get | Op::Range),
        Lie::LongLength => op != Op::Head,
        _ => true,
    }
}

fn lie_a_little(gate: &Gate, dice: &mut Dice) {
    for _ in 0..3 {
        let (lie, op) = (dice.one(&LIES), dice.one(&ABOUT));
        if fits(lie, op) {
            gate.lie(lie, &[op], 1 + dice.below(2));
        }
    }
    if dice.below(3) == 0 {
        gate.blacken();
    }
}

/// `litevisor sync`: true when it said that everything committed so far is in the replica.
fn sync(site: &Site) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.args(["sync", "--timeout", "20s", "--config"]).arg(site.config());
    command.output().unwrap().status.success()
}

/// Starts it; under lies a start may need another try, but never begins with less than there was.
fn start(site: &Site, acked: usize) -> Litevisor {
    let mut run = site.run_bank(&["--rate", "100"]);
    wait_until("the app", SOON * 3, || site.acked() > acked + 3 || !run.is_running());
    assert!(run.is_running(), "it did not start:\n{}", run.log_text());
    run
}

fn round(site: &Site, gate: &Gate, dice: &mut Dice, known: &mut Option<u64>) {
    if dice.below(2) == 0 {
        lie_a_little(gate, dice);
    }
    if dice.below(2) == 0 {
        site.wipe();
        // What was not called complete may be gone with the disk: it is not asked for any more.
        let kept = known.unwrap_or(0);
        let text = std::fs::read_to_string(site.ack()).unwrap_or_default();
        let before = |line: &&str| {
            line.split_once(' ').is_some_and(|(_, at)| at.parse::<u64>().is_ok_and(|at| at <= kept))
        };
        let text: String = text.lines().filter(before).map(|line| format!("{line}\n")).collect();
        std::fs::write(site.ack(), text).unwrap();
    }
    let mut run = start(site, site.acked());
    for _ in 0..1 + dice.below(3) {
        lie_a_little(gate, dice);
        let more = site.acked() + 20;
        site.wait_for_acks(more);
        let now = now_ms();
        if dice.below(2) == 0 && sync(site) {
            *known = Some(now);
        }
    }
    if dice.below(3) == 0 {
        run.signal(Signal::SIGTERM);
        let ended = run.wait(SOON * 2);
        if ended.code != 74 {
            *known = Some(now_ms());
        }
    } else {
        run.kill_everything();
    }
    gate.honest();
    // Before that nothing may be there at all.
    let Some(known) = *known else { return };
    let judged = site.judge_replica(Some(known));
    judged
        .unwrap_or_else(|wrong| panic!("what was called complete is not there: {wrong}\n{}", run.log_text()));
}

#[test]
fn what_was_called_complete_survives_kills_and_lies() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("LITEVISOR_LYING_ROUNDS").unwrap_or(4);
    let seed = number("LITEVISOR_LYING_SEED").unwrap_or(7);
    let mut site = Site::in_s3("lying-kills");
    let socket = site.path("litevisor.sock");
    site.settings = format!("[shutdown]\ngrace = \"10s\"\n[status]\nsocket = {socket:?}\n");
    let gate = Gate::before(&Seaweed::shared().endpoint(), Mood::Telling);
    site.replica = site.replica.at(&gate.endpoint());
    let (mut dice, mut known) = (Dice(seed), None);
    for number in 0..rounds {
        eprintln!("round {number} of seed {seed}");
        round(&site, &gate, &mut dice, &mut known);
    }
}
