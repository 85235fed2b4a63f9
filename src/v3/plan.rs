//! Which files of a Litestream 0.3 replica lead to a moment: pure. The generation that was written last, its
//! newest snapshot, and the WAL from there on. Times are the store's, as the format has no others.

use super::name::{Generation, Name, Part};
use crate::model::Moment;
use std::cmp::Reverse;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3File {
    pub key: String,
    pub name: Name,
    pub size: u64,
    pub modified_ms: i64,
}

/// One unbroken history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Generation {
    pub generation: Generation,
    /// Times of its first and its last file.
    pub created_ms: i64,
    pub updated_ms: i64,
    /// Snapshots first, each kind in the order in which it was written.
    pub files: Vec<V3File>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Plan {
    pub generation: Generation,
    pub snapshot: V3File,
    /// To be applied in this order; of one index at first, then of the next.
    pub segments: Vec<V3File>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum V3PlanError {
    #[error("generation {0} has no snapshot")]
    NoSnapshot(Generation),
    #[error("generation {generation} has a gap: the WAL before {beyond} is missing")]
    Gap { generation: Generation, beyond: String },
    #[error("there is no backup that old: the first one is of {first}")]
    BeforeFirst { first: Moment },
    #[error("there is no generation")]
    Nothing,
}

impl V3Plan {
    pub fn files(&self) -> impl Iterator<Item = &V3File> {
        std::iter::once(&self.snapshot).chain(&self.segments)
    }

    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }

    /// When the last of it was written.
    pub fn time(&self) -> Moment {
        Moment(self.segments.last().unwrap_or(&self.snapshot).modified_ms)
    }
}

/// By generation, the one that was written last first.
pub fn generations(files: &[V3File]) -> Vec<V3Generation> {
    let mut found: Vec<V3Generation> = Vec::new();
    for file in files {
        let at = file.modified_ms;
        match found.iter_mut().find(|known| known.generation == file.name.generation) {
            Some(known) => {
                (known.created_ms, known.updated_ms) = (known.created_ms.min(at), known.updated_ms.max(at));
                known.files.push(file.clone());
            }
            None => found.push(V3Generation {
                generation: file.name.generation,
                created_ms: at,
                updated_ms: at,
                files: vec![file.clone()],
            }),
        }
    }
    for known in &mut found {
        known.files.sort_by_key(|file| (file.name.part != Part::Snapshot, file.name.index, file.name.part));
    }
    found.sort_by_key(|known| (Reverse(known.updated_ms), known.generation));
    found
}

/// The newest state that was there at `limit` (inclusive; None: the newest of all). A generation without a
/// snapshot can give nothing, and the next one is taken; `passed_over` says so. One that is damaged is an
/// error: what is behind it would be older than anybody thinks.
pub fn plan(files: &[V3File], limit: Option<Moment>) -> Result<(V3Plan, Vec<V3PlanError>), V3PlanError> {
    let limit = limit.map_or(i64::MAX, |limit| limit.0);
    let mut candidates = generations(files);
    let first = candidates.iter().map(|known| known.created_ms).min().ok_or(V3PlanError::Nothing)?;
    candidates.retain(|known| known.created_ms <= limit);
    // The one that was still written to at that moment, else the one that was written to last before it.
    candidates.sort_by_key(|known| (Reverse(known.updated_ms.min(limit)), Reverse(known.updated_ms)));
    let mut passed_over = Vec::new();
    for candidate in &candidates {
        match within(candidate, limit) {
            Ok(plan) => return Ok((plan, passed_over)),
            Err(error @ V3PlanError::NoSnapshot(_)) => passed_over.push(error),
            Err(error) => return Err(error),
        }
    }
    Err(passed_over.into_iter().next().unwrap_or(V3PlanError::BeforeFirst { first: Moment(first) }))
}

fn within(known: &V3Generation, limit: i64) -> Result<V3Plan, V3PlanError> {
    let generation = known.generation;
    let snapshots =
        known.files.iter().filter(|file| file.name.part == Part::Snapshot && file.modified_ms <= limit);
    let snapshot = snapshots.max_by_key(|file| (file.modified_ms, file.name.index));
    let snapshot = snapshot.ok_or(V3PlanError::NoSnapshot(generation))?;
    // The first one that is too new ends it, whatever stands behind it.
    let rest = known.files.iter().filter(|file| file.name.part != Part::Snapshot);
    let rest = rest
        .filter(|file| file.name.index >= snapshot.name.index)
        .take_while(|file| file.modified_ms <= limit);
    let mut segments: Vec<V3File> = Vec::new();
    for file in rest {
        let before = segments.last().map(|before| before.name.index);
        let begins = file.name.part == Part::Segment(0);
        let follows = match before {
            None => begins && file.name.index == snapshot.name.index,
            Some(index) => file.name.index == index && !begins || file.name.index == index + 1 && begins,
        };
        if !follows {
            return Err(V3PlanError::Gap { generation, beyond: file.key.clone() });
        }
        segments.push(file.clone());
    }
    Ok(V3Plan { generation, snapshot: snapshot.clone(), segments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v3::parse;

    fn file(generation: u64, part: &str, modified_ms: i64) -> V3File {
        let directory = if part.contains('_') { "wal" } else { "snapshots" };
        let kind = if part.contains('_') { "wal" } else { "snapshot" };
        let key = format!("generations/{generation:016x}/{directory}/{part}.{kind}.lz4");
        V3File { name: parse(&key).unwrap(), key, size: 10, modified_ms }
    }

    /// Snapshots at index 0 and 2, four indexes.
    fn usual() -> Vec<V3File> {
        let mut files: Vec<V3File> = [
            ("00000000", 100),
            ("00000000_00000000", 101),
            ("00000000_00001000", 110),
            ("00000001_00000000", 120),
            ("00000001_00000020", 121),
            ("00000002_00000000", 130),
            ("00000002", 135),
            ("00000002_00001000", 140),
            ("00000003_00000000", 150),
        ]
        .map(|(part, at)| file(7, part, at))
        .into();
        files.reverse();
        files
    }

    fn told(files: &[V3File], limit: Option<i64>) -> Result<String, V3PlanError> {
        let (plan, _) = plan(files, limit.map(Moment))?;
        let names = plan.files().map(|file| match file.name.part {
            Part::Snapshot => format!("{}.{}", file.name.generation.0, file.name.index),
            Part::Segment(offset) => format!("{}+{offset:x}", file.name.index),
        });
        Ok(names.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn one_generation_at_any_moment() {
        for (limit, expected) in [
            (None, "7.2 2+0 2+1000 3+0"),
            (Some(1000), "7.2 2+0 2+1000 3+0"),
            (Some(150), "7.2 2+0 2+1000 3+0"),
            (Some(149), "7.2 2+0 2+1000"),
            (Some(135), "7.2 2+0"),
            (Some(134), "7.0 0+0 0+1000 1+0 1+20 2+0"),
            (Some(120), "7.0 0+0 0+1000 1+0"),
            (Some(100), "7.0"),
        ] {
            assert_eq!(told(&usual(), limit), Ok(expected.to_owned()), "{limit:?}");
        }
        assert_eq!(told(&usual(), Some(99)), Err(V3PlanError::BeforeFirst { first: Moment(100) }));
        assert_eq!(told(&[], None), Err(V3PlanError::Nothing));
    }

    #[test]
    fn a_hole_is_an_error_only_where_it_is_passed() {
        for (missing, last_sound) in
            [("00000003_00000000", None), ("00000002_00000000", Some(135)), ("00000001_00000000", None)]
        {
            let mut files = usual();
            files.retain(|file| !file.key.contains(missing));
            assert_eq!(told(&files, None).is_err(), last_sound.is_some(), "{missing}");
        }
        let mut files = usual();
        files.retain(|file| !file.key.contains("00000001_00000000"));
        assert!(
            matches!(told(&files, Some(134)), Err(V3PlanError::Gap { beyond, .. }) if beyond.contains("00000001_00000020"))
        );
        assert_eq!(told(&files, Some(119)), Ok("7.0 0+0 0+1000".to_owned()));
        // An index is missing altogether.
        files.retain(|file| !file.key.contains("00000001_"));
        assert!(matches!(told(&files, Some(134)), Err(V3PlanError::Gap { .. })));
    }

    #[test]
    fn which_generation() {
        let mut files = usual();
        files.extend([file(3, "00000000", 300), file(3, "00000000_00000000", 310)]);
        files.extend([file(9, "00000000", 145), file(9, "00000000_00000000", 305)]);
        for (limit, expected) in [
            // The one that was written last, though another one's snapshot is newer.
            (None, "3.0 0+0"),
            // Of two that were written to then, the one that was written to for longer.
            (Some(305), "3.0"),
            // Between the generations: what was last written before.
            (Some(299), "9.0"),
            (Some(144), "7.2 2+0 2+1000"),
        ] {
            assert_eq!(told(&files, limit), Ok(expected.to_owned()), "{limit:?}");
        }
        // Without a snapshot it gives nothing: the next one is taken, and that is said.
        files.push(file(5, "00000001_00000000", 400));
        let (plan, passed_over) = plan(&files, None).unwrap();
        assert_eq!(
            (plan.generation, passed_over),
            (Generation(3), vec![V3PlanError::NoSnapshot(Generation(5))])
        );
    }
}
