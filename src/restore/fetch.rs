//! From a listing to a verified staged file: plan, read with several requests at once, assemble, verify. What is merged or
//! expires meanwhile leads to a new plan that goes on where this one is; a damaged file to one without it, if that
//! reaches the same position.

use super::applier::Applier;
use super::assemble::Assembly;
use super::error::RestoreError;
use super::owner;
use super::progress::Progress;
use super::settings::Owners;
use super::source::{Source, SourceError};
use super::start::{BETWEEN_LOOKS, LOOKS};
use super::verify::VerifiedDb;
use crate::model::{DbPath, Txid};
use crate::replica::{Listing, Plan, PlanError, RemoteFile, Target, plan};

/// So many damaged files are gone around. More is a ruin.
const MOST_AVOIDED: usize = 8;

/// What was fetched, beside the file itself.
pub struct Fetched {
    pub verified: VerifiedDb,
    pub bytes: u64,
    pub files: usize,
}

/// How far the files that were applied lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    /// The end of the last one that is complete.
    end: Txid,
    /// The farthest that anything was applied of.
    touched: Txid,
}

/// Brings the state that is asked for into the staged file, with the owner and mode of the database to be.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    target: Target,
    owners: &Owners,
    progress: &Progress,
) -> Result<Fetched, SourceError> {
    let (mut files, mut avoided, mut looks) = (listing.files.clone(), Vec::new(), 0);
    let mut plan = plan_for(source, &files, target)?;
    owner::create_directories(db, owners)?;
    let (mut applier, mut reached) = (begin(db, source, &plan, progress)?, Reached::default());
    let mut rest = plan.files.clone();
    loop {
        let error = match read(source, &rest, &mut applier, &mut reached, plan.end).await {
            Ok(verified) => {
                owner::prepare_staged(db, owners)?;
                return Ok(Fetched { verified, bytes: progress.total(), files: plan.files.len() });
            }
            Err(error) => error,
        };
        match error {
            SourceError::Vanished if looks < LOOKS => {
                tracing::info!(%db, replica = source.url(), "files have changed while they were read: looking again");
                looks += 1;
                tokio::time::sleep(BETWEEN_LOOKS).await;
                files = source.listing_for(target).await?.files;
                let new = plan_for(source, &sound(&files, &avoided), target)?;
                if let Some(going_on) = continuation(&plan, &new, reached) {
                    let bytes = progress.go_on(&going_on);
                    applier.go_on(bytes).await?;
                    (plan, rest) = (new, going_on);
                    continue;
                }
                plan = new;
            }
            SourceError::Vanished => return Err(RestoreError::Vanishing { replica: source.url().to_owned() }.into()),
            SourceError::Failed(error) => plan = around(error, &files, &mut avoided, target, &plan)?,
        }
        (applier, reached, rest) = (begin(db, source, &plan, progress)?, Reached::default(), plan.files.clone());
    }
}

fn begin(db: &DbPath, source: &Source<'_>, plan: &Plan, progress: &Progress) -> Result<Applier, RestoreError> {
    let bytes = progress.begin(&plan.files);
    tracing::info!(%db, replica = source.url(), txid = %plan.end, files = plan.files.len(), bytes, "restoring");
    Applier::start(Assembly::create(db, source.url(), bytes)?)
}

async fn read(
    source: &Source<'_>,
    files: &[RemoteFile],
    applier: &mut Applier,
    reached: &mut Reached,
    end: Txid,
) -> Result<VerifiedDb, SourceError> {
    let mut reading = source.read(files);
    while let Some(fetched) = reading.next().await? {
        let (piece, parts) = (fetched.piece, fetched.parts);
        let Some(file) = files.get(piece.file) else { continue };
        reached.touched = reached.touched.max(file.range.max);
        applier.apply(file, parts, piece.last).await?;
        if piece.last {
            reached.end = file.range.max;
        }
    }
    Ok(applier.finish(end).await?)
}

fn plan_for(source: &Source<'_>, files: &[RemoteFile], target: Target) -> Result<Plan, RestoreError> {
    plan(files, target).map(lean).map_err(|error| explain(source.url(), error))
}

/// A file that begins at the first position holds every page: what comes before it need not be read.
fn lean(mut plan: Plan) -> Plan {
    let full = plan.files.iter().rposition(|file| file.range.min == Txid::FIRST).unwrap_or_default();
    plan.files.drain(..full.min(plan.files.len()));
    plan
}

fn explain(replica: &str, source: PlanError) -> RestoreError {
    let replica = replica.to_owned();
    match source {
        PlanError::Unreachable { .. } => RestoreError::NoSuchState { replica, source },
        PlanError::NoStart { .. } | PlanError::Gap { .. } => RestoreError::Incomplete { replica, source },
    }
}

fn sound(files: &[RemoteFile], avoided: &[String]) -> Vec<RemoteFile> {
    files.iter().filter(|file| !avoided.contains(&file.key)).cloned().collect()
}

/// What of `new` is still to be applied where `old` was left. A file may be applied again, or one that holds what others
/// have brought already; it must not be the history of another snapshot, and what was begun must be completed.
fn continuation(old: &Plan, new: &Plan, reached: Reached) -> Option<Vec<RemoteFile>> {
    let same_base = old.files.first() == new.files.first() && reached.end != Txid::NONE;
    let rest = new.files.iter().filter(|file| file.range.max > reached.end).cloned();
    (same_base && new.end >= reached.touched).then(|| rest.collect())
}

/// Another way to the very same position. There is none: the damage is the error.
fn around(
    error: RestoreError,
    files: &[RemoteFile],
    avoided: &mut Vec<String>,
    target: Target,
    old: &Plan,
) -> Result<Plan, RestoreError> {
    let RestoreError::Damaged { file, .. } = &error else { return Err(error) };
    if avoided.len() >= MOST_AVOIDED || avoided.contains(file) {
        return Err(error);
    }
    avoided.push(file.clone());
    match plan(&sound(files, avoided), target).map(lean) {
        Ok(new) if new.end == old.end => {
            tracing::error!("{error}; other files lead to the same position, so the restore goes on without it");
            Ok(new)
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TxidRange;
    use crate::store::layout::Level;

    fn file(level: u8, min: u64, max: u64) -> RemoteFile {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        RemoteFile { key: format!("{level}/{range}"), level: Level(level), range, size: 300, modified_ms: 0 }
    }

    fn plan_of(files: &[RemoteFile]) -> Plan {
        Plan { files: files.to_vec(), end: files.last().unwrap().range.max }
    }

    #[test]
    fn where_another_plan_goes_on() {
        let (base, other) = (file(9, 1, 1), file(9, 1, 4));
        let old = plan_of(&[base.clone(), file(0, 2, 2), file(0, 3, 3), file(0, 4, 4)]);
        let merged = plan_of(&[base.clone(), file(1, 2, 5)]);
        let reached = |end, touched| Reached { end: Txid(end), touched: Txid(touched) };
        assert_eq!(continuation(&old, &merged, reached(1, 2)), Some(vec![file(1, 2, 5)]));
        assert_eq!(continuation(&old, &merged, reached(3, 4)), Some(vec![file(1, 2, 5)]));
        assert_eq!(continuation(&old, &merged, reached(0, 1)), None, "nothing is complete");
        let parts = plan_of(&[base, file(1, 2, 3), file(0, 4, 4)]);
        assert_eq!(continuation(&old, &parts, reached(3, 4)), Some(vec![file(0, 4, 4)]));
        assert_eq!(continuation(&old, &parts, reached(4, 4)), Some(vec![]));
        assert_eq!(continuation(&merged, &parts, reached(1, 5)), None, "it does not reach what was begun");
        assert_eq!(continuation(&old, &plan_of(&[other, file(0, 5, 5)]), reached(3, 4)), None, "another snapshot");
    }

    #[test]
    fn nothing_is_read_before_a_file_with_every_page() {
        let (base, raw) = (file(9, 1, 1), file(0, 2, 2));
        let (full, last) = (file(1, 1, 3), file(0, 4, 4));
        let chain = [base.clone(), raw.clone(), full.clone(), last.clone()];
        assert_eq!(lean(plan_of(&chain)).files, [full, last]);
        assert_eq!(lean(plan_of(&[base.clone(), raw.clone()])).files, [base, raw]);
    }

    #[test]
    fn a_damaged_file_is_gone_around_only_to_the_same_position() {
        let damaged = |file: &RemoteFile| RestoreError::Damaged {
            replica: "r".into(),
            file: file.key.clone(),
            damage: crate::restore::error::Damage::Missing(3),
        };
        let around = |bad: &[RemoteFile], files: &[RemoteFile]| {
            let mut avoided = Vec::new();
            let mut now = plan(files, Target::Latest).unwrap();
            for bad in bad {
                now = super::around(damaged(bad), files, &mut avoided, Target::Latest, &now).ok()?;
            }
            Some(now.files)
        };
        let (old, new) = (file(9, 1, 1), file(9, 1, 4));
        let (two, three, four, merged) = (file(0, 2, 2), file(0, 3, 3), file(0, 4, 4), file(1, 2, 4));
        let all = [old.clone(), new.clone(), two.clone(), three.clone(), four.clone(), merged.clone()];
        assert_eq!(around(&[], &all), Some(vec![new.clone()]));
        assert_eq!(around(std::slice::from_ref(&new), &all), Some(vec![old.clone(), merged.clone()]));
        let raw = vec![old.clone(), two, three.clone(), four.clone()];
        assert_eq!(around(&[new.clone(), merged.clone()], &all), Some(raw));
        assert_eq!(around(&[new.clone(), merged.clone(), three], &all), None);
        assert_eq!(around(&[new.clone(), old], &all), None);
        assert_eq!(around(&[file(0, 4, 4)], &[new, four]), Some(vec![file(9, 1, 4)]));
        assert_eq!(around(&[file(0, 2, 2)], &[file(9, 1, 1), file(0, 2, 2)]), None, "never an older position");
    }
}
