//! Questions about a replica that need no restore: the plan, the contents, whether its files are whole.
//! Changes nothing here or in the replica.

use super::error::{Damage, RestoreError};
use super::plan::{Choice, choose};
use super::progress::Progress;
use super::settings::RestoreSettings;
use super::source::{ATTEMPTS, BETWEEN_ATTEMPTS, Source, SourceError};
use crate::ltx::{Decoder, FrameDecoder, FrameError};
use crate::model::{DbChecksum, Moment, Txid};
use crate::replica::contents::{self, Contents};
use crate::replica::{RemoteFile, Target, Times};
use crate::store::Store;
use std::collections::HashMap;

/// What a restore of `target` would read, and when the state that it gives was committed.
pub async fn plan_of(
    store: &dyn Store,
    target: Target,
    settings: &RestoreSettings,
    progress: &Progress,
) -> Result<(Choice, Moment), RestoreError> {
    let source = Source::new(store, settings, progress);
    retried(&source, async || {
        let choice = choose(&source, &source.listing_for(target).await?, target).await?;
        let time = match &choice {
            Choice::Ltx { time: Some(time), .. } => *time,
            Choice::Ltx { plan, .. } => {
                let last = plan.files.get(plan.files.len().saturating_sub(1)..).unwrap_or_default();
                source.heads(last).await?.first().map_or(Moment(0), |header| Moment(header.timestamp_ms))
            }
            Choice::V3 { plan, .. } => plan.time(),
        };
        Ok((choice, time))
    })
    .await
}

/// What the replica holds. A file whose header is damaged is among the problems.
pub async fn contents(store: &dyn Store, settings: &RestoreSettings) -> Result<Contents, RestoreError> {
    let progress = Progress::default();
    let source = Source::new(store, settings, &progress);
    retried(&source, async || {
        let listing = source.listing().await?;
        let mut times = Times::new();
        let mut problems = Vec::new();
        let asked = contents::dated(&listing);
        for (file, header) in asked.iter().zip(source.heads_each(&asked).await) {
            match header {
                Ok(header) => drop(times.insert(file.key.clone(), header.timestamp_ms)),
                Err(SourceError::Failed(RestoreError::Damaged { file, damage, .. })) => {
                    problems.push(format!("{file} is damaged: {damage}"));
                }
                Err(error) => return Err(error),
            }
        }
        let mut found = contents::contents(&listing, &times, Moment::now().0);
        if !found.problems.is_empty() && source.doubts_the_gap() {
            return Err(SourceError::Vanished);
        }
        found.problems.extend(problems);
        Ok(found)
    })
    .await
}

/// What `audit` has proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Files that are whole: each has its checksum, and says what its name says.
    pub files: usize,
    pub bytes: u64,
    /// Those that say what the whole database's checksum is after them.
    pub with_db_checksum: usize,
    /// Key and fault of each that is not.
    pub damaged: Vec<(String, Damage)>,
}

/// Reads every file of the replica from its first to its last byte. One that vanishes meanwhile is no fault.
pub async fn audit(
    store: &dyn Store,
    settings: &RestoreSettings,
    progress: &Progress,
) -> Result<Audit, RestoreError> {
    let source = Source::new(store, settings, progress);
    let listing = source.listing().await?;
    let old: Vec<RemoteFile> = listing.v3.iter().map(super::v3::as_remote).collect();
    progress.begin(listing.files.iter().chain(&old).map(|file| file.size).sum());
    let mut audit = Audit::default();
    let mut seen = HashMap::new();
    for file in &listing.files {
        audit_ltx(&source, file, &mut audit, &mut seen).await?;
    }
    for file in &old {
        let push = |decoder: &mut FrameDecoder, bytes: &[u8]| {
            decoder.push(bytes, |_| Ok::<(), FrameError>(())).map_err(Damage::Frame)
        };
        audit_file(
            &source,
            file,
            &mut audit,
            push,
            |decoder: FrameDecoder| Ok(decoder.finish().map(|()| None)?),
            &mut seen,
        )
        .await?;
    }
    Ok(audit)
}

/// What the files of one position say, read from their first to their last byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// The checksum of the whole database at the position; None: its file has none.
    pub db_checksum: Option<DbChecksum>,
    pub files: usize,
    pub bytes: u64,
    /// Key and fault of each file that is damaged.
    pub damaged: Vec<(String, Damage)>,
}

/// Reads the files that a restore of this position reads, and restores nothing. A file that vanishes
/// meanwhile leads to a new plan.
pub async fn stated(
    store: &dyn Store,
    txid: Txid,
    settings: &RestoreSettings,
    progress: &Progress,
) -> Result<Stated, RestoreError> {
    let source = Source::new(store, settings, progress);
    retried(&source, async || {
        let target = Target::Txid(txid);
        let Choice::Ltx { plan, .. } = choose(&source, &source.listing_for(target).await?, target).await?
        else {
            return Err(RestoreError::NothingThere { replica: store.url().to_owned() }.into());
        };
        let mut audit = Audit::default();
        let mut seen = Seen::new();
        for file in &plan.files {
            audit_ltx(&source, file, &mut audit, &mut seen).await?;
            // What came may not be what is there: it is read once more before it is called damaged.
            if audit.damaged.pop_if(|(key, _)| *key == file.key).is_some() {
                audit_ltx(&source, file, &mut audit, &mut seen).await?;
            }
        }
        let Audit { files, bytes, damaged, .. } = audit;
        if files + damaged.len() < plan.files.len() {
            return Err(SourceError::Vanished);
        }
        Ok(Stated { db_checksum: seen.get(&txid).copied(), files, bytes, damaged })
    })
    .await
}

/// The checksum of the database at a position, as the first file said it.
type Seen = HashMap<Txid, DbChecksum>;

async fn audit_ltx(
    source: &Source<'_>,
    file: &RemoteFile,
    audit: &mut Audit,
    seen: &mut Seen,
) -> Result<(), RestoreError> {
    let finish = |decoder: Decoder| {
        let (header, _) = decoder.finish()?;
        Ok(header.db_checksum.map(|checksum| (file.range.max, checksum)))
    };
    audit_file(source, file, audit, |decoder, bytes| ltx(decoder, file, bytes), finish, seen).await
}

async fn audit_file<D: Default>(
    source: &Source<'_>,
    file: &RemoteFile,
    audit: &mut Audit,
    mut push: impl FnMut(&mut D, &[u8]) -> Result<(), Damage>,
    finish: impl FnOnce(D) -> Result<Option<(Txid, DbChecksum)>, Damage>,
    seen: &mut Seen,
) -> Result<(), RestoreError> {
    let mut decoder = D::default();
    let mut fault = None;
    let mut reading = source.read(std::slice::from_ref(file));
    loop {
        let fetched = match reading.next().await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => break,
            Err(SourceError::Vanished) => return Ok(()),
            Err(SourceError::Failed(error)) => return Err(error),
        };
        for part in fetched.parts.iter() {
            if fault.is_none() {
                fault = push(&mut decoder, part).err();
            }
        }
        // This computes: others on this thread get their turn.
        tokio::task::yield_now().await;
    }
    let finished = match fault {
        Some(damage) => Err(damage),
        None => finish(decoder),
    };
    let agreed = finished.and_then(|said| match said {
        Some((txid, got)) => match *seen.entry(txid).or_insert(got) {
            want if want == got => Ok(true),
            want => Err(Damage::Checksum { got: got.get(), want: want.get() }),
        },
        None => Ok(false),
    });
    match agreed {
        Ok(has_checksum) => {
            audit.files += 1;
            audit.bytes += file.size;
            audit.with_db_checksum += usize::from(has_checksum);
        }
        Err(damage) => audit.damaged.push((file.key.clone(), damage)),
    }
    Ok(())
}

fn ltx(decoder: &mut Decoder, file: &RemoteFile, mut bytes: &[u8]) -> Result<(), Damage> {
    while let Some(event) = decoder.next(&mut bytes)? {
        if let crate::ltx::Event::Header(header) = event
            && header.range != file.range
        {
            return Err(Damage::Name(header.range));
        }
    }
    Ok(())
}

/// Tries again when a listed file has vanished meanwhile.
async fn retried<T>(
    source: &Source<'_>,
    attempt: impl AsyncFn() -> Result<T, SourceError>,
) -> Result<T, RestoreError> {
    for _ in 0..ATTEMPTS {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(SourceError::Failed(error)) => return Err(error),
            Err(SourceError::Vanished) => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
        }
    }
    Err(RestoreError::Vanishing { replica: source.url().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deadline, TxidRange};
    use crate::store::layout::{Layout, Level};
    use crate::store::{Body, Object, Put, StoreError, StoreErrorKind, StoreFuture};
    use bytes::Bytes;
    use std::ops::Range;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Files 1 to 3; the first listings do not show the second one.
    struct Racing {
        gaps: u32,
        listings: AtomicU32,
    }

    fn unused<T>() -> Result<T, StoreError> {
        Err(StoreError::new(StoreErrorKind::Denied, "use", "r".to_owned(), "not in this test".to_owned()))
    }

    impl Store for Racing {
        fn url(&self) -> &str {
            "r"
        }

        fn layout(&self) -> Layout {
            Layout::Directory
        }

        fn list<'a>(&'a self, _: &'a str, _: Deadline) -> StoreFuture<'a, Vec<Object>> {
            let listing = self.listings.fetch_add(1, Ordering::Relaxed);
            let shown = (1..=3).filter(|number| *number != 2 || listing >= self.gaps);
            let object = |number| {
                let range = TxidRange::new(Txid(number), Txid(number)).unwrap();
                let level = if number == 1 { Level::SNAPSHOT } else { Level::RAW };
                Object { key: Layout::Directory.key(level, range), size: 300, modified_ms: 1 }
            };
            let objects = shown.map(object).collect();
            Box::pin(async { Ok(objects) })
        }

        fn get<'a>(&'a self, _: &'a str, _: Option<Range<u64>>, _: Deadline) -> StoreFuture<'a, Bytes> {
            Box::pin(async { unused() })
        }

        fn put_new<'a>(&'a self, _: &'a str, _: Body, _: i64, _: Deadline) -> StoreFuture<'a, Put> {
            Box::pin(async { unused() })
        }

        fn put<'a>(&'a self, _: &'a str, _: Bytes, _: Deadline) -> StoreFuture<'a, ()> {
            Box::pin(async { unused() })
        }

        fn delete<'a>(&'a self, _: &'a [String], _: Deadline) -> StoreFuture<'a, ()> {
            Box::pin(async { unused() })
        }
    }

    #[tokio::test]
    async fn only_a_gap_that_the_next_listing_has_too_is_damage() {
        for (gaps, listings, whole) in [(0, 1, true), (1, 2, true), (2, 2, false), (9, 2, false)] {
            let store = Racing { gaps, listings: AtomicU32::new(0) };
            let (settings, progress) = (RestoreSettings::default(), Progress::default());
            let source = Source::new(&store, &settings, &progress);
            let chosen =
                retried(&source, async || choose(&source, &source.listing().await?, Target::Latest).await)
                    .await;
            match chosen {
                Ok(Choice::Ltx { plan, .. }) => assert!(whole && plan.end == Txid(3), "{gaps}: {plan:?}"),
                Err(RestoreError::Incomplete { .. }) => assert!(!whole, "{gaps}"),
                other => panic!("{gaps}: {other:?}"),
            }
            assert_eq!(store.listings.load(Ordering::Relaxed), listings, "{gaps}");
        }
    }
}
