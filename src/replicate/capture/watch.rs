//! Wakes a database's task when its files change. One inotify instance for all databases; each is watched
//! through its directory, so that files may come and go. A file system that reports nothing is covered by one
//! slow tick for all of them: two `stat`s each. What changed is noted in the status.

use crate::model::DbPath;
use crate::replicate::signs::Signs;
use crate::replicate::status::StatusCell;
use crate::sqlite;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// The files are looked at this often even when nothing reports a change; what waits for its moment is tried
/// as often.
pub const TICK: Duration = Duration::from_secs(1);
/// After a wake-up the watcher rests, so that an app with thousands of commits a second costs a hundred
/// wake-ups.
const REST: Duration = Duration::from_millis(10);
/// A directory that is not there yet is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Looks of the tick between two turns of the others on this thread.
const AT_A_TIME: usize = 64;

struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Wakes one database's task.
#[derive(Clone, Default)]
pub struct TaskWaker {
    pub changed: Arc<Notify>,
    pub status: Arc<StatusCell>,
}

impl TaskWaker {
    fn wake(&self) {
        self.status.written();
        self.changed.notify_one();
    }
}

enum Request {
    Add(DbPath, TaskWaker),
    CatchUp(oneshot::Sender<()>),
}

/// Watches until the last clone is dropped. A database that is added later is watched, too.
#[derive(Clone)]
pub struct Watcher(mpsc::UnboundedSender<Request>);

impl Watcher {
    /// On the current runtime.
    pub fn start() -> Watcher {
        let (sender, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(inbox));
        Watcher(sender)
    }

    pub fn add(&self, db: DbPath, waker: TaskWaker) {
        let _ = self.0.send(Request::Add(db, waker));
    }

    /// Returns once everything is noted that the kernel has reported until now.
    pub async fn catch_up(&self) {
        let (done, noted) = oneshot::channel();
        let _ = self.0.send(Request::CatchUp(done));
        let _ = noted.await;
    }
}

/// What a change shows in: size and time of the file and of its WAL.
pub type Stat = [Option<(u64, SystemTime)>; 2];

struct Database {
    path: DbPath,
    waker: TaskWaker,
    /// None: not looked at yet. The first look wakes the task: no wake-up came for what changed before it.
    stat: Option<Stat>,
    /// Its directory is not there yet.
    missing: bool,
}

/// Which of a database's files a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Database,
    Wal,
    Index,
}

#[derive(Default)]
struct Watch {
    names: HashMap<(WatchDescriptor, OsString), (Part, TaskWaker)>,
    databases: Vec<Database>,
}

async fn run(mut inbox: mpsc::UnboundedReceiver<Request>) {
    let inotify = start();
    let source = inotify.as_ref().map(|inotify| &inotify.get_ref().0);
    let mut watch = Watch::default();
    let mut tick = Instant::now() + TICK;
    loop {
        // The app may make its directory, or make it anew, whenever it likes.
        let again = Instant::now() + LOOK_AGAIN;
        let wake =
            if watch.databases.iter().any(|database| database.missing) { tick.min(again) } else { tick };
        tokio::select! {
            added = inbox.recv() => match added {
                None => return,
                Some(Request::Add(path, waker)) => {
                    watch.databases.push(Database { path, waker, stat: None, missing: true });
                }
                Some(Request::CatchUp(done)) => {
                    while let Some(Ok(events)) = source.map(Inotify::read_events) {
                        watch.wake(events);
                    }
                    let _ = done.send(());
                }
            },
            events = events(inotify.as_ref()) => {
                let woken = watch.wake(events);
                watch.watch_missing(source);
                if woken {
                    tokio::time::sleep(REST).await;
                }
                continue;
            }
            () = tokio::time::sleep_until(wake), if !watch.databases.is_empty() => {}
        }
        watch.watch_missing(source);
        if Instant::now() >= tick {
            watch.tick().await;
            tick = Instant::now() + TICK;
        }
    }
}

/// What the kernel reports next; never anything without inotify.
async fn events(inotify: Option<&AsyncFd<Source>>) -> Vec<InotifyEvent> {
    let Some(inotify) = inotify else { return std::future::pending().await };
    let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
    let events = inotify.get_ref().0.read_events();
    ready.clear_ready();
    events.unwrap_or_default()
}

impl Watch {
    /// Wakes the tasks that the events are about. False: there were changes of owner or mode alone.
    fn wake(&mut self, events: Vec<InotifyEvent>) -> bool {
        let mut woken = false;
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_ATTRIB) {
                self.follow_owner(&event);
                continue;
            }
            if event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
                self.note_closing(&event);
                continue;
            }
            woken = true;
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                self.databases.iter().for_each(|database| {
                    // It may be among what was not reported.
                    database.waker.status.index_created();
                    database.waker.status.signs(Signs::shared);
                    database.waker.wake();
                });
            }
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                self.names.retain(|(descriptor, _), _| *descriptor != event.wd);
                self.find_missing();
            }
            let created = event.mask.contains(AddWatchFlags::IN_CREATE);
            let Some((part, waker)) = event.name.and_then(|name| self.names.get(&(event.wd, name))) else {
                continue;
            };
            match part {
                Part::Index if created => {
                    waker.status.index_created();
                    waker.changed.notify_one();
                }
                Part::Index => {}
                Part::Wal if created => {
                    waker.status.wal_created();
                    waker.wake();
                }
                Part::Wal => {
                    waker.status.signs(Signs::shared);
                    waker.wake();
                }
                Part::Database => {
                    if created {
                        waker.status.database_created();
                    }
                    waker.wake();
                }
            }
        }
        woken
    }

    /// A process that could write has closed a file.
    fn note_closing(&self, event: &InotifyEvent) {
        let named = event.name.as_ref().and_then(|name| self.names.get(&(event.wd, name.clone())));
        let Some((part, TaskWaker { status, .. })) = named else { return };
        match part {
            Part::Database => {
                status.signs(Signs::database_closed);
                status.suspect_lockout();
            }
            Part::Index => status.signs(Signs::shared),
            Part::Wal => {}
        }
    }

    /// An image's entrypoint gives the database to the app's user and starts the app: the side files must be
    /// that user's before it opens them, so this does not wait for the database's task.
    fn follow_owner(&self, event: &InotifyEvent) {
        let named = event.name.as_ref().and_then(|name| self.names.get(&(event.wd, name.clone())));
        let Some((_, waker)) = named.filter(|(part, _)| *part != Part::Index) else { return };
        let same = |database: &&Database| Arc::ptr_eq(&database.waker.changed, &waker.changed);
        self.databases.iter().filter(same).for_each(|database| sqlite::follow_owner(&database.path));
    }

    /// Finds the databases whose task no watch would wake.
    fn find_missing(&mut self) {
        for database in &mut self.databases {
            let own = &database.waker.changed;
            database.missing = !self.names.values().any(|(_, known)| Arc::ptr_eq(&known.changed, own));
        }
    }

    /// Watches the directories that have come meanwhile. Those that cannot be watched are left to the tick.
    fn watch_missing(&mut self, inotify: Option<&Inotify>) {
        let contents = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let kinds = contents | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE_WRITE;
        for Database { path, waker, missing, .. } in
            self.databases.iter_mut().filter(|database| database.missing)
        {
            let Some(inotify) = inotify else {
                *missing = false;
                continue;
            };
            match inotify.add_watch(path.directory(), kinds) {
                Ok(descriptor) => {
                    let parts = [
                        (Part::Database, path.as_path()),
                        (Part::Wal, &path.wal()),
                        (Part::Index, &path.shm()),
                    ];
                    for (part, file) in parts {
                        let name = file.file_name().map(OsString::from).unwrap_or_default();
                        self.names.insert((descriptor, name), (part, waker.clone()));
                    }
                    if path.shm().exists() {
                        waker.status.index_created();
                    }
                    // No wake-up came for what was there before the watch.
                    waker.wake();
                    sqlite::follow_owner(path);
                    *missing = false;
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => {
                    tracing::warn!(
                        db = %path, %errno,
                        "the database's directory cannot be watched; commits are noticed once a second"
                    );
                    *missing = false;
                }
            }
        }
    }

    /// Wakes the task of every database that does not look as it did, and notes an app that cannot open its
    /// database.
    async fn tick(&mut self) {
        for some in self.databases.chunks_mut(AT_A_TIME) {
            for database in some {
                if sqlite::exclusive::claimant(&database.path).is_some() {
                    database.waker.status.suspect_lockout();
                }
                let stat = stat(&database.path);
                if database.stat != Some(stat) {
                    database.stat = Some(stat);
                    database.waker.wake();
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Two `stat`s.
pub fn stat(db: &DbPath) -> Stat {
    [db.as_path(), &db.wal()].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.len(), meta.modified().ok()?))
    })
}

fn start() -> Option<AsyncFd<Source>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .inspect_err(
            |errno| tracing::warn!(%errno, "inotify is not available; commits are noticed once a second"),
        )
        .ok()?;
    // SAFETY: `Source` owns its descriptor, and names the same one until it is dropped.
    unsafe { AsyncFd::register(Source(inotify)) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes until the watcher wakes the task: it may not be there yet.
    async fn wakes(notify: &Notify, path: &DbPath) {
        let rung = notify.notified();
        let mut rung = std::pin::pin!(rung);
        let give_up = tokio::time::Instant::now() + Duration::from_secs(20);
        while tokio::time::timeout(Duration::from_millis(20), &mut rung).await.is_err() {
            assert!(tokio::time::Instant::now() < give_up, "no wake-up for {path}");
            let _ = std::fs::write(path.wal(), b"x");
        }
    }

    #[tokio::test]
    async fn a_directory_may_come_late_and_go_and_come_again() {
        let root = tempfile::tempdir().unwrap();
        let late = DbPath::new(root.path().join("made/by/the/app/app.db"));
        let notify = Arc::new(Notify::new());
        let watcher = Watcher::start();
        watcher.add(late.clone(), TaskWaker { changed: Arc::clone(&notify), ..TaskWaker::default() });
        for _ in 0..2 {
            std::fs::create_dir_all(late.directory()).unwrap();
            wakes(&notify, &late).await;
            // The wake-up of the watch itself may have come first: the second one is for a file.
            wakes(&notify, &late).await;
            std::fs::remove_dir_all(root.path().join("made")).unwrap();
        }
    }

    /// The database's own name may end like that of a WAL.
    #[tokio::test]
    async fn a_wal_that_is_created_without_a_wal_index_is_noted() {
        let root = tempfile::tempdir().unwrap();
        let db = DbPath::new(root.path().join("odd-wal"));
        let (waker, watcher) = (TaskWaker::default(), Watcher::start());
        watcher.add(db.clone(), waker.clone());
        waker.changed.notified().await;
        let soon = async |file: &std::path::Path, noted: bool| {
            std::fs::write(file, "x").unwrap();
            let give_up = Instant::now() + Duration::from_secs(20);
            loop {
                let rung = tokio::time::timeout_at(give_up, waker.changed.notified()).await;
                assert!(rung.is_ok(), "no wake-up for {}", file.display());
                if waker.status.without_index_for().is_some() == noted {
                    return;
                }
            }
        };
        soon(db.as_path(), false).await;
        soon(&db.wal(), true).await;
        soon(&db.shm(), false).await;
    }

    /// The app creates its database with `locking_mode = EXCLUSIVE`, closes it and exits before the watcher
    /// runs.
    #[tokio::test]
    async fn what_the_kernel_has_reported_is_noted_after_catching_up() {
        let root = tempfile::tempdir().unwrap();
        let db = DbPath::new(root.path().join("app.db"));
        let (waker, watcher) = (TaskWaker::default(), Watcher::start());
        watcher.add(db.clone(), waker.clone());
        waker.changed.notified().await;
        std::fs::write(db.wal(), "x").unwrap();
        std::fs::remove_file(db.wal()).unwrap();
        assert_eq!(waker.status.without_index_for(), None, "the watcher has not run");
        watcher.catch_up().await;
        assert!(waker.status.without_index_for().is_some());
    }

    /// A file system that reports nothing: the watcher without inotify.
    #[tokio::test]
    async fn the_tick_wakes_for_what_changed_and_for_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::default();
        for name in ["a.db", "b.db"] {
            let path = DbPath::new(root.path().join(name));
            watch.databases.push(Database { path, waker: TaskWaker::default(), stat: None, missing: false });
        }
        let changed: Vec<_> =
            watch.databases.iter().map(|database| Arc::clone(&database.waker.changed)).collect();
        let rung = async |watch: &mut Watch| {
            watch.tick().await;
            let mut rung = Vec::new();
            for changed in &changed {
                rung.push(tokio::time::timeout(Duration::ZERO, changed.notified()).await.is_ok());
            }
            rung
        };
        assert_eq!(rung(&mut watch).await, [true, true], "the first look");
        assert_eq!(rung(&mut watch).await, [false, false]);
        std::fs::write(root.path().join("b.db-wal"), "x").unwrap();
        assert_eq!(rung(&mut watch).await, [false, true]);
        std::fs::write(root.path().join("a.db"), "x").unwrap();
        assert_eq!(rung(&mut watch).await, [true, false]);
        std::fs::remove_file(root.path().join("a.db")).unwrap();
        assert_eq!(rung(&mut watch).await, [true, false]);
    }
}
