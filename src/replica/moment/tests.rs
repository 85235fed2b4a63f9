//! The moment against a plain search with all times known, and with listings that lie.

use super::*;
use crate::model::TxidRange;
use crate::replica::{Target, plan};
use crate::store::layout::Layout;
use proptest::prelude::*;

fn file(level: u8, min: u64, max: u64, listed: i64) -> RemoteFile {
    let (level, range) = (Level(level), TxidRange::new(Txid(min), Txid(max)).unwrap());
    RemoteFile { key: Layout::Directory.key(level, range), level, range, size: 200, modified_ms: listed }
}

/// Answers every question from the true times; what was found, and how many headers and rounds it took.
fn ask(files: &[RemoteFile], limit: i64, truth: &Times) -> (Result<Dated, PlanError>, usize, usize) {
    let (mut times, mut rounds) = (Times::new(), 0);
    loop {
        match plan_at(files, Moment(limit), &times) {
            Ok(Answer::Found(dated)) => return (Ok(dated), times.len(), rounds),
            Err(error) => return (Err(error), times.len(), rounds),
            Ok(Answer::Ask(more)) => {
                assert!(!more.is_empty());
                for file in more {
                    assert!(times.insert(file.key.clone(), truth[&file.key]).is_none(), "asked twice");
                }
            }
        }
        rounds += 1;
    }
}

fn truth(files: &[RemoteFile]) -> Times {
    files.iter().map(|file| (file.key.clone(), file.modified_ms)).collect()
}

#[test]
fn every_kind_of_moment() {
    // Snapshots of 1, 6 and 9; 2 to 5 merged, 6 merged with 7; raw from 6 on.
    let files = [
        file(9, 1, 1, 100),
        file(1, 2, 5, 500),
        file(9, 1, 6, 650),
        file(1, 6, 7, 700),
        file(0, 6, 6, 600),
        file(0, 7, 7, 700),
        file(0, 8, 8, 800),
        file(9, 1, 9, 950),
    ];
    for (limit, position, time, coarse) in [
        (100, 1, 100, Some((2, 5))),
        (499, 1, 100, Some((2, 5))),
        (500, 5, 500, None),
        (599, 5, 500, None),
        // The snapshot of 6 was written at 650: its position is as old as the raw file.
        (600, 6, 600, None),
        (699, 6, 600, None),
        (700, 7, 700, None),
        (800, 8, 800, Some((1, 9))),
        (949, 8, 800, Some((1, 9))),
        (950, 9, 950, None),
        (i64::MAX, 9, 950, None),
    ] {
        let dated = ask(&files, limit, &truth(&files)).0.unwrap();
        let found = dated.coarse.map(|file| (file.range.min.0, file.range.max.0));
        assert_eq!((dated.plan.end.0, dated.time.0, found), (position, time, coarse), "{limit}");
        assert_eq!(plan(&files, Target::Time(Moment(limit))).unwrap(), dated.plan);
    }
    let early = ask(&files, 99, &truth(&files)).0;
    assert_eq!(early, Err(PlanError::BeforeFirst { first: Moment(100) }));
    assert!(matches!(ask(&files[1..2], 999, &truth(&files)).0, Err(PlanError::NoStart { .. })));
}

#[test]
fn a_gap_hides_nothing_that_was_asked_for() {
    let files = [file(9, 1, 4, 400), file(0, 5, 5, 500), file(0, 7, 7, 700)];
    let end =
        |limit| ask(&files, limit, &truth(&files)).0.map(|dated| (dated.plan.end.0, dated.coarse.is_some()));
    assert_eq!(end(499), Ok((4, false)));
    assert_eq!(end(600), Ok((5, true)), "6 may have been committed by then");
    assert!(matches!(end(700), Err(PlanError::Gap { end: Txid(5), .. })));
}

#[test]
fn a_copied_replica_is_not_read_file_by_file() {
    let files: Vec<RemoteFile> =
        std::iter::once(file(9, 1, 1, 0)).chain((2..=5000).map(|txid| file(0, txid, txid, 0))).collect();
    for listed in [0, i64::MAX - 1] {
        let copied: Vec<RemoteFile> =
            files.iter().cloned().map(|file| RemoteFile { modified_ms: listed, ..file }).collect();
        let truth: Times =
            files.iter().map(|file| (file.key.clone(), file.range.max.0 as i64 * 10)).collect();
        for limit in [10, 25, 25_000, 49_999, 50_000] {
            let (found, headers, rounds) = ask(&copied, limit, &truth);
            assert_eq!(found.unwrap().plan.end.0 as i64, limit / 10);
            assert!(headers <= 100 && rounds <= 8, "{headers} headers in {rounds} rounds for {limit}");
        }
    }
    // A listing that is right costs two.
    let right: Vec<RemoteFile> = files
        .iter()
        .cloned()
        .map(|file| RemoteFile { modified_ms: file.range.max.0 as i64 * 10, ..file })
        .collect();
    let (found, headers, rounds) = ask(&right, 25_005, &self::truth(&right));
    assert_eq!((found.unwrap().plan.end, headers, rounds), (Txid(2500), 2, 1));
}

/// Cuts of 1..n into files on two levels, snapshots, all kept or not: every file with its true time.
fn replica() -> impl Strategy<Value = Vec<(RemoteFile, i64)>> {
    let steps = proptest::collection::vec(1i64..50, 2..24);
    let picks =
        proptest::collection::vec((any::<bool>(), 1u64..6, any::<bool>(), 0i64..40, -200i64..200), 24);
    (steps, picks).prop_map(|(steps, picks)| {
        let mut now = 1000;
        let times: Vec<i64> = steps
            .iter()
            .map(|step| {
                now += step;
                now
            })
            .collect();
        let at = |position: u64| times[position as usize - 1];
        let last = times.len() as u64;
        let mut files = vec![(file(9, 1, 1, 0), at(1))];
        let mut merged_to = 1;
        for position in 2..=last {
            let (raw, width, snapshot, late, _) = picks[position as usize - 1];
            let merge = position - merged_to >= width;
            if raw || !merge && position == last {
                files.push((file(0, position, position, 0), at(position)));
            }
            if merge {
                files.push((file(1, merged_to + 1, position, 0), at(position)));
                merged_to = position;
            }
            if snapshot && position < last {
                files.push((file(9, 1, position, 0), (at(position) + late).min(at(position + 1))));
            }
        }
        let count = files.len();
        for (index, (file, time)) in files.iter_mut().enumerate().take(count) {
            file.modified_ms = *time + picks[index % 24].4;
        }
        files
    })
}

proptest! {
    /// The newest position that any chain of files reaches, of those that were there at the limit; whatever
    /// the listing says about times.
    #[test]
    fn the_newest_reachable_position_and_never_anything_newer(files in replica(), limit in 980i64..2300) {
        let truth: Times = files.iter().map(|(file, time)| (file.key.clone(), *time)).collect();
        let files: Vec<RemoteFile> = files.into_iter().map(|(file, _)| file).collect();
        let time = |position: Txid| files.iter().filter(|file| file.range.max == position).map(|file| truth[&file.key]).min().unwrap();
        let mut reached: Vec<Txid> = Vec::new();
        let mut positions: Vec<Txid> = files.iter().map(|file| file.range.max).collect();
        positions.sort();
        positions.dedup();
        for position in positions.into_iter().filter(|position| time(*position) <= limit) {
            let from = |file: &RemoteFile| file.range.min == Txid(1) || reached.iter().any(|end| file.range.min <= end.next());
            if files.iter().any(|file| file.range.max == position && from(file)) {
                reached.push(position);
            }
        }
        match (ask(&files, limit, &truth).0, reached.last()) {
            (Ok(dated), Some(newest)) => {
                prop_assert_eq!(dated.plan.end, *newest);
                prop_assert_eq!(dated.time.0, time(*newest));
                prop_assert!(dated.plan.files.iter().all(|file| time(file.range.max) <= limit));
            }
            (Err(PlanError::BeforeFirst { first }), None) => prop_assert!(first.0 > limit),
            (Err(PlanError::Gap { .. }), _) => {
                // Only where a file was there that no chain reaches.
                let end = reached.last().copied().unwrap_or_default();
                prop_assert!(files.iter().any(|file| file.range.min > end.next() && time(file.range.max) <= limit));
            }
            (found, newest) => prop_assert!(false, "{found:?} {newest:?}"),
        }
    }
}
