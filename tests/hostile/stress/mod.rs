//! A long, bad life: random stops, kills, disks that go away or come back older, stores that fail, Litestream
//! in between. After every step the replica is one unbroken history, both tools restore the same database
//! from it, and everything is there that a promise covers. The seed is printed; LITEVISOR_STRESS_SEED and
//! LITEVISOR_STRESS_ROUNDS choose another life or several (`LITEVISOR_STRESS_SEED=$RANDOM
//! LITEVISOR_STRESS_ROUNDS=20`).

mod audit;
mod disk;
mod life;
mod random;
use life::Life;
use random::Random;

const STEPS: usize = 10;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn rounds(in_s3: bool) {
    // The same life every time, unless another one is asked for.
    let first = number("LITEVISOR_STRESS_SEED", 1);
    for seed in first..first + number("LITEVISOR_STRESS_ROUNDS", 1) {
        println!("round with LITEVISOR_STRESS_SEED={seed}");
        let mut random = Random::new(seed);
        let mut life = Life::new(in_s3, seed);
        for step in 0..STEPS {
            life.step(step, &mut random);
        }
        life.last_step();
    }
}

#[test]
fn a_bad_life_with_a_directory() {
    rounds(false);
}

#[test]
fn a_bad_life_with_s3() {
    rounds(true);
}
