//! `litevisor follow`: keeps a file up with a replica until SIGTERM or SIGINT, without an app.

use super::error::{CommandError, ErrorKind};
use super::replicas::{named, replica_url};
use super::setup::{LogOf, configured, start_log, with_environment};
use crate::config::{Additions, FollowSettings, LogSettings, Purpose, replica_from_url};
use crate::model::{DbPath, Signal};
use crate::observe::follow::FollowStatus;
use crate::restore::{Owners, Progress, RestoreErrorKind, RestoreSettings};
use crate::run::follow::copy::{Copy, CopyError};
use crate::run::follow::of_copy;
use crate::run::locks;
use crate::store::{self, StoreSettings};
use crate::supervise::{Claimed, Meaning, Watch, meaning};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// An unoptimised build needs much for the futures of requests. Only the pages that are used cost memory.
const STACK: usize = 8 << 20;
const BLOCKING_THREADS: usize = 4;
/// For a step that is being written when the signal comes.
const CLOSING: Duration = Duration::from_secs(5);

pub struct FollowOptions {
    /// A configured database's path or a replica's URL.
    pub subject: OsString,
    pub out: PathBuf,
    pub poll: Option<Duration>,
    /// End when the file has everything that is in the replica.
    pub once: bool,
}

pub fn follow(file: Option<&Path>, options: &FollowOptions, claimed: Claimed) -> Result<u8, CommandError> {
    let (replica, restore, follow) = source(file, options)?;
    let follow = FollowSettings { poll: options.poll.unwrap_or(follow.poll), ..follow };
    let follow = FollowSettings { max_lag: follow.max_lag.max(follow.poll.saturating_mul(2)), ..follow };
    let out = std::path::absolute(&options.out)
        .map_err(|error| local(&format!("cannot find {}: {error}", options.out.display())))?;
    let db = DbPath::new(out);
    locks::lock(&db, "").map_err(|owned| local(&locks::refusal(&owned)))?;
    let store = store::open(&replica)?;
    let status = FollowStatus::new(follow.max_lag);
    let owners = of_copy(&db, Owners::default());
    let copy = Copy { db, store, restore, owners, follow, status };
    watch(claimed, copy, options.once)
}

/// The replica, and what the configuration says, if it is needed to find the replica.
fn source(
    file: Option<&Path>,
    options: &FollowOptions,
) -> Result<(StoreSettings, RestoreSettings, FollowSettings), CommandError> {
    if let Some(url) = replica_url(&options.subject, true) {
        let replica = with_environment(|environment| replica_from_url(url, environment))?;
        start_log(&LogSettings::default(), LogOf::Service);
        return Ok((replica, RestoreSettings::default(), FollowSettings::DEFAULT));
    }
    let config = configured(file, &Additions::default(), Purpose::Databases, LogOf::Service)?.config;
    let database = named(&options.subject, &config, &std::env::current_dir().unwrap_or_default())?;
    Ok((database.replica, config.restore, config.follow.unwrap_or(FollowSettings::DEFAULT)))
}

/// Follows on another thread, while this one waits for the signals.
fn watch(claimed: Claimed, copy: Copy, once: bool) -> Result<u8, CommandError> {
    let failed =
        |error: std::io::Error| CommandError::new(ErrorKind::Internal, format!("cannot start: {error}"));
    let watch = Watch::new(claimed).map_err(failed)?;
    let (waker, (stop, stopped), (sender, ended)) = (watch.waker(), oneshot::channel(), channel());
    let follows = move || {
        let _ = sender.send(run(&copy, once, stopped));
        waker.wake();
    };
    std::thread::Builder::new().name("follow".into()).stack_size(STACK).spawn(follows).map_err(failed)?;
    wait(&watch, stop, &ended)
}

fn wait(
    watch: &Watch,
    stop: oneshot::Sender<()>,
    ended: &Receiver<Result<(), CommandError>>,
) -> Result<u8, CommandError> {
    loop {
        if let Ok(result) = ended.try_recv() {
            return result.map(|()| 0);
        }
        match watch.signal().map(|received| meaning(received, std::process::id(), Signal::TERM, false)) {
            Some(Meaning::Stop(signal)) => {
                tracing::info!("{signal} received: not following any more");
                let _ = stop.send(());
                return ended.recv_timeout(CLOSING).unwrap_or(Ok(())).map(|()| 0);
            }
            Some(_) => {}
            None => watch.wait(None),
        }
    }
}

/// Until the end (`once`), a failure before the copy is there, or a stop.
fn run(copy: &Copy, once: bool, stop: oneshot::Receiver<()>) -> Result<(), CommandError> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| {
            CommandError::new(ErrorKind::Internal, format!("cannot start the runtime: {error}"))
        })?;
    let result = built.block_on(async {
        tokio::select! {
            _ = stop => Ok(()),
            result = follows(copy, once) => result,
        }
    });
    // A step that is being written ends.
    built.shutdown_timeout(CLOSING);
    result
}

async fn follows(copy: &Copy, once: bool) -> Result<(), CommandError> {
    let follower = copy.prepare(&Progress::default(), false).await.map_err(|error| failure(&error))?;
    let poll = u64::try_from(copy.follow.poll.as_millis()).unwrap_or(u64::MAX);
    let txid = copy.status.view().position;
    if once {
        tracing::info!(db = %copy.db, replica = copy.store.url(), %txid, "the file has what is in the \
            replica");
        return Ok(());
    }
    tracing::info!(db = %copy.db, replica = copy.store.url(), %txid, poll_ms = poll, "following");
    copy.follow(follower).await;
    Ok(())
}

fn failure(error: &CopyError) -> CommandError {
    let kind = match error.kind() {
        RestoreErrorKind::Damaged => ErrorKind::Damaged,
        RestoreErrorKind::Unavailable => ErrorKind::Unavailable,
        RestoreErrorKind::NothingThere => ErrorKind::Empty,
        RestoreErrorKind::Local => ErrorKind::Local,
    };
    CommandError::new(kind, error)
}

fn local(message: &str) -> CommandError {
    CommandError::new(ErrorKind::Local, message)
}
