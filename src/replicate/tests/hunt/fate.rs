//! What goes wrong, by dice; and what a start must make of a disk.

use super::disk::{Replacing, State};
use super::machine::Machine;
use crate::model::Txid;
use crate::model::random::Random;
use crate::restore::Outcome;
use crate::store::StoreErrorKind;
use crate::store::faulty::{Call, Fault};

/// A step meets one of them, or none: a death at a named point, a death in a request, a store that does not
/// do it, or does it and does not say so.
pub fn plan_faults(machine: &mut Machine, random: &mut Random) {
    let nth = random.between(1, 3) as u32;
    match random.below(100) {
        0..60 => {}
        60..75 => machine.fate = Some(random.below(14) as u32),
        75..82 => machine.store.nth_of_all(nth, Fault::Kill { after: random.percent(50) }),
        82..88 => machine.store.nth(Call::PutNew, nth, Fault::LoseReply),
        88..92 => machine.store.nth(Call::PutNew, nth, Fault::Late),
        92..96 => machine.store.nth(Call::PutNew, nth, Fault::Fail(kind(random))),
        _ => machine.store.nth_of_all(nth, Fault::Fail(kind(random))),
    }
    if random.percent(5) {
        // An answer that is followed by one more stroke of bad luck.
        machine.store.nth(Call::Get, 1, Fault::Fail(kind(random)));
    }
}

fn kind(random: &mut Random) -> StoreErrorKind {
    random.pick(&[
        StoreErrorKind::Unreachable,
        StoreErrorKind::TimedOut,
        StoreErrorKind::Denied,
        StoreErrorKind::Invalid,
    ])
}

/// The same for a start. What may heal would be waited for, so only what does not is thrown in. True:
/// something is.
pub fn plan_for_prepare(machine: &mut Machine, random: &mut Random) -> bool {
    let nth = random.between(1, 6) as u32;
    match random.below(100) {
        0..75 => return false,
        75..92 => machine.store.nth_of_all(nth, Fault::Kill { after: random.percent(50) }),
        _ => machine.store.nth_of_all(nth, Fault::Fail(StoreErrorKind::Denied)),
    }
    true
}

/// The image ships a database of its own.
pub fn default_file(machine: &mut Machine) {
    let path = machine.disk.db.as_path();
    let link = rusqlite::Connection::open(path).unwrap();
    link.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO t VALUES (1, 'default')")
        .unwrap();
    drop(link);
    machine.disk.settle();
    machine.history.extend(machine.disk.state());
    machine.say("a default file is there");
}

/// Another, empty disk. False, for whoever wanted to start on the old one.
pub fn lose(machine: &mut Machine) -> bool {
    machine.kill_everything();
    machine.disk.lost();
    (machine.prepared, machine.hurt, machine.came_from, machine.position) = (false, false, Txid::NONE, 0);
    (machine.copy, machine.replaced) = (None, None);
    machine.history.clear();
    machine.say("the disk is lost");
    false
}

/// Between two lives another database, or an older copy, is put in the place of the database. A WAL is left
/// beside it only where the record can say what the file must hold.
pub fn replace(machine: &mut Machine, random: &mut Random) {
    if machine.replaced.is_some() || machine.disk.state().is_none() {
        return;
    }
    machine.kill_everything();
    let wal = machine.disk.recorded_wal().filter(|_| !machine.hurt);
    let renamed = random.percent(60);
    let wal_left = random.percent(50) && wal.is_some_and(|wal| renamed || wal.is_whole);
    let by = Replacing { renamed, wal_left };
    let copy = machine.copy.clone().filter(|_| random.percent(50));
    let what = if copy.is_some() { "an older copy" } else { "another database" };
    let bytes = copy.unwrap_or_else(|| another_database(random));
    machine.disk.replace(&bytes, by);
    machine.say(format_args!("{what} takes the place: {by:?}"));
    machine.replaced = Some(by);
}

/// Its pages look random: the checksum of a database is linear, and may not see that many pages change alike.
fn another_database(random: &mut Random) -> Vec<u8> {
    let mut link = rusqlite::Connection::open_in_memory().unwrap();
    let (page_size, bytes) = (random.pick(&[512, 1024, 4096]), random.between(1, 9000) as usize);
    link.execute_batch(&format!(
        "PRAGMA page_size={page_size}; CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"
    ))
    .unwrap();
    let content: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
    link.execute("INSERT INTO t(x) VALUES (?1)", [content]).unwrap();
    link.serialize("main").unwrap().to_vec()
}

/// What a start must make of a file that took the place of the database. What is kept becomes the replica's
/// next position: only a file that still holds what was recorded, or, as documented, a content that was
/// written over the recorded file without a WAL.
fn judge_replaced(machine: &mut Machine, outcome: &Outcome, by: Replacing, tip: Option<(Txid, State, char)>) {
    let now = machine.disk.state();
    match (outcome, tip) {
        (Outcome::KeptLocal { .. }, tip) => {
            let at = machine.history.iter().rposition(|had| Some(*had) == now);
            let promised = tip.is_none() || !by.renamed && !by.wal_left;
            assert!(promised || by.wal_left && at.is_some(), "{by:?} becomes the head silently");
            let Some(now) = now else { panic!("kept, and there is nothing") };
            if by.wal_left
                && let Some(at) = at
            {
                machine.history.truncate(at + 1);
            } else {
                // From now on it descends from what the replica holds.
                (machine.history, machine.position) =
                    (tip.map(|tip| tip.1).into_iter().chain([now]).collect(), 0);
            }
        }
        (Outcome::Restored { txid, .. }, Some((end, state, _))) => {
            assert_eq!((*txid, now), (end, Some(state)), "restored to the replica's end");
            (machine.history, machine.position, machine.came_from) = (vec![state], 0, end);
        }
        other => panic!("{other:?}"),
    }
    (machine.prepared, machine.hurt) = (true, false);
}

/// What was there, what the replica holds, and what the start made of it.
pub fn judge_start(
    machine: &mut Machine,
    outcome: &Outcome,
    local: Option<State>,
    tip: Option<(Txid, State, char)>,
) {
    if let Some(by) = machine.replaced.take() {
        return judge_replaced(machine, outcome, by, tip);
    }
    let now = machine.disk.state();
    let at = local.and_then(|local| machine.history.iter().rposition(|had| *had == local));
    assert!(local.is_none() || at.is_some(), "SQLite recovers to a state that was committed");
    let ours = tip.is_none_or(|(txid, _, by)| by == machine.name || txid == machine.came_from);
    let complete = at.is_some_and(|at| at >= machine.position);
    let must_keep = machine.prepared && !machine.hurt && ours && complete;
    match (outcome, tip) {
        (Outcome::StartedEmpty, None) => {
            assert_eq!((local, now), (None, None));
            machine.history.clear();
        }
        (Outcome::KeptLocal { .. }, tip) => {
            assert_eq!(local, now, "kept as it was");
            let Some(at) = at else { panic!("kept, and there is nothing") };
            machine.history.truncate(at + 1);
            let descends = tip.is_none_or(|(_, state, _)| machine.history.contains(&state));
            assert!(descends || machine.hurt, "kept, and it does not descend from {tip:?}");
        }
        (Outcome::Restored { txid, .. }, Some((end, state, _))) => {
            assert_eq!((*txid, now), (end, Some(state)), "restored to the replica's end");
            assert!(!must_keep, "what was committed here is thrown away");
            (machine.history, machine.position, machine.came_from) = (vec![state], 0, end);
        }
        other => panic!("{other:?}"),
    }
    (machine.prepared, machine.hurt) = (true, false);
}
