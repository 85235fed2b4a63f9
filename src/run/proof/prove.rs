//! Proves one replica: restores its newest position into a scratch file (or reads its files), compares the
//! checksum with that of the live database at the same position, and writes the record. Runs on a thread of
//! its own, with a low priority and its own connections; nothing waits for it.

use super::judge::{self, Evidence, Failure, Verdict};
use super::schedule;
use crate::config::VerifySettings;
use crate::model::{DbChecksum, DbPath, Deadline, Moment, Txid};
use crate::replica::proof::{self, Findings};
use crate::replica::{ProofMode, ProofRecord, Proven, Target, clocks};
use crate::replicate::Handle;
use crate::restore::{
    Owners, Progress, RestoreError, RestoreSettings, Scratch, db_checksum, restore_to, scratch, stated,
};
use crate::sqlite::integrity::{self, Interrupt};
use crate::store::{self, AgeSettings, Paced, Store, StoreError, StoreSettings};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Positions that are tried, each after the one before has vanished from the replica.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
const REQUEST: Duration = Duration::from_secs(20);
/// Requests at once: the app's uploads come first.
const PARALLELISM: usize = 2;
/// Free space that a proof leaves to the app: a part of the disk's, at least so much.
const LEFT_FREE_PART: u64 = 20;
const LEFT_FREE: u64 = 32 << 20;

/// One proof.
pub struct Job {
    pub db: DbPath,
    pub replica: StoreSettings,
    pub handle: Handle,
    pub settings: VerifySettings,
    pub restore: RestoreSettings,
    /// A record of an earlier run that is younger counts instead. None: this run has a result already.
    pub young: Option<Duration>,
    /// The newest sound proof that is known.
    pub proven: Option<Proven>,
    /// Old records may be deleted.
    pub deletes: bool,
    /// True: the proof ends as soon as possible.
    pub stop: watch::Receiver<bool>,
}

#[derive(Debug)]
pub enum Outcome {
    /// An earlier run has proven it, so long ago.
    Young(Box<ProofRecord>, Duration),
    /// The second: a new snapshot can be sound.
    Decided(Box<ProofRecord>, bool),
    Undecided(String),
    Stopped,
}

pub async fn prove(job: Job) -> Outcome {
    let mut stop = job.stop.clone();
    tokio::select! {
        outcome = prove_or_skip(&job) => {
            outcome.unwrap_or_else(|error| Outcome::Undecided(error.to_string()))
        }
        _ = stop.wait_for(|stopped| *stopped) => Outcome::Stopped,
    }
}

async fn prove_or_skip(job: &Job) -> Result<Outcome, StoreError> {
    let plain = store::open(&job.replica)?;
    let now =
        |store: &dyn Store| clocks::believed(Moment::now().0, store.clock().and_then(|clock| clock.now_ms()));
    let mut before = job.proven.clone();
    if let Some(interval) = job.young
        && let Some(record) = newest_record(&*plain).await?
    {
        let age = schedule::young(record.time_ms(), record.sound, now(&*plain), interval);
        before = before.or_else(|| record.proven.clone());
        if let Some(age) = age {
            return Ok(Outcome::Young(Box::new(record), age));
        }
    }
    let store = Paced::new(Arc::clone(&plain), job.settings.bandwidth);
    let begun = Instant::now();
    let (mut findings, renew) = match decide(job, &store).await {
        (Verdict::Sound, findings) => (findings, false),
        (Verdict::Failed(Failure { why, damaged, renew }), findings) => {
            (Findings { problem: Some(why), damaged, ..findings }, renew)
        }
        (Verdict::Undecided(why) | Verdict::Again(why), _) => return Ok(Outcome::Undecided(why)),
    };
    findings.seconds = begun.elapsed().as_secs_f64();
    let record = ProofRecord::new(findings, Moment(now(&*plain)), before);
    let is_plain = job.replica.age == AgeSettings::default();
    let written = if is_plain { record.clone() } else { record.without_schema(!renew) };
    if let Err(error) = write(&*plain, &written, job.deletes).await {
        tracing::warn!(db = %job.db, "the record of the proof is not in the replica: {error}");
    }
    Ok(Outcome::Decided(Box::new(record), renew))
}

/// The newest record that can be read.
async fn newest_record(store: &dyn Store) -> Result<Option<ProofRecord>, StoreError> {
    let objects = store.list(proof::PREFIX, Deadline::after(REQUEST)).await?;
    let Some(key) = proof::newest_first(&objects).into_iter().next() else { return Ok(None) };
    Ok(ProofRecord::parse(&store.get(&key, None, Deadline::after(REQUEST)).await?))
}

async fn write(store: &dyn Store, record: &ProofRecord, deletes: bool) -> Result<(), StoreError> {
    store.put(&record.key(), Bytes::from(record.to_text()), Deadline::after(REQUEST)).await?;
    if deletes {
        let outdated = proof::outdated(&store.list(proof::PREFIX, Deadline::after(REQUEST)).await?);
        if !outdated.is_empty() {
            store.delete(&outdated, Deadline::after(REQUEST)).await?;
        }
    }
    Ok(())
}

/// Tries positions until one of them can be judged.
async fn decide(job: &Job, store: &dyn Store) -> (Verdict, Findings) {
    let mut verdict = Verdict::Undecided("it is not replicated now".to_owned());
    let mut findings = Findings::default();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        let Some((txid, live)) = job.handle.position().filter(|(txid, _)| *txid != Txid::NONE) else { break };
        findings = Findings { mode: job.settings.mode, txid, db_checksum: live.get(), ..Findings::default() };
        let found = match job.settings.mode {
            ProofMode::Full => restored(job, store, txid, &mut findings).await,
            ProofMode::Quick => read(job, store, txid, &mut findings).await,
        };
        let is_newest = || job.handle.position().is_some_and(|(newest, _)| newest == txid);
        verdict = match found {
            Ok(evidence) => judge::judge(&evidence, live),
            Err(Trouble::Restore(error)) => judge::of_error(&error, txid, attempt > 0 && is_newest()),
            Err(Trouble::Here(why)) => Verdict::Undecided(why),
        };
        match &verdict {
            Verdict::Again(why) => tracing::debug!(db = %job.db, %txid, "the proof begins again: {why}"),
            _ => break,
        }
    }
    (verdict, findings)
}

enum Trouble {
    Restore(RestoreError),
    /// Something on this machine is in the way.
    Here(String),
}

impl From<RestoreError> for Trouble {
    fn from(error: RestoreError) -> Self {
        Trouble::Restore(error)
    }
}

fn settings(job: &Job) -> RestoreSettings {
    RestoreSettings { parallelism: job.restore.parallelism.min(PARALLELISM), ..job.restore.clone() }
}

async fn read(
    job: &Job,
    store: &dyn Store,
    txid: Txid,
    findings: &mut Findings,
) -> Result<Evidence, Trouble> {
    let stated = stated(store, txid, &settings(job), &Progress::quiet()).await?;
    (findings.files, findings.bytes) = (stated.files, stated.bytes);
    let damaged = stated.damaged.into_iter().map(|(key, _)| key).collect();
    Ok(Evidence { db_checksum: stated.db_checksum, damaged, problems: Vec::new() })
}

async fn restored(
    job: &Job,
    store: &dyn Store,
    txid: Txid,
    findings: &mut Findings,
) -> Result<Evidence, Trouble> {
    let place = scratch::place(Some(job.db.as_path()));
    room(&place, &job.db).map_err(Trouble::Here)?;
    let scratch = Scratch::make(&place).map_err(Trouble::Here)?;
    let db = scratch.db();
    let target = Target::Txid(txid);
    let (owners, progress) = (Owners::default(), Progress::quiet());
    let restored = restore_to(db.as_path(), store, target, &settings(job), &owners, true, &progress).await?;
    (findings.files, findings.bytes) = (restored.files, restored.bytes);
    let checksum = checksum_of(&db, job.stop.clone()).await?;
    let integrity::Findings { problems, unknown } = check(&db).await?;
    let (problems, remarks): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|line| integrity::structural(line));
    findings.remarks = remarks.into_iter().chain(unknown).collect();
    drop(scratch);
    Ok(Evidence { db_checksum: Some(checksum), damaged: restored.avoided, problems })
}

async fn checksum_of(db: &DbPath, stop: watch::Receiver<bool>) -> Result<DbChecksum, Trouble> {
    let path = db.as_path().to_owned();
    let work = tokio::task::spawn_blocking(move || db_checksum(&path, || *stop.borrow()));
    match work.await {
        Ok(Ok(Some(checksum))) => Ok(checksum),
        Ok(Ok(None)) => Err(Trouble::Here("the restored file is no database".to_owned())),
        Ok(Err(error)) => Err(Trouble::Here(format!("cannot read the restored file: {error}"))),
        Err(error) => Err(Trouble::Here(format!("internal error: {error}"))),
    }
}

/// Ends the check that runs, when the proof is abandoned.
struct Interrupts(Option<Interrupt>);

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.0.iter().for_each(Interrupt::interrupt);
    }
}

async fn check(db: &DbPath) -> Result<integrity::Findings, Trouble> {
    let (begun, handle) = oneshot::channel();
    let db = db.clone();
    let work = tokio::task::spawn_blocking(move || {
        integrity::check_until(&db, false, |interrupt| drop(begun.send(interrupt)))
    });
    let _interrupts = Interrupts(handle.await.ok());
    match work.await {
        Ok(found) => {
            // SQLite cannot work with the file at all.
            Ok(found.unwrap_or_else(|error| integrity::Findings {
                problems: vec![format!("*** in database main ***: {error}")],
                unknown: Vec::new(),
            }))
        }
        Err(error) => Err(Trouble::Here(format!("internal error: {error}"))),
    }
}

/// Whether there is room for a second copy of the database, beside what the app needs.
fn room(place: &Path, db: &DbPath) -> Result<(), String> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let bytes = length(db.as_path()).saturating_add(length(&db.wal()));
    let Ok(mount) = nix::sys::statvfs::statvfs(place) else { return Ok(()) };
    #[allow(clippy::useless_conversion, reason = "of another width on some platforms")]
    let of_blocks = |blocks: u64| blocks.saturating_mul(u64::from(mount.fragment_size()));
    has_room(bytes, of_blocks(mount.blocks_available()), of_blocks(mount.blocks())).map_err(|why| {
        format!("{why} in {}; make room, set TMPDIR, or set mode = \"quick\" under [verify]", place.display())
    })
}

/// `total` of 0: the file system does not say.
fn has_room(bytes: u64, free: u64, total: u64) -> Result<(), String> {
    let needed = bytes.saturating_add((total / LEFT_FREE_PART).max(LEFT_FREE));
    if total == 0 || free >= needed {
        return Ok(());
    }
    Err(format!(
        "a proof needs {} MiB of free space, of which the app keeps a part; {} MiB are free",
        needed >> 20,
        free >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_keeps_its_room() {
        let mib = |count: u64| count << 20;
        for (bytes, free, total, expected) in [
            (mib(10), mib(41), mib(100), false),
            (mib(10), mib(42), mib(100), true),
            (mib(10), mib(10_000), mib(200_000), false),
            (mib(10), mib(10_010), mib(200_000), true),
            (mib(10), 0, 0, true),
            (u64::MAX, mib(1), mib(100), false),
        ] {
            assert_eq!(has_room(bytes, free, total).is_ok(), expected, "{bytes} {free} {total}");
        }
    }
}
