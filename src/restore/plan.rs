//! From a listing and a target to the files that lead there, in the format (LTX or Litestream 0.3) that has
//! the newer data. Reads headers where the listing's times are not exact; changes nothing.

use super::error::RestoreError;
use super::source::{Source, SourceError};
use crate::ltx::Header;
use crate::model::{Moment, Txid};
use crate::replica::{
    Answer, Dated, Listing, Plan, PlanError, RemoteFile, Replica, Target, Times, clocks, plan, plan_at,
};
use crate::v3::{self, V3File, V3Plan, V3PlanError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Ltx {
        plan: Plan,
        /// When the state was committed; None: the last file's header will tell.
        time: Option<Moment>,
        /// More may have been committed by the wanted moment, but only this file knows, and it holds later
        /// things too.
        coarse: Option<RemoteFile>,
    },
    /// Litestream 0.3's.
    V3 {
        plan: V3Plan,
        /// Generations that were written later and cannot be restored.
        passed_over: Vec<V3PlanError>,
    },
}

impl Choice {
    pub fn bytes(&self) -> u64 {
        match self {
            Choice::Ltx { plan, .. } => bytes_of(&plan.files),
            Choice::V3 { plan, .. } => plan.bytes(),
        }
    }
}

pub(super) fn bytes_of(files: &[RemoteFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
}

/// A file that begins at the first position holds every page: what comes before it need not be read.
pub(super) fn lean(mut plan: Plan) -> Plan {
    let full = plan.files.iter().rposition(|file| file.range.min == Txid::FIRST).unwrap_or_default();
    plan.files.drain(..full.min(plan.files.len()));
    plan
}

pub async fn choose(source: &Source<'_>, listing: &Listing, target: Target) -> Result<Choice, SourceError> {
    let replica = source.url();
    let chosen = match (target, listing.replica()) {
        (_, Replica::Empty) => Err(RestoreError::NothingThere { replica: replica.to_owned() }),
        (Target::Latest, Replica::V3) => v3_choice(&listing.v3, None).map_err(|error| of_v3(replica, error)),
        // TXIDs are the newer format's: a TXID selects that format.
        (Target::Txid(_), _) if listing.files.is_empty() => {
            Err(RestoreError::NothingThere { replica: format!("{replica} (Litestream 0.3 counts no TXIDs)") })
        }
        (Target::Latest | Target::Txid(_), _) => match plan(&listing.files, target) {
            Ok(plan) => Ok(Choice::Ltx { plan: lean(plan), time: None, coarse: None }),
            Err(error) => Err(of_ltx(replica, error)),
        },
        (Target::Time(limit), _) => {
            let ltx = if listing.files.is_empty() {
                None
            } else {
                Some(dated(source, &listing.files, limit).await?)
            };
            at(replica, listing, limit, ltx)
        }
    };
    chosen.map_err(|error| match error {
        RestoreError::Incomplete { .. } | RestoreError::V3Incomplete { .. } if source.doubts_the_gap() => {
            SourceError::Vanished
        }
        error => error.into(),
    })
}

/// Asks for headers until the answer is exact.
async fn dated(
    source: &Source<'_>,
    files: &[RemoteFile],
    limit: Moment,
) -> Result<Result<Dated, PlanError>, SourceError> {
    let mut times = Times::new();
    loop {
        match plan_at(files, limit, &times) {
            Ok(Answer::Found(dated)) => return Ok(Ok(dated)),
            Err(error) => return Ok(Err(error)),
            Ok(Answer::Ask(more)) => {
                let headers = source.heads(&more).await?;
                warn_of_clocks(source, &more, &headers);
                times.extend(
                    more.into_iter().zip(headers).map(|(file, header)| (file.key, header.timestamp_ms)),
                );
            }
        }
    }
}

/// Near the moment that was asked for: what is restored may not be what had been committed by then.
fn warn_of_clocks(source: &Source<'_>, files: &[RemoteFile], headers: &[Header]) {
    let wrong = files.iter().zip(headers).find_map(|(file, header)| {
        let mark = clocks::mark(header.timestamp_ms, file.modified_ms, Moment::now().0);
        (!mark.is_empty()).then_some((file, Moment(header.timestamp_ms), mark))
    });
    if let Some((file, time, mark)) = wrong {
        tracing::warn!(
            replica = source.url(),
            "{} is stamped {time}, {mark}. What was committed around then may be missing from what is \
             restored: look at `litevisor list`, and restore by --txid",
            file.key
        );
    }
}

/// Of the two formats, the one whose newest data at that moment is newer; the same rule as for the latest
/// state. Pure.
fn at(
    replica: &str,
    listing: &Listing,
    limit: Moment,
    ltx: Option<Result<Dated, PlanError>>,
) -> Result<Choice, RestoreError> {
    let old_ms = listing.v3.iter().map(|file| file.modified_ms).filter(|at| *at <= limit.0).max();
    let ltx_may_matter = listing.files.iter().any(|file| file.modified_ms <= limit.0);
    match (ltx, old_ms) {
        (Some(Ok(dated)), old_ms) if old_ms.is_none_or(|old_ms| old_ms <= dated.time.0) => {
            Ok(of_dated(dated))
        }
        (Some(Ok(dated)), _) => match v3_choice(&listing.v3, Some(limit)) {
            Err(V3PlanError::NoSnapshot(_) | V3PlanError::BeforeFirst { .. }) => Ok(of_dated(dated)),
            chosen => chosen.map_err(|error| of_v3(replica, error)),
        },
        (Some(Err(error @ (PlanError::Gap { .. } | PlanError::Unreachable { .. }))), _) => {
            Err(of_ltx(replica, error))
        }
        (Some(Err(error @ PlanError::NoStart { .. })), _) if ltx_may_matter => Err(of_ltx(replica, error)),
        (Some(Err(PlanError::BeforeFirst { first })), None) => {
            let first = listing.v3.iter().map(|file| Moment(file.modified_ms)).fold(first, Moment::min);
            Err(of_ltx(replica, PlanError::BeforeFirst { first }))
        }
        (Some(Err(_)) | None, _) => {
            v3_choice(&listing.v3, Some(limit)).map_err(|error| of_v3(replica, error))
        }
    }
}

fn of_dated(Dated { plan, time, coarse }: Dated) -> Choice {
    Choice::Ltx { plan: lean(plan), time: Some(time), coarse }
}

fn v3_choice(files: &[V3File], limit: Option<Moment>) -> Result<Choice, V3PlanError> {
    v3::plan::plan(files, limit).map(|(plan, passed_over)| Choice::V3 { plan, passed_over })
}

fn of_ltx(replica: &str, source: PlanError) -> RestoreError {
    let replica = replica.to_owned();
    match source {
        PlanError::Unreachable { .. } | PlanError::BeforeFirst { .. } => {
            RestoreError::NoSuchState { replica, source }
        }
        PlanError::NoStart { .. } | PlanError::Gap { .. } => RestoreError::Incomplete { replica, source },
    }
}

fn of_v3(replica: &str, source: V3PlanError) -> RestoreError {
    let replica = replica.to_owned();
    match source {
        V3PlanError::BeforeFirst { first } => {
            RestoreError::NoSuchState { replica, source: PlanError::BeforeFirst { first } }
        }
        V3PlanError::NoSnapshot(_) | V3PlanError::Gap { .. } => {
            RestoreError::V3Incomplete { replica, source }
        }
        V3PlanError::Nothing => RestoreError::NothingThere { replica },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TxidRange;
    use crate::store::Object;
    use crate::store::layout::{Layout, Level};

    #[test]
    fn nothing_is_read_before_a_file_with_every_page() {
        let file = |level: u8, min: u64, max: u64| {
            let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
            RemoteFile {
                key: format!("{level}/{range}"),
                level: Level(level),
                range,
                size: 300,
                modified_ms: 0,
            }
        };
        let lean = |files: &[RemoteFile]| {
            lean(Plan { files: files.to_vec(), end: files.last().unwrap().range.max, not_after: None }).files
        };
        let (base, raw) = (file(9, 1, 1), file(0, 2, 2));
        let (full, last) = (file(1, 1, 3), file(0, 4, 4));
        assert_eq!(lean(&[base.clone(), raw.clone(), full.clone(), last.clone()]), [full, last]);
        assert_eq!(lean(&[base.clone(), raw.clone()]), [base, raw]);
    }

    /// Snapshot and segment of a 0.3 generation at `old`, LTX files 1 and 2 at `ltx`.
    fn listing(old: Option<[i64; 2]>, ltx: Option<[i64; 2]>) -> Listing {
        let object = |key: &str, modified_ms| Object { key: key.into(), size: 200, modified_ms };
        let mut objects = Vec::new();
        if let Some([snapshot, segment]) = old {
            objects.push(object("generations/00000000000000aa/snapshots/00000000.snapshot.lz4", snapshot));
            objects.push(object("generations/00000000000000aa/wal/00000000_00000000.wal.lz4", segment));
        }
        if let Some([first, second]) = ltx {
            objects.push(object("ltx/9/0000000000000001-0000000000000001.ltx", first));
            objects.push(object("ltx/0/0000000000000002-0000000000000002.ltx", second));
        }
        Listing::of(Layout::Directory, &objects)
    }

    #[test]
    fn the_format_with_the_newer_data_at_that_moment() {
        let files = |choice: &Choice| match choice {
            Choice::Ltx { plan, .. } => ("ltx", plan.files.len()),
            Choice::V3 { plan, .. } => ("old", plan.files().count()),
        };
        for (old, ltx, limit, expected) in [
            // The old era, then the new one.
            (Some([100, 200]), Some([300, 400]), 99, None),
            (Some([100, 200]), Some([300, 400]), 100, Some(("old", 1))),
            (Some([100, 200]), Some([300, 400]), 299, Some(("old", 2))),
            (Some([100, 200]), Some([300, 400]), 300, Some(("ltx", 1))),
            (Some([100, 200]), Some([300, 400]), 9999, Some(("ltx", 2))),
            // And back again.
            (Some([500, 600]), Some([300, 400]), 499, Some(("ltx", 2))),
            (Some([500, 600]), Some([300, 400]), 500, Some(("old", 1))),
            (Some([500, 600]), Some([300, 400]), 9999, Some(("old", 2))),
            (Some([500, 600]), Some([300, 400]), 299, None),
            (Some([100, 200]), None, 150, Some(("old", 1))),
            (None, Some([300, 400]), 350, Some(("ltx", 1))),
        ] {
            let listing = listing(old, ltx);
            let times: Times =
                listing.files.iter().map(|file| (file.key.clone(), file.modified_ms)).collect();
            let found =
                (!listing.files.is_empty()).then(|| match plan_at(&listing.files, Moment(limit), &times) {
                    Ok(Answer::Found(dated)) => Ok(dated),
                    Ok(Answer::Ask(_)) => panic!("every time is known"),
                    Err(error) => Err(error),
                });
            let chosen = at("r", &listing, Moment(limit), found);
            assert_eq!(chosen.as_ref().ok().map(files), expected, "{old:?} {ltx:?} {limit}: {chosen:?}");
            if let Err(error) = chosen {
                let first = old.iter().chain(&ltx).flatten().min().unwrap();
                assert!(error.to_string().contains(&Moment(*first).to_string()), "{error}");
            }
        }
    }
}
