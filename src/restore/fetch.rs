//! From a listing to a verified staged file: plan, read with several requests at once, assemble, verify. If a
//! file is merged or expires meanwhile, a new plan continues at the same place. If a file is damaged, a plan
//! without it is used, provided that it reaches the same position.

use super::applier::Applier;
use super::assemble::Assembly;
use super::error::RestoreError;
use super::plan::{Choice, bytes_of, choose, lean};
use super::settings::Owners;
use super::source::{ATTEMPTS, BETWEEN_ATTEMPTS, Source, SourceError};
use super::verify::VerifiedDb;
use super::{owner, v3};
use crate::model::{DbPath, Txid};
use crate::replica::{Listing, Plan, RemoteFile, Target, plan};

/// Damaged files that other files may replace. With more of them the replica counts as destroyed.
const MOST_AVOIDED: usize = 8;

/// What was fetched, beside the file itself.
pub struct Fetched {
    pub verified: VerifiedDb,
    pub bytes: u64,
    pub files: usize,
    /// Keys of damaged files that other files could replace.
    pub avoided: Vec<String>,
}

/// How far the files that were applied lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    /// The end of the last one that is complete.
    end: Txid,
    /// The end of the last one that was begun.
    touched: Txid,
}

/// Brings the chosen state into the staged file, with the owner and mode of the database to be.
pub async fn fetch(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    target: Target,
    choice: &Choice,
    owners: &Owners,
) -> Result<Fetched, SourceError> {
    let replica = source.url();
    match choice {
        Choice::Ltx { plan, .. } => {
            // Nothing is written for a state that the keys do not open.
            source.check_keys(plan.files.iter().map(|file| file.key.as_str())).await?;
            owner::create_directories(db, owners)?;
            let fetched = fetch_ltx(db, source, &listing.files, target, plan.clone()).await?;
            owner::prepare_staged(&fetched.verified, owners)?;
            Ok(fetched)
        }
        Choice::V3 { plan, passed_over } => {
            for why in passed_over {
                tracing::warn!(%db, replica, "going back to an older generation of the Litestream 0.3 \
                    replica: {why}");
            }
            let generation = plan.generation;
            source.check_keys(plan.files().map(|file| file.key.as_str())).await?;
            let files = plan.files().count();
            let bytes = plan.bytes();
            source.progress().begin(bytes);
            tracing::info!(%db, replica, %generation, files, bytes, "restoring from Litestream 0.3's format");
            let verified = v3::fetch(db, source, plan, owners).await?;
            Ok(Fetched { verified, bytes, files, avoided: Vec::new() })
        }
    }
}

/// Reads the plan's files into the staged file, with another plan where files vanish or are damaged.
async fn fetch_ltx(
    db: &DbPath,
    source: &Source<'_>,
    files: &[RemoteFile],
    target: Target,
    mut plan: Plan,
) -> Result<Fetched, SourceError> {
    let mut files = files.to_vec();
    let mut avoided = Vec::new();
    let mut looks = 0;
    let mut doubted = Vec::new();
    let mut applier = begin(db, source, &plan)?;
    let mut reached = Reached::default();
    let mut rest = plan.files.clone();
    loop {
        let error = match read(source, &rest, &mut applier, &mut reached, plan.end).await {
            Ok(verified) => {
                let bytes = source.progress().total();
                return Ok(Fetched { verified, bytes, files: plan.files.len(), avoided });
            }
            Err(error) => error,
        };
        match error {
            // What came may not be what is there (a proxy, a cache): it is read once more before it is called
            // damaged.
            SourceError::Failed(RestoreError::Damaged { file, damage, .. }) if !doubted.contains(&file) => {
                tracing::warn!(%db, replica = source.url(), "{file} is damaged ({damage}): reading it once \
                    more");
                doubted.push(file);
            }
            // Which files lead to a moment is found out from their headers: that is the caller's.
            error if plan.not_after.is_some() => return Err(error),
            SourceError::Vanished if looks < ATTEMPTS => {
                tracing::info!(%db, replica = source.url(), "files changed while they were read: planning \
                    again");
                looks += 1;
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                let mut listing = source.listing_for(target).await?;
                listing.files = sound(listing.files, &avoided);
                // The older format has the newest data now: all begins anew.
                let Choice::Ltx { plan: new, .. } = choose(source, &listing, target).await? else {
                    return Err(SourceError::Vanished);
                };
                files = listing.files;
                if let Some(going_on) = continuation(&plan, &new, reached) {
                    let bytes = bytes_of(&going_on);
                    source.progress().go_on(bytes);
                    applier.go_on(bytes).await?;
                    (plan, rest) = (new, going_on);
                    continue;
                }
                plan = new;
            }
            SourceError::Vanished => {
                return Err(RestoreError::Vanishing { replica: source.url().to_owned() }.into());
            }
            SourceError::Failed(error) => {
                // What was listed may be no more than the first way needed.
                if matches!(error, RestoreError::Damaged { .. })
                    && let Ok(all) = source.listing().await
                {
                    files = all.files;
                }
                plan = plan_around(error, &files, &mut avoided, &plan)?;
            }
        }
        (applier, reached, rest) = (begin(db, source, &plan)?, Reached::default(), plan.files.clone());
    }
}

fn begin(db: &DbPath, source: &Source<'_>, plan: &Plan) -> Result<Applier, RestoreError> {
    let progress = source.progress();
    let bytes = bytes_of(&plan.files);
    progress.begin(bytes);
    if !progress.is_quiet() {
        let (replica, files) = (source.url(), plan.files.len());
        tracing::info!(%db, replica, txid = %plan.end, files, bytes, "restoring");
    }
    let mut assembly = Assembly::create(db, source.url(), bytes, plan.not_after)?;
    // Nothing is fetched that has no room for sure; what the files say themselves is asked for when they
    // come.
    assembly.expect(plan.files.iter().map(|file| file.size).max().unwrap_or_default())?;
    Applier::start(assembly)
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
        let Some(file) = files.get(fetched.file) else { continue };
        reached.touched = reached.touched.max(file.range.max);
        applier.apply(file, fetched.parts, fetched.last).await?;
        if fetched.last {
            reached.end = file.range.max;
        }
    }
    Ok(applier.finish(end).await?)
}

fn sound(mut files: Vec<RemoteFile>, avoided: &[String]) -> Vec<RemoteFile> {
    files.retain(|file| !avoided.contains(&file.key));
    files
}

/// What of `new` is still to be applied where `old` was left. A file may be applied again, or one that holds
/// what others have brought already; it must not be the history of another snapshot, and what was begun must
/// be completed.
fn continuation(old: &Plan, new: &Plan, reached: Reached) -> Option<Vec<RemoteFile>> {
    let same_base = old.files.first() == new.files.first() && reached.end != Txid::NONE;
    let rest = new.files.iter().filter(|file| file.range.max > reached.end).cloned();
    (same_base && new.end >= reached.touched).then(|| rest.collect())
}

/// Another plan to the very same position. If there is none, the damage is the error.
fn plan_around(
    error: RestoreError,
    files: &[RemoteFile],
    avoided: &mut Vec<String>,
    old: &Plan,
) -> Result<Plan, RestoreError> {
    let RestoreError::Damaged { file, .. } = &error else { return Err(error) };
    if avoided.len() >= MOST_AVOIDED || avoided.contains(file) {
        return Err(error);
    }
    avoided.push(file.clone());
    let Ok(new) = plan(&sound(files.to_vec(), avoided), Target::Txid(old.end)) else { return Err(error) };
    tracing::error!("{error}; other files lead to the same position, so the restore goes on without it");
    Ok(lean(new))
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
        Plan { files: files.to_vec(), end: files.last().unwrap().range.max, not_after: None }
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
        assert_eq!(
            continuation(&old, &plan_of(&[other, file(0, 5, 5)]), reached(3, 4)),
            None,
            "another snapshot"
        );
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
                now = super::plan_around(damaged(bad), files, &mut avoided, &now).ok()?;
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
        assert_eq!(
            around(&[file(0, 2, 2)], &[file(9, 1, 1), file(0, 2, 2)]),
            None,
            "never an older position"
        );
    }
}
