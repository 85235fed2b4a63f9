//! The install rule as a model: every combination of files, a kill after every step, also while recovering.

use super::*;
use std::collections::HashSet;

/// What a file holds: which database it is, or belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Old,
    New,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    live: Option<Of>,
    sides: [Option<Of>; 3],
    aside: Option<Of>,
    aside_sides: [Option<Of>; 3],
    staged: bool,
}

impl World {
    fn observe(&self) -> Observed {
        Observed {
            live: self.live.is_some(),
            sides: self.sides.map(|side| side.is_some()),
            aside: self.aside.is_some(),
            aside_sides: self.aside_sides.map(|side| side.is_some()),
            staged: self.staged,
        }
    }

    /// Performs a step as the file system would; a rename onto an existing file would destroy it.
    fn act(&self, step: Step) -> World {
        let mut world = *self;
        let move_to = |from: &mut Option<Of>, to: &mut Option<Of>| {
            assert!(from.is_some() && to.is_none(), "{step:?} in {self:?}");
            *to = from.take();
        };
        match step {
            Step::Done | Step::Refuse(_) => panic!("{step:?} is no act"),
            Step::SetSideAside(Side(n)) => move_to(&mut world.sides[n], &mut world.aside_sides[n]),
            Step::ReturnSide(Side(n)) => move_to(&mut world.aside_sides[n], &mut world.sides[n]),
            Step::SetDatabaseAside => move_to(&mut world.live, &mut world.aside),
            Step::ReturnDatabase => move_to(&mut world.aside, &mut world.live),
            Step::Promote => {
                assert!(world.staged && world.live.is_none());
                (world.staged, world.live) = (false, Some(Of::New));
            }
            Step::DropStaged => assert!(std::mem::take(&mut world.staged)),
            Step::DropSide(Side(n)) => assert!(world.sides[n].take().is_some()),
            Step::DropAsideSide(Side(n)) => assert!(world.aside_sides[n].take().is_some()),
            Step::DropAside => assert!(world.aside.take().is_some()),
        }
        world
    }

    /// What must hold whenever anybody could look: every side file beside a live database is that database's
    /// own, and an old database that was there is still somewhere, with the side files it had, until the new
    /// one is live.
    fn check(&self, start: &World) {
        if let Some(live) = self.live {
            for side in self.sides.iter().flatten() {
                assert_eq!(*side, live, "a foreign side file: {self:?} from {start:?}");
            }
        }
        if start.live == Some(Of::Old) && self.live != Some(Of::New) {
            assert!(
                self.live == Some(Of::Old) || self.aside == Some(Of::Old),
                "old lost: {self:?} from {start:?}"
            );
            for n in 0..3 {
                let kept = self.sides[n].is_some() || self.aside_sides[n].is_some();
                assert_eq!(kept, start.sides[n].is_some(), "old side {n} lost: {self:?} from {start:?}");
            }
        }
    }
}

fn bits(n: usize, of: Of) -> [Option<Of>; 3] {
    [0, 1, 2].map(|bit| (n >> bit & 1 == 1).then_some(of))
}

/// What an installation can find: an old database or none, any side files, no leftovers.
fn starts() -> impl Iterator<Item = World> {
    [None, Some(Of::Old)].into_iter().flat_map(|live| {
        (0..8).map(move |sides| World { live, sides: bits(sides, Of::Old), staged: true, ..World::default() })
    })
}

/// Runs to the end in one mode, and from every state on the way also kills and recovers; recovering is itself
/// killed at every step because each state it reaches is recovered from anew.
fn run(start: &World, mut world: World, forward: bool, seen: &mut HashSet<(World, bool)>) -> World {
    for _ in 0..20 {
        world.check(start);
        if forward {
            let end = run(start, world, false, seen);
            let promoted = world.live == Some(Of::New);
            assert_eq!(end.live, if promoted { Some(Of::New) } else { start.live }, "killed at {world:?}");
            if !promoted && start.live.is_some() {
                assert_eq!(end, World { staged: false, ..*start }, "killed at {world:?}");
            }
            assert!(!end.staged && end.aside.is_none() && end.aside_sides == [None; 3]);
        }
        seen.insert((world, forward));
        match next(world.observe(), forward) {
            Step::Done => return world,
            Step::Refuse(why) => panic!("refused {why:?}: {world:?} from {start:?}"),
            step => world = world.act(step),
        }
    }
    panic!("no end from {start:?}");
}

#[test]
fn every_installation_survives_a_kill_after_every_step() {
    let mut seen = HashSet::new();
    for start in starts() {
        let end = run(&start, start, true, &mut seen);
        assert_eq!(end, World { live: Some(Of::New), ..World::default() }, "from {start:?}");
        let back = run(&start, start, false, &mut seen);
        assert_eq!(back.live, start.live);
    }
    assert!(seen.len() > 60, "{}", seen.len());
}

/// Every state that a recovery passes may also be continued forward (a restore that begins anew after a kill
/// in the middle of a recovery is preceded by a recovery; this says that even without it nothing is lost).
#[test]
fn forward_from_any_state_on_the_way_loses_nothing() {
    let mut seen = HashSet::new();
    for start in starts() {
        run(&start, start, true, &mut seen);
    }
    for (mut world, _) in seen.into_iter().filter(|(world, _)| world.staged) {
        for _ in 0..20 {
            match next(world.observe(), true) {
                Step::Done => break,
                Step::Refuse(why) => panic!("{why:?}: {world:?}"),
                step => world = world.act(step),
            }
        }
        assert_eq!(world, World { live: Some(Of::New), ..World::default() });
    }
}

/// All 512 combinations, also those that only another program could make: there is always an end, no rename
/// overwrites anything, and no database file is unlinked while it is the only one.
#[test]
fn every_combination_comes_to_an_end_or_is_refused() {
    for n in 0..1024 {
        let bit = |at: usize| n >> at & 1 == 1;
        let (live, aside, staged, forward) = (bit(6), bit(7), bit(8), bit(9));
        let (sides, aside_sides) = (n % 8, n / 8 % 8);
        let mut world = World {
            live: live.then_some(Of::Old),
            sides: bits(sides, Of::Old),
            aside: aside.then_some(Of::Old),
            aside_sides: bits(aside_sides, Of::Old),
            staged,
        };
        let start = world;
        let mut ended = false;
        for _ in 0..20 {
            match next(world.observe(), forward) {
                Step::Done | Step::Refuse(_) => {
                    ended = true;
                    break;
                }
                step => world = world.act(step),
            }
            if start.live.is_some() || start.aside.is_some() {
                assert!(world.live.is_some() || world.aside.is_some(), "{start:?}");
            }
        }
        assert!(ended, "{start:?}");
    }
}

#[test]
fn the_table_row_by_row() {
    let yes = [true, false, false];
    let none = Observed::default();
    let row = |live, sides: bool, aside, aside_sides: bool, staged| Observed {
        live,
        sides: if sides { yes } else { [false; 3] },
        aside,
        aside_sides: if aside_sides { yes } else { [false; 3] },
        staged,
    };
    let wal = Side(0);
    use Contradiction::*;
    for (observed, forward, back) in [
        (none, Step::Refuse(StagedGone), Step::Done),
        (row(false, true, false, false, false), Step::Refuse(StagedGone), Step::DropSide(wal)),
        (row(true, true, false, false, false), Step::Done, Step::Done),
        (row(true, true, false, false, true), Step::SetSideAside(wal), Step::DropStaged),
        (row(true, false, false, false, true), Step::SetDatabaseAside, Step::DropStaged),
        (row(true, false, false, true, true), Step::SetDatabaseAside, Step::ReturnSide(wal)),
        (row(true, true, false, true, true), Step::Refuse(SideTwice(wal)), Step::Refuse(SideTwice(wal))),
        (row(false, false, true, true, true), Step::Promote, Step::ReturnSide(wal)),
        (row(false, false, true, false, true), Step::Promote, Step::ReturnDatabase),
        (row(false, true, true, false, true), Step::ReturnDatabase, Step::ReturnDatabase),
        (row(false, false, false, false, true), Step::Promote, Step::DropStaged),
        (row(false, true, false, false, true), Step::DropSide(wal), Step::DropStaged),
        (row(true, false, true, true, false), Step::DropAsideSide(wal), Step::DropAsideSide(wal)),
        (row(true, false, true, false, false), Step::DropAside, Step::DropAside),
        (row(true, false, false, false, false), Step::Done, Step::Done),
        (row(true, false, true, false, true), Step::Refuse(ThreeDatabases), Step::Refuse(ThreeDatabases)),
        (row(true, false, false, true, false), Step::Refuse(StraySide(wal)), Step::Refuse(StraySide(wal))),
    ] {
        assert_eq!(next(observed, true), forward, "forward: {observed:?}");
        assert_eq!(next(observed, false), back, "back: {observed:?}");
    }
}
