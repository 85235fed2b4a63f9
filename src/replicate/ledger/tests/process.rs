//! The ledger with the real task, beside SQLite in another process: POSIX locks and mapped memory count there
//! only. The runtime has one thread, and it runs nothing while a test does not await: a look then sees what
//! no task can have noticed yet.

use crate::model::{DbPath, Durability, DurabilityLedger, Fenced, Ticket};
use crate::replicate::{Handle, Ledger, ReplicateSettings, Replicator, Target, Wanted};
use crate::store::faulty::{Call, Fault, Faulty};
use crate::store::layout::Level;
use crate::store::{Body, Scheme, Store, StoreErrorKind, StoreSettings};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs SQL in a process of its own; each statement is committed when `run` returns.
struct App {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl App {
    fn open(db: &DbPath) -> App {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=60, \
            isolation_level=None)\n\
                      for line in sys.stdin:\n    r = c.execute(line).fetchall()\n    print(r[0][0] if r \
                      else '-', flush=True)";
        let mut process = Command::new("python3")
            .args(["-c", script])
            .arg(db.as_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        App { input: process.stdin.take(), process, output }
    }

    fn run(&mut self, sql: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{sql}").unwrap();
        self.output.next().unwrap().unwrap()
    }

    fn insert(&mut self) {
        self.run("INSERT INTO t VALUES (randomblob(900))");
    }

    fn exit(mut self) {
        drop(self.input.take());
        self.process.wait().unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Without a shell: this process must not open the files of a database itself.
fn elsewhere(program: &str, arguments: &[&std::path::Path]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

struct Site {
    dir: tempfile::TempDir,
    db: DbPath,
    store: Arc<Faulty>,
    ledger: Arc<Ledger>,
    replicator: Replicator,
}

impl Site {
    /// Uploads are an hour apart, unless somebody asks.
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        let replica = dir.path().join("replica").display().to_string();
        let settings = StoreSettings::new(Scheme::File, format!("file://{replica}"), String::new(), replica);
        let store = Arc::new(Faulty::new(crate::store::open(&settings).unwrap()));
        let ledger = Ledger::new();
        let (conflict, _) = tokio::sync::mpsc::unbounded_channel();
        let replicator = Replicator::new(conflict, Some(Arc::clone(&ledger)));
        Site { dir, db, store, ledger, replicator }
    }

    fn start(&self) -> Handle {
        let settings =
            ReplicateSettings { sync_interval: Duration::from_secs(3600), ..ReplicateSettings::default() };
        let target = Target { db: self.db.clone(), store: self.store.clone(), settings, late: false };
        let handle = self.replicator.start(target, None);
        self.ledger.complete();
        handle
    }

    /// A database with one table, replicated and durable.
    async fn with_app() -> (Site, Handle, App) {
        let site = Site::new();
        let mut app = App::open(&site.db);
        app.run("PRAGMA journal_mode=wal");
        app.run("CREATE TABLE t(x)");
        let handle = site.start();
        site.until_durable().await;
        (site, handle, app)
    }

    fn is_durable(&self) -> bool {
        self.ledger.look() == Durability::Durable
    }

    fn pending(&self) -> Ticket {
        match self.ledger.look() {
            Durability::Pending(ticket) => ticket,
            Durability::Durable => panic!("something is committed and not uploaded"),
        }
    }

    async fn uploaded(&self, ticket: Ticket) -> Result<(), Fenced> {
        let uploaded = tokio::time::timeout(LIMIT, self.ledger.uploaded(ticket)).await;
        uploaded.unwrap_or_else(|_| panic!("not uploaded: {:?}", self.ledger.unprovable()))
    }

    /// As the gate does it.
    async fn until_durable(&self) {
        if let Durability::Pending(ticket) = self.ledger.look() {
            self.ledger.request_upload();
            self.uploaded(ticket).await.unwrap();
        }
    }

    /// Until nothing can be proven for this reason.
    async fn until_unprovable(&self, why: &str) {
        let told = async {
            while !self.ledger.unprovable().iter().any(|(_, told)| told.contains(why)) {
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(LIMIT, told).await;
        assert!(told.is_ok(), "{why:?} is not in {:?}", self.ledger.unprovable());
    }
}

#[tokio::test]
async fn a_commit_is_open_until_it_is_uploaded_and_an_ask_starts_its_upload() {
    let (site, _handle, mut app) = Site::with_app().await;
    for round in 0..3 {
        app.run("SELECT count(*) FROM t");
        assert!(site.is_durable(), "nothing was committed");
        app.insert();
        let ticket = site.pending();
        let before = site.store.count(Call::PutNew);
        site.ledger.request_upload();
        site.uploaded(ticket).await.unwrap();
        assert!(site.store.count(Call::PutNew) > before);
        assert!(site.is_durable(), "round {round}");
    }
}

#[tokio::test]
async fn nothing_is_durable_while_the_store_is_away() {
    let (site, _handle, mut app) = Site::with_app().await;
    site.store.all(Some(Call::PutNew), Fault::Fail(StoreErrorKind::Unreachable));
    app.insert();
    let first = site.pending();
    site.ledger.request_upload();
    let away = tokio::time::timeout(Duration::from_millis(300), site.ledger.uploaded(first)).await;
    assert!(away.is_err(), "the store is away");
    app.insert();
    let second = site.pending();
    site.store.heal();
    site.ledger.request_upload();
    site.uploaded(second).await.unwrap();
    site.uploaded(first).await.unwrap();
    assert!(site.is_durable());
}

/// Checkpoints of the app change the header, and are no commits; ours come beside.
#[tokio::test]
async fn a_checkpoint_is_proven_anew() {
    let (site, _handle, mut app) = Site::with_app().await;
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE", "TRUNCATE"] {
        app.insert();
        site.until_durable().await;
        // It waits for the hold, which the task moves out of its way.
        let checkpoint = move || {
            app.run(&format!("PRAGMA wal_checkpoint({mode})"));
            app
        };
        app = tokio::task::spawn_blocking(checkpoint).await.unwrap();
        site.until_durable().await;
        assert!(site.is_durable(), "{mode}");
        // The writer restarts the WAL, and commits nothing.
        app.run("BEGIN IMMEDIATE");
        app.insert();
        app.run("ROLLBACK");
        site.until_durable().await;
    }
}

/// Hundreds of asks cost as many uploads as there were commits at most, and no other requests.
#[tokio::test]
async fn asks_are_shared_and_cost_nothing_beside_the_upload() {
    let (site, _handle, mut app) = Site::with_app().await;
    let others = || [Call::Get, Call::List, Call::Delete].map(|call| site.store.count(call));
    let before = others();
    let puts = site.store.count(Call::PutNew);
    for _ in 0..20 {
        app.insert();
        let ticket = site.pending();
        (0..50).for_each(|_| site.ledger.request_upload());
        let waiting = (0..50).map(|_| site.ledger.uploaded(ticket));
        for uploaded in waiting {
            tokio::time::timeout(LIMIT, uploaded).await.unwrap().unwrap();
        }
    }
    assert_eq!(others(), before);
    let puts = site.store.count(Call::PutNew) - puts;
    // The first snapshot may come meanwhile.
    assert!(puts <= 21, "{puts} uploads for 20 commits");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_durable_until_it_does() {
    let site = Site::new();
    assert!(!site.is_durable(), "replication has not begun");
    site.ledger.complete();
    let _handle = site.start();
    site.until_durable().await;
    assert!(site.is_durable(), "{:?}", site.ledger.unprovable());
    let mut app = App::open(&site.db);
    app.run("CREATE TABLE t(x)");
    let ticket = site.pending();
    assert!(!site.ledger.unprovable().is_empty());
    // Replication begins when the database is quiet, or is asked for a while.
    site.uploaded(ticket).await.unwrap();
    app.insert();
    site.until_durable().await;
}

#[tokio::test]
async fn an_app_that_locks_the_whole_database_is_named() {
    let site = Site::new();
    let handle = site.start();
    site.until_durable().await;
    let mut app = App::open(&site.db);
    app.run("PRAGMA locking_mode=exclusive");
    app.run("PRAGMA journal_mode=wal");
    app.run("CREATE TABLE t(x)");
    let ticket = site.pending();
    site.until_unprovable("locking_mode = EXCLUSIVE").await;
    app.exit();
    assert!(tokio::time::timeout(LIMIT, handle.flush(true)).await.unwrap().is_some());
    site.uploaded(ticket).await.unwrap();
    assert!(site.is_durable());
}

#[tokio::test]
async fn after_the_last_flush_everything_is_durable() {
    let (site, handle, mut app) = Site::with_app().await;
    app.insert();
    let ticket = site.pending();
    app.exit();
    assert!(tokio::time::timeout(LIMIT, handle.flush(true)).await.unwrap().is_some());
    handle.ended().await;
    site.uploaded(ticket).await.unwrap();
    assert!(!site.db.wal().exists());
    assert!(site.is_durable());
    App::open(&site.db).insert();
    site.pending();
}

#[tokio::test]
async fn files_that_were_replaced_are_noticed_by_the_look_itself() {
    let (site, _handle, mut app) = Site::with_app().await;
    app.run(
        "VACUUM INTO 'OTHER'"
            .replace("OTHER", &site.dir.path().join("other.db").display().to_string())
            .as_str(),
    );
    assert!(site.is_durable());
    elsewhere("mv", &[&site.dir.path().join("other.db"), site.db.as_path()]);
    assert!(!site.is_durable());
    drop(app);
    site.until_durable().await;
}

#[tokio::test]
async fn a_wal_index_that_was_truncated_proves_nothing() {
    let (site, _handle, app) = Site::with_app().await;
    drop(app);
    elsewhere("truncate", &["-s0".as_ref(), &site.db.shm()]);
    assert!(!site.is_durable());
}

fn databases(below: bool) -> Wanted {
    let takes = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".db");
    Wanted { takes: Box::new(takes), enters: Box::new(move |_| below) }
}

/// Directories that are made, moved and removed while the ledger is not looked at.
#[tokio::test]
async fn a_database_that_appears_in_a_subdirectory_is_open_at_once() {
    let (site, _handle, _app) = Site::with_app().await;
    let root = site.dir.path().join("tenants");
    let at = |path: &str| DbPath::new(root.join(path));
    let appears = |path: &str| {
        let db = at(path);
        App::open(&db).run("CREATE TABLE t(x)");
        site.pending();
        assert!(site.ledger.unprovable().iter().any(|(found, _)| *found == db.to_string()), "{path}");
        elsewhere("rm", &[db.as_path()]);
        site.ledger.poll();
        assert!(site.is_durable(), "{path} is gone");
    };
    elsewhere("mkdir", &["-p".as_ref(), at("before/deep").as_path()]);
    site.ledger.watch_directory(root.clone(), databases(true));
    appears("before/deep/one.db");
    // Made with what is in them before anybody looks.
    elsewhere("mkdir", &["-p".as_ref(), at("a/b/c").as_path()]);
    appears("a/b/c/two.db");
    // Moved with all below it, also over a directory that was watched.
    elsewhere("mv", &[at("a").as_path(), at("moved").as_path()]);
    appears("moved/b/c/three.db");
    elsewhere("rm", &["-r".as_ref(), at("before").as_path()]);
    elsewhere("mkdir", &["-p".as_ref(), at("before/deep").as_path()]);
    appears("before/deep/four.db");
    elsewhere("mv", &[at("moved").as_path(), site.dir.path()]);
    App::open(&DbPath::new(site.dir.path().join("moved/b/out.db"))).run("CREATE TABLE t(x)");
    assert!(site.is_durable(), "outside");
    elsewhere("mv", &[site.dir.path().join("moved").as_path(), at("again").as_path()]);
    site.pending();
    elsewhere("rm", &[at("again/b/out.db").as_path()]);
    elsewhere("ln", &["-s".as_ref(), site.dir.path(), at("link").as_path()]);
    appears("again/b/five.db");
    // The whole tree is another one.
    elsewhere("rm", &["-r".as_ref(), root.as_path()]);
    elsewhere("mkdir", &["-p".as_ref(), at("new").as_path()]);
    appears("new/six.db");
}

#[tokio::test]
async fn a_database_that_appears_in_a_directory_is_open_at_once() {
    let (site, _handle, _app) = Site::with_app().await;
    let directory = site.dir.path().join("tenants");
    site.ledger.watch_directory(directory.clone(), databases(false));
    assert!(site.is_durable(), "there is no such directory");
    elsewhere("mkdir", &[&directory]);
    assert!(site.is_durable());
    let one = DbPath::new(directory.join("one.db"));
    let text = directory.join("text.db");
    elsewhere("touch", &[&directory.join("notes.txt"), one.as_path()]);
    elsewhere("cp", &["/etc/passwd".as_ref(), &text]);
    assert!(site.is_durable(), "neither is a database");
    App::open(&one).run("CREATE TABLE t(x)");
    let ticket = site.pending();
    assert_eq!(site.ledger.unprovable().len(), 1, "{:?}", site.ledger.unprovable());
    elsewhere("rm", &[one.as_path()]);
    site.ledger.poll();
    site.uploaded(ticket).await.unwrap();
    App::open(&one).run("CREATE TABLE t(x)");
    site.pending();
    site.ledger.refuse(&one, "another process replicates it");
    assert!(
        site.ledger.unprovable().iter().any(|(db, why)| *db == one.to_string() && why.contains("another"))
    );
    elsewhere("mv", &[&directory, &site.dir.path().join("moved")]);
    site.pending();
}

#[tokio::test]
async fn another_writer_ends_all_waiting() {
    let (site, handle, mut app) = Site::with_app().await;
    let next = handle.flush(false).await.unwrap().uploaded.0.next();
    let key = site.store.layout().key(Level::RAW, crate::model::TxidRange::single(next));
    let by = crate::model::Deadline::after(LIMIT);
    site.store.put_new(&key, Body::Whole("another writer's".into()), 1, by).await.unwrap();
    app.insert();
    let ticket = site.pending();
    site.ledger.request_upload();
    assert_eq!(site.uploaded(ticket).await, Err(Fenced));
    site.pending();
}

/// Whatever many threads ask: what is committed while the store is away is never durable, and nobody waits
/// for ever.
#[tokio::test]
async fn many_threads_ask() {
    let (site, _handle, mut app) = Site::with_app().await;
    let committed = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let ledger = Arc::clone(&site.ledger);
            let committed = Arc::clone(&committed);
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let mut looks = 0;
                while !done.load(Ordering::SeqCst) {
                    let was_committed = committed.load(Ordering::SeqCst);
                    let durable = ledger.look() == Durability::Durable;
                    // While this look was under way the store may have come back.
                    assert!(!(was_committed && durable && committed.load(Ordering::SeqCst)));
                    ledger.request_upload();
                    looks += 1;
                }
                looks
            })
        })
        .collect();
    for _ in 0..10 {
        site.store.all(Some(Call::PutNew), Fault::Fail(StoreErrorKind::Unreachable));
        app.insert();
        committed.store(true, Ordering::SeqCst);
        let away = site.ledger.uploaded(site.pending());
        assert!(tokio::time::timeout(Duration::from_millis(20), away).await.is_err());
        committed.store(false, Ordering::SeqCst);
        site.store.heal();
        site.until_durable().await;
    }
    done.store(true, Ordering::SeqCst);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
}

/// An app that commits all the time keeps nobody waiting: what is covered is what was committed before the
/// capture.
#[tokio::test]
async fn steady_writing_keeps_nobody_waiting() {
    let (site, _handle, mut app) = Site::with_app().await;
    let round_trip = Duration::from_millis(100);
    site.store.all(Some(Call::PutNew), Fault::Delay(round_trip));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let mut commits = 0;
        while !stopped.load(Ordering::SeqCst) {
            app.insert();
            commits += 1;
        }
        commits
    });
    for _ in 0..10 {
        let ticket = loop {
            match site.ledger.look() {
                Durability::Pending(ticket) => break ticket,
                Durability::Durable => tokio::task::yield_now().await,
            }
        };
        site.ledger.request_upload();
        site.uploaded(ticket).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let commits = tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
    assert!(commits > 10, "{commits} commits");
    site.until_durable().await;
}

/// Whoever removes a database with all its files has nothing to wait for; and the next one is replicated.
#[tokio::test]
async fn a_database_that_is_removed_is_durable_when_that_is_noticed() {
    let (site, _handle, app) = Site::with_app().await;
    app.exit();
    elsewhere("rm", &["-f".as_ref(), site.db.as_path(), &site.db.wal(), &site.db.shm()]);
    let ticket = site.pending();
    site.ledger.request_upload();
    site.uploaded(ticket).await.unwrap();
    assert!(site.is_durable());
    let mut app = App::open(&site.db);
    app.run("PRAGMA journal_mode=wal");
    app.run("CREATE TABLE t(x)");
    let ticket = site.pending();
    site.uploaded(ticket).await.unwrap();
    app.insert();
    site.until_durable().await;
}
