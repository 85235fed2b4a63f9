//! Wakes a database's task when its files change. One inotify instance for all databases; each is watched through its
//! directory, so that files may come and go. In: paths. Out: `Notify`s. A file system that reports nothing is covered by
//! the tasks' own slow tick.

use crate::model::DbPath;
use nix::errno::Errno;
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

/// A directory that is not there yet is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

type Watched = HashMap<(WatchDescriptor, OsString), Arc<Notify>>;
type Databases = Vec<(DbPath, Arc<Notify>)>;

/// Watches until the returned future is dropped. Directories that cannot be watched are left to the tick.
pub async fn run(databases: Databases) {
    let Some(inotify) = start() else { return };
    let (mut watched, mut missing) = (Watched::new(), databases.clone());
    add(&inotify.get_ref().0, &mut watched, &mut missing);
    loop {
        let readable = async {
            // The app may make its directory, or make it anew, whenever it likes.
            let limit = if missing.is_empty() { Duration::MAX } else { LOOK_AGAIN };
            tokio::time::timeout(limit, inotify.readable()).await
        };
        let events = match readable.await {
            Ok(Ok(mut ready)) => {
                let events = inotify.get_ref().0.read_events();
                ready.clear_ready();
                events.unwrap_or_default()
            }
            Ok(Err(_)) => return,
            Err(_) => Vec::new(),
        };
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                databases.iter().for_each(|(_, notify)| notify.notify_one());
            }
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                watched.retain(|(descriptor, _), _| *descriptor != event.wd);
                missing = unwatched(&databases, &watched);
            }
            if let Some(notify) = event.name.and_then(|name| watched.get(&(event.wd, name))) {
                notify.notify_one();
            }
        }
        add(&inotify.get_ref().0, &mut watched, &mut missing);
        tokio::time::sleep(REST).await;
    }
}

fn start() -> Option<AsyncFd<Source>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .inspect_err(|errno| tracing::warn!(%errno, "inotify is not to be had; commits are noticed once a second"))
        .ok()?;
    // SAFETY: `Source` owns its descriptor, and names the same one until it is dropped.
    unsafe { AsyncFd::register(Source(inotify)) }.ok()
}

/// Those whose `Notify` nobody would ring.
fn unwatched(databases: &Databases, watched: &Watched) -> Databases {
    let rung = |notify: &Arc<Notify>| watched.values().any(|known| Arc::ptr_eq(known, notify));
    databases.iter().filter(|(_, notify)| !rung(notify)).cloned().collect()
}

/// Watches the directories of `missing`, and keeps in it those that are not there yet.
fn add(inotify: &Inotify, watched: &mut Watched, missing: &mut Databases) {
    let kinds = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    missing.retain(|(path, notify)| match inotify.add_watch(path.directory(), kinds) {
        Ok(descriptor) => {
            for name in [path.file_name(), path.wal().file_name().map(OsString::from).unwrap_or_default()] {
                watched.insert((descriptor, name), Arc::clone(notify));
            }
            // What was there before the watch rings for nobody.
            notify.notify_one();
            false
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => true,
        Err(errno) => {
            tracing::warn!(
                db = %path, %errno,
                "the database's directory cannot be watched; commits are noticed once a second"
            );
            false
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes until the watcher rings: it may not be there yet.
    async fn rings(notify: &Notify, path: &DbPath) {
        let rung = notify.notified();
        let mut rung = std::pin::pin!(rung);
        let give_up = tokio::time::Instant::now() + Duration::from_secs(20);
        while tokio::time::timeout(Duration::from_millis(20), &mut rung).await.is_err() {
            assert!(tokio::time::Instant::now() < give_up, "nobody rings for {path}");
            let _ = std::fs::write(path.wal(), b"x");
        }
    }

    #[tokio::test]
    async fn a_directory_may_come_late_and_go_and_come_again() {
        let root = tempfile::tempdir().unwrap();
        let late = DbPath::new(root.path().join("made/by/the/app/app.db"));
        let notify = Arc::new(Notify::new());
        let watching = tokio::spawn(run(vec![(late.clone(), Arc::clone(&notify))]));
        for _ in 0..2 {
            std::fs::create_dir_all(late.directory()).unwrap();
            rings(&notify, &late).await;
            // The ring of the watch itself may have come first: the second one is for a file.
            rings(&notify, &late).await;
            std::fs::remove_dir_all(root.path().join("made")).unwrap();
        }
        watching.abort();
    }
}
