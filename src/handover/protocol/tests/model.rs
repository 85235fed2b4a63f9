//! Random schedules by seed: starts, stops, kills, freezes, lost and late replies; then the faults end, and
//! exactly one instance has to serve. `LITEVISOR_HANDOVER_SEEDS=20000 cargo test --lib handover::protocol --
//! --nocapture` lives more of them, `LITEVISOR_HANDOVER_SEED` one alone.

use super::bucket::Broken;
use super::machine::HEARTBEAT;
use super::world::{Happening, World};
use crate::handover::protocol::Phase;
use std::collections::BTreeMap;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn live(seed: u64, broken: Broken) -> World {
    let mut world = World::new(seed, broken);
    let chaos = world.random.between(60_000, 600_000);
    let first = world.deploy(false);
    world.start(first, None);
    world.run(4_000);
    world.faults = true;
    world.at(0, 0, Happening::Chaos);
    world.run(4_000 + chaos);
    world.check_history();
    // Such a standby takes over from every owner, so no deploy stays.
    if !broken.deaf_standby {
        calm(&mut world);
    }
    world
}

/// The faults end: a good deploy serves in the end, and after a bad one the good one serves again.
fn calm(world: &mut World) {
    world.tell("the faults end".into());
    (world.faults, world.restarts) = (false, false);
    for machine in &mut world.machines {
        machine.frozen_until = machine.frozen_until.min(world.now);
    }
    let bad: Vec<usize> =
        world.alive().into_iter().filter(|id| world.deploys[world.machines[*id].deploy].bad).collect();
    bad.into_iter().for_each(|id| world.terminate(id));
    // The longest freeze ends, too.
    world.run(world.now + 130_000);
    world.restarts = true;
    let good = world.deploy(false);
    world.start(good, None);
    world.run(world.now + 120_000);
    one_serves(world, good);
    let bad = world.deploy(true);
    let known = world.deploys[bad].revision.is_some();
    world.restarts = known;
    world.start(bad, None);
    world.run(world.now + 150_000);
    one_serves(world, good);
    if !world.has_failed(bad) {
        world.fail("the bad deploy has not failed");
    }
    if world.resumes_after(bad) > 1 && known {
        world.fail("more than one resume for a deploy");
    }
    world.check_history();
}

fn one_serves(world: &World, deploy: usize) {
    let serving: Vec<usize> = world.alive().into_iter().filter(|id| world.is_serving(*id)).collect();
    if serving.len() != 1 || world.machines[serving[0]].deploy != deploy {
        world.fail(&format!("serving: {serving:?}, expected is deploy {deploy}"));
    }
    if world.now - world.last_ack > 20_000 {
        world.fail("nothing is acknowledged any more");
    }
}

/// The first seed that breaks a rule, and the rule.
fn hunt(seeds: u64, broken: Broken, mut lived: impl FnMut(World)) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| match std::panic::catch_unwind(|| live(seed, broken)) {
        Ok(world) => {
            lived(world);
            None
        }
        Err(told) => {
            let text = told.downcast_ref::<String>().cloned().unwrap_or_default();
            Some((seed, text.lines().next().unwrap_or_default().to_owned()))
        }
    })
}

#[test]
fn one_writer_through_every_schedule() {
    if let Some(seed) = variable("LITEVISOR_HANDOVER_SEED") {
        let world = live(seed, Broken::default());
        eprintln!("{}", world.story.join("\n"));
        return;
    }
    let seeds = variable("LITEVISOR_HANDOVER_SEEDS").unwrap_or(400);
    let (mut steps, mut counts) = (0, BTreeMap::new());
    let failed = hunt(seeds, Broken::default(), |world| {
        steps += world.steps;
        for (what, count) in world.counts {
            *counts.entry(what).or_insert(0) += count;
        }
    });
    if let Some((seed, why)) = failed {
        panic!("{why}: LITEVISOR_HANDOVER_SEED={seed} lives it again");
    }
    eprintln!("{seeds} seeds, {steps} steps: {counts:?}");
    for what in HAPPENS {
        assert!(counts.contains_key(what), "no schedule had this: {what}");
    }
}

/// What the schedules have to contain: a model that never gets there proves nothing.
const HAPPENS: [&str; 19] = [
    "starts",
    "takeovers",
    "resumes",
    "fences",
    "withdrawn",
    "withdrawn behind a fence",
    "failed starts",
    "failed resumes",
    "cancelled",
    "fenced",
    "handed over",
    "held off",
    "judged",
    "superseded",
    "deletions",
    "standing by",
    "heartbeat stopped",
    "promoted",
    "let go",
];

#[test]
fn the_model_finds_a_broken_rule() {
    let none = Broken::default();
    for (name, broken, expected) in [
        ("a claim overwrites", Broken { claims_overwrite: true, ..none }, "instance"),
        ("a start before the release", Broken { start_before_release: true, ..none }, "without a fence"),
        ("a takeover without a fence", Broken { no_fence: true, ..none }, "two instances may write"),
        (
            "a release before the flush",
            Broken { release_before_flush: true, ..none },
            "two instances may write",
        ),
        ("two resume", Broken { resume_twice: true, ..none }, "resumes in the place"),
        (
            "a deaf standby that does not fence",
            Broken { deaf_standby: true, no_fence: true, ..none },
            "two instances may write",
        ),
        ("an owner deletes too much", Broken { deletes_too_much: true, ..none }, "which was deleted"),
    ] {
        match hunt(200, broken, |_| {}) {
            Some((seed, why)) => {
                eprintln!("{name}: seed {seed}: {why}");
                assert!(why.contains(expected), "{name}: {why}");
            }
            None => panic!("not found: {name}"),
        }
    }
}

/// Of the instances that start together, the last to claim serves, and the others stand by.
#[test]
fn of_many_that_start_at_once_one_serves() {
    for (seed, count) in [(1, 2), (2, 3), (3, 10), (4, 10)] {
        let mut world = World::new(seed, Broken::default());
        let deploy = world.deploy(false);
        for _ in 0..count {
            world.start(deploy, None);
        }
        world.run(120_000);
        one_serves(&world, deploy);
        assert_eq!(world.alive().len(), count);
        assert_eq!(world.bucket.claims.len(), count);
        world.check_history();
    }
}

/// Heartbeats decide when, never whether: a standby that misses all of them beside a living owner still
/// fences it.
#[test]
fn a_deaf_standby_breaks_nothing() {
    let broken = Broken { deaf_standby: true, ..Broken::default() };
    let mut stopped = 0;
    let failed = hunt(100, broken, |world| {
        stopped += world.counts.get("heartbeat stopped").copied().unwrap_or_default();
    });
    assert_eq!(failed, None);
    assert!(stopped > 100, "{stopped}");
}

/// The owner dies: within three heartbeats and the length of the requests one of the standbys serves, the
/// other stands by for it.
#[test]
fn one_of_two_standbys_takes_over() {
    for seed in 0..40 {
        let mut world = World::new(seed, Broken::default());
        let [first, second, third] = [0; 3].map(|_| {
            let deploy = world.deploy_standby(false);
            world.deploys[deploy].heartbeat = true;
            deploy
        });
        let owner = world.start(first, None);
        world.run(10_000);
        assert!(world.is_serving(owner), "there is no owner to stand by for");
        let standbys = [world.start(second, None), world.start(third, None)];
        world.run(100_000);
        assert!(world.is_serving(owner), "a standby does not disturb the owner");
        world.restarts = false;
        world.kill(owner, false);
        world.run(100_000 + 3 * HEARTBEAT.as_millis() as u64 + 5_000 + 2 * 2_000);
        let serving: Vec<usize> = world.alive().into_iter().filter(|id| world.is_serving(*id)).collect();
        assert_eq!((serving.len(), world.counts["fences"]), (1, 1), "seed {seed}");
        let other = standbys.into_iter().find(|id| *id != serving[0]).unwrap();
        world.run(150_000);
        assert!(matches!(world.machines[other].protocol.phase(), Phase::Standby(_)), "seed {seed}");
        // A clean stop is seen at the next look.
        world.terminate(serving[0]);
        world.run(world.now + 30_000);
        assert!(world.is_serving(other) && world.counts["fences"] == 1, "seed {seed}");
        world.check_history();
    }
}
