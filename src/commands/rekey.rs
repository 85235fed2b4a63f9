//! `litevisor rekey`: copies a replica to another place, encrypted for other keys, or plain. The old one is
//! only read, so that nothing is lost whenever the copy ends; a copy that was cut off is continued.

use super::error::{CommandError, ErrorKind};
use super::replicas::select;
use super::setup::{LogOf, runtime, with_environment};
use crate::config::replica_beside;
use crate::ltx::Header;
use crate::model::{DbPath, Deadline, Secret};
use crate::observe::say;
use crate::replica::{Listing, RemoteFile, Replica};
use crate::restore::{Progress, RestoreSettings, audit};
use crate::run::locks;
use crate::store::{
    self, AgeSettings, Body, Chunk, Put, Store, StoreError, StoreSettings, check_keys, retry,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of a file that are in memory at once. A file up to this size is put whole.
const PIECE: u64 = 4 << 20;
const TRY: Duration = Duration::from_secs(30);
/// A request is repeated for so long.
const PATIENCE: Duration = Duration::from_secs(300);
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekeyOptions {
    /// A configured database's path or a replica's URL.
    pub subject: OsString,
    /// Where the copy goes.
    pub to: String,
    /// Files with the copy's keys; neither: those of the configuration.
    pub identities: Option<PathBuf>,
    pub recipients: Option<PathBuf>,
    pub plain: bool,
}

pub fn rekey(file: Option<&Path>, options: &RekeyOptions) -> Result<u8, CommandError> {
    let selected = select(file, Some(&options.subject), LogOf::OneShot { json: false })?;
    let restore = selected.restore;
    let Some(from) = selected.replicas.into_iter().next() else {
        return Err(CommandError::new(ErrorKind::Empty, "there is no such replica"));
    };
    if let Some(db) = from.db.as_ref() {
        locks::lock(&DbPath::new(db.clone()), "").map_err(|owned| local(locks::refusal(&owned)))?;
    }
    let beside = with_environment(|environment| replica_beside(&options.to, &from.settings, environment))?;
    let to = StoreSettings { age: keys(options, &from.settings.age)?, ..beside };
    check_keys(&to.age).map_err(|problem| CommandError::new(ErrorKind::Local, problem))?;
    if to.same_service(&from.settings) && to.path == from.settings.path {
        return Err(local("the copy needs a place of its own: --to is the replica itself".to_owned()));
    }
    runtime()?.block_on(copy(&from.settings, &to, &restore))
}

fn local(message: String) -> CommandError {
    CommandError::new(ErrorKind::Local, message)
}

fn keys(options: &RekeyOptions, configured: &AgeSettings) -> Result<AgeSettings, CommandError> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        text.map(Secret::new)
            .map_err(|error| local(format!("cannot read the keys in {}: {error}", path.display())))
    };
    if options.plain {
        return Ok(AgeSettings::default());
    }
    let (identities, recipients) = (options.identities.as_ref(), options.recipients.as_ref());
    if identities.is_none() && recipients.is_none() {
        if *configured == AgeSettings::default() {
            let message = "there are no keys to encrypt the copy with: give --identities FILE";
            return Err(CommandError::new(ErrorKind::Usage, message));
        }
        return Ok(configured.clone());
    }
    let identities = identities.map(read).transpose()?.or_else(|| configured.identities.clone());
    Ok(AgeSettings { identities, recipients: recipients.map(read).transpose()? })
}

async fn copy(
    from: &StoreSettings,
    to: &StoreSettings,
    settings: &RestoreSettings,
) -> Result<u8, CommandError> {
    let (source, target) = (store::open(from)?, store::open(to)?);
    let files = source_files(&*source).await?;
    let names =
        |files: &[RemoteFile]| -> BTreeSet<_> { files.iter().map(|file| (file.level, file.range)).collect() };
    let wanted = names(&files);
    let foreign =
        listing(&*target).await?.files.into_iter().find(|file| !wanted.contains(&(file.level, file.range)));
    if let Some(foreign) = foreign {
        return Err(local(format!(
            "{} holds another replica ({}): give the copy an empty place",
            to.url, foreign.key
        )));
    }
    let mut copied = 0;
    let mut bytes = 0;
    for file in &files {
        let patience = Deadline::after(PATIENCE + slowest(file.size));
        let tell = |error: &StoreError, _| tracing::warn!("{error}; trying again");
        let done = retry::run(patience, TRY + slowest(file.size), tell, |by| {
            copy_file(&*source, &*target, file, by)
        })
        .await?;
        bytes += done.bytes;
        copied += usize::from(done.put == Put::Created);
        tracing::debug!("{} is copied", file.key);
    }
    let proof = audit(&*target, settings, &Progress::default()).await?;
    if let Some((key, damage)) = proof.damaged.first() {
        return Err(CommandError::new(
            ErrorKind::Damaged,
            format!("{key} in {} is damaged: {damage}", to.url),
        ));
    }
    if names(&listing(&*target).await?.files) != wanted || names(&source_files(&*source).await?) != wanted {
        return Err(local(format!(
            "{} has changed while it was copied: stop what writes to it, and run this again; what is copied \
             stays",
            from.url
        )));
    }
    let how = if to.age == AgeSettings::default() { "not encrypted" } else { "encrypted" };
    say(&format!(
        "{} is copied to {}, {how}: {} files ({copied} now), {bytes} bytes, each read back whole\nNow change \
         the url (and the age keys) in the configuration. Nothing was deleted in the old place\n",
        from.url,
        to.url,
        files.len()
    ));
    Ok(0)
}

async fn listing(store: &dyn Store) -> Result<Listing, StoreError> {
    let tell = |error: &StoreError, _| tracing::warn!("{error}; trying again");
    let objects = retry::run(Deadline::after(PATIENCE), TRY, tell, |by| store.list("", by)).await?;
    Ok(Listing::of(store.layout(), &objects))
}

/// Oldest first.
async fn source_files(store: &dyn Store) -> Result<Vec<RemoteFile>, CommandError> {
    let listing = listing(store).await?;
    match listing.replica() {
        Replica::Ends(_) => {}
        Replica::Empty => {
            return Err(CommandError::new(
                ErrorKind::Empty,
                format!("there is no replica in {}", store.url()),
            ));
        }
        Replica::V3 => {
            return Err(local(format!(
                "the newest data in {} is in Litestream 0.3's format, which is not copied: run the app under \
                 litevisor once",
                store.url()
            )));
        }
    }
    let mut files = listing.files;
    files.sort_by_key(|file| (file.range.max, file.level));
    Ok(files)
}

struct Copied {
    put: Put,
    bytes: u64,
}

async fn copy_file(
    source: &dyn Store,
    target: &dyn Store,
    file: &RemoteFile,
    by: Deadline,
) -> Result<Copied, StoreError> {
    let first = source.get(&file.key, Some(0..PIECE), by).await?;
    let subject = || format!("{}/{}", source.url(), file.key);
    let header = Header::from_start(&first).map_err(|error| {
        StoreError::new(store::StoreErrorKind::Damaged, "read", subject(), error.to_string())
    })?;
    let key = target.layout().key(file.level, file.range);
    let time = header.timestamp_ms;
    if (first.len() as u64) < PIECE {
        let bytes = first.len() as u64;
        let put = target.put_new(&key, Body::Whole(first), time, by).await?;
        return Ok(Copied { put, bytes });
    }
    let (sender, receiver) = mpsc::channel(1);
    let put = target.put_new(&key, Body::Stream(receiver), time, by);
    let (put, sent) = tokio::join!(put, send(source, file, first, sender, by));
    let bytes = sent?;
    Ok(Copied { put: put?, bytes })
}

/// The rest of the file behind its first piece.
async fn send(
    source: &dyn Store,
    file: &RemoteFile,
    first: Bytes,
    to: mpsc::Sender<Chunk>,
    by: Deadline,
) -> Result<u64, StoreError> {
    let mut piece = first;
    let mut sent = 0;
    loop {
        let is_last = (piece.len() as u64) < PIECE;
        sent += piece.len() as u64;
        // The target says itself why it takes no more.
        if to.send(Chunk::Data(piece)).await.is_err() {
            return Ok(sent);
        }
        if is_last || sent >= file.size {
            let _ = to.send(Chunk::End).await;
            return Ok(sent);
        }
        piece = source.get(&file.key, Some(sent..sent + PIECE), by).await?;
    }
}

fn slowest(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}
