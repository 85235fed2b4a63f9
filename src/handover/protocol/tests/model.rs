//! Random schedules by seed: starts, stops, kills, freezes, lost and late replies; then the faults end, and exactly one instance has
//! to serve. `LITEVISOR_HANDOVER_SEEDS=20000 cargo test --lib handover::protocol -- --nocapture` lives more of them,
//! `LITEVISOR_HANDOVER_SEED` one alone.

use super::bucket::Broken;
use super::world::{Happening, World};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The number of steps of the protocol.
fn live(seed: u64, broken: Broken) -> u64 {
    let mut world = World::new(seed, broken);
    let chaos = world.random.between(60_000, 600_000);
    let first = world.deploy(false);
    world.start(first, None);
    world.run(4_000);
    world.faults = true;
    world.at(0, 0, Happening::Chaos);
    world.run(4_000 + chaos);
    world.check_history();
    calm(&mut world);
    world.steps
}

/// The faults end: a good deploy serves in the end, and after a bad one the good one serves again.
fn calm(world: &mut World) {
    world.tell("the faults end".into());
    (world.faults, world.restarts) = (false, false);
    for machine in &mut world.machines {
        machine.frozen_until = machine.frozen_until.min(world.now);
    }
    let bad: Vec<usize> = world.alive().into_iter().filter(|id| world.deploys[world.machines[*id].deploy].bad).collect();
    bad.into_iter().for_each(|id| world.terminate(id));
    world.run(world.now + 100_000);
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

#[test]
fn one_writer_through_every_schedule() {
    if let Some(seed) = variable("LITEVISOR_HANDOVER_SEED") {
        live(seed, Broken::default());
        return;
    }
    let seeds = variable("LITEVISOR_HANDOVER_SEEDS").unwrap_or(400);
    let mut steps = 0;
    for seed in 0..seeds {
        let lived = std::panic::catch_unwind(|| live(seed, Broken::default()));
        match lived {
            Ok(lived) => steps += lived,
            Err(_) => panic!("LITEVISOR_HANDOVER_SEED={seed} lives it again"),
        }
    }
    eprintln!("{seeds} seeds, {steps} steps");
}

/// Of the instances that start together, the last to claim serves, and the others stand by.
#[test]
fn of_many_that_start_at_once_one_serves() {
    for (seed, count) in [(1, 2), (2, 3), (3, 10), (4, 10)] {
        let mut world = World::new(seed, Broken::default());
        let deploy = world.deploy(false);
        (0..count).for_each(|_| drop(world.start(deploy, None)));
        world.run(120_000);
        one_serves(&world, deploy);
        assert_eq!(world.alive().len(), count);
        assert_eq!(world.bucket.claims.len(), count);
        world.check_history();
    }
}
