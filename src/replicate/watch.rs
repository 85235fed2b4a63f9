//! Wakes a database's task when its files change. One inotify instance for all databases; each is watched through its
//! directory, so that files may come and go. In: paths. Out: `Notify`s. A file system that reports nothing is covered by
//! the tasks' own slow tick.

use crate::model::DbPath;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// After a wake-up the watcher rests, so that an app with thousands of commits a second costs a hundred wake-ups.
const REST: Duration = Duration::from_millis(10);

struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

type Watched = HashMap<(WatchDescriptor, OsString), Arc<Notify>>;

/// Watches until the returned future is dropped. Directories that cannot be watched are left to the tick.
pub async fn run(databases: Vec<(DbPath, Arc<Notify>)>) {
    let Some((inotify, watched)) = start(&databases) else { return };
    loop {
        let Ok(mut ready) = inotify.readable().await else { return };
        let events = inotify.get_ref().0.read_events();
        ready.clear_ready();
        for event in events.unwrap_or_default() {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                databases.iter().for_each(|(_, notify)| notify.notify_one());
            }
            if let Some(notify) = event.name.and_then(|name| watched.get(&(event.wd, name))) {
                notify.notify_one();
            }
        }
        tokio::time::sleep(REST).await;
    }
}

fn start(databases: &[(DbPath, Arc<Notify>)]) -> Option<(AsyncFd<Source>, Watched)> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .inspect_err(|errno| tracing::warn!(%errno, "inotify is not to be had; commits are noticed once a second"))
        .ok()?;
    let mut watched = Watched::new();
    let kinds = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    for (path, notify) in databases {
        match inotify.add_watch(path.directory(), kinds) {
            Ok(descriptor) => {
                for name in [path.file_name(), path.wal().file_name().map(OsString::from).unwrap_or_default()] {
                    watched.insert((descriptor, name), Arc::clone(notify));
                }
            }
            Err(errno) => tracing::warn!(
                db = %path, %errno,
                "the database's directory cannot be watched; commits are noticed once a second"
            ),
        }
    }
    // SAFETY: `Source` owns its descriptor, and names the same one until it is dropped.
    let source = unsafe { AsyncFd::register(Source(inotify)) };
    Some((source.ok()?, watched))
}
