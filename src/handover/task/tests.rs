//! Two and more instances over one directory: the protocol with its real requests, clock and channels.

use super::*;
use crate::handover::owner::{self, Kind};
use crate::handover::record::{Instance, Position};
use crate::ltx::{Encoder, Header};
use crate::model::{DbChecksum, PageNo, PageSize, Txid, TxidRange};
use crate::store::faulty::{Call, Fault, Faulty};
use crate::store::{Body, Put, Scheme, StoreErrorKind, StoreSettings, open};
use std::path::Path;

const LIMIT: Duration = Duration::from_secs(60);

fn directory(root: &Path) -> Arc<dyn Store> {
    let path = root.join("replica").to_str().unwrap().to_owned();
    let settings = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
    open(&settings).unwrap()
}

fn at(txid: u64) -> Positions {
    Positions::from([("app.db".to_owned(), Position { txid: Txid(txid), checksum: None })])
}

struct Run {
    commands: mpsc::Sender<Command>,
    reports: mpsc::UnboundedReceiver<Report>,
    task: tokio::task::JoinHandle<()>,
}

struct Start<'a> {
    id: &'a str,
    store: Arc<dyn Store>,
    wait: Duration,
    beside: Option<DbPath>,
}

impl Run {
    fn start(start: Start) -> Run {
        let (commands, inbox) = mpsc::channel(16);
        let (sender, reports) = mpsc::unbounded_channel();
        let revision = Some(format!("revision {}", start.id));
        let instance = Instance { id: start.id.into(), host: "here".into(), revision };
        let poll = Some(Duration::from_millis(20));
        let (trial, grace) = (LIMIT, Duration::from_secs(5));
        let task = Task {
            client: Client::new(Arc::clone(&start.store)),
            who: Identity {
                instance,
                positions: Positions::new(),
                gated: true,
                heartbeat: None,
                version: "test".into(),
            },
            node_id: 7,
            rules: Rules { wait: Some(start.wait), poll, trial, grace, courteous: false, standby: false },
            beside: start.beside,
            databases: vec![Fenced { name: "app.db".into(), store: start.store }],
            deletes: true,
            reports: Box::new(move |report| drop(sender.send(report))),
        };
        Run { commands, reports, task: tokio::spawn(run(task, inbox)) }
    }

    fn plain(id: &str, root: &Path) -> Run {
        Run::start(Start { id, store: directory(root), wait: LIMIT, beside: None })
    }

    async fn tell(&self, command: Command) {
        self.commands.send(command).await.unwrap();
    }

    /// The next report that is not a phase.
    async fn report(&mut self) -> Report {
        let next = async {
            loop {
                match self.reports.recv().await.expect("the task has ended") {
                    Report::Phase { .. } => {}
                    report => return report,
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("no report came")
    }

    async fn phase(&mut self, wanted: impl Fn(&Phase) -> bool) {
        let next = async {
            loop {
                match self.reports.recv().await.expect("the task has ended") {
                    Report::Phase { phase, .. } if wanted(&phase) => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("the phase did not come");
    }

    async fn starts(&mut self, to: Option<Positions>) {
        assert_eq!(self.report().await, Report::CatchUp { to });
        self.tell(Command::CaughtUp).await;
        let report = self.report().await;
        assert!(matches!(report, Report::Start { .. }), "{report:?}");
    }

    async fn hands_over(&mut self, txid: u64) {
        assert_eq!(self.report().await, Report::StopApp);
        self.tell(Command::Flushed(End::At(at(txid)))).await;
        self.phase(|phase| matches!(phase, Phase::Retired { .. })).await;
    }

    /// As by SIGKILL.
    async fn killed(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn a_deploy_takes_over_and_a_bad_one_rolls_back() {
    let root = tempfile::tempdir().unwrap();
    let mut old = Run::plain("old", root.path());
    old.starts(None).await;
    let mut new = Run::plain("new", root.path());
    old.hands_over(5).await;
    new.starts(Some(at(5))).await;
    let mut bad = Run::plain("bad", root.path());
    new.hands_over(8).await;
    bad.starts(Some(at(8))).await;
    bad.tell(Command::StartFailed).await;
    assert_eq!(bad.report().await, Report::StopApp);
    bad.tell(Command::Flushed(End::At(at(9)))).await;
    assert_eq!(bad.report().await, Report::Finished(Outcome::StartFailed));
    // The one that the bad one took over from serves again, not the one before it.
    new.starts(Some(at(9))).await;
    old.tell(Command::Stop).await;
    assert_eq!(old.report().await, Report::Finished(Outcome::Stopped));
    new.tell(Command::Stop).await;
    new.tell(Command::Flushed(End::At(at(10)))).await;
    assert_eq!(new.report().await, Report::Finished(Outcome::Stopped));
}

#[tokio::test]
async fn of_ten_that_start_at_once_one_serves() {
    let root = tempfile::tempdir().unwrap();
    let (started, mut starts) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for number in 0..10 {
        let mut run = Run::plain(&format!("i{number}"), root.path());
        let started = started.clone();
        // The engine of each: catches up at once, stops at once.
        tasks.push(tokio::spawn(async move {
            loop {
                match run.report().await {
                    Report::CatchUp { .. } => run.tell(Command::CaughtUp).await,
                    Report::Start { epoch } => drop(started.send(epoch)),
                    Report::StopApp => run.tell(Command::Flushed(End::At(at(1)))).await,
                    other => panic!("{other:?}"),
                }
            }
        }));
    }
    // Epochs start in order, and the last one is not asked by anyone.
    let mut last = None;
    while last.map_or(0, Epoch::get) < 10 {
        let epoch = tokio::time::timeout(LIMIT, starts.recv()).await.unwrap().unwrap();
        assert!(Some(epoch) > last, "{epoch} after {last:?}");
        last = Some(epoch);
    }
    tasks.into_iter().for_each(|task| task.abort());
}

/// A replica of one page at TXID 1, and the same at TXID 2.
async fn replica(store: &dyn Store, checksum: Option<DbChecksum>) {
    let layout = store.layout();
    for (level, txid) in [(9, 1), (0, 2)] {
        let range = TxidRange::single(Txid(txid));
        let header =
            Header { db_checksum: checksum, ..Header::new(PageSize::SMALLEST, 1, range, txid as i64) };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::start(&header, &mut bytes).unwrap();
        encoder.page(PageNo(1), &[txid as u8; 512], &mut bytes).unwrap();
        encoder.finish(&mut bytes).unwrap();
        let key = layout.key(crate::store::layout::Level(level), range);
        let put = store.put_new(&key, Body::Whole(bytes.into()), 0, Deadline::after(LIMIT)).await.unwrap();
        assert_eq!(put, Put::Created);
    }
}

#[tokio::test]
async fn one_that_does_not_answer_is_fenced() {
    let root = tempfile::tempdir().unwrap();
    let store = directory(root.path());
    let checksum = DbChecksum::from_header(1 << 63 | 9);
    replica(&*store, checksum).await;
    let mut old = Run::plain("old", root.path());
    old.starts(None).await;
    old.killed().await;
    let wait = Duration::from_millis(100);
    let mut new = Run::start(Start { id: "new", store: Arc::clone(&store), wait, beside: None });
    let fenced = Positions::from([("app.db".to_owned(), Position { txid: Txid(3), checksum })]);
    new.starts(Some(fenced)).await;
    let key = "ltx/0/0000000000000003-0000000000000003.ltx";
    let header = Header::from_start(&store.get(key, None, Deadline::after(LIMIT)).await.unwrap()).unwrap();
    assert_eq!((header.commit, header.node_id, header.wal_offset, header.db_checksum), (1, 7, 32, checksum));
}

#[tokio::test]
async fn lost_replies_and_outages_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Faulty::new(directory(root.path())));
    replica(&*store, None).await;
    store.nth(Call::PutNew, 1, Fault::LoseReply);
    let start = |id| Start { id, store: store.clone(), wait: Duration::from_millis(100), beside: None };
    let mut old = Run::start(start("old"));
    old.starts(None).await;
    store.all(None, Fault::Fail(StoreErrorKind::Unreachable));
    let before = store.count(Call::Get);
    while store.count(Call::Get) < before + 2 {
        tokio::task::yield_now().await;
    }
    assert!(old.reports.try_recv().is_err(), "an outage demands nothing of an owner");
    store.heal();
    // The fence, and the release of the old one, are there although their replies are lost.
    old.killed().await;
    store.nth(Call::PutNew, 2, Fault::LoseReply);
    let mut new = Run::start(start("new"));
    // The second fence stands behind the first one.
    new.starts(Some(at(4))).await;
    new.tell(Command::Stop).await;
    new.tell(Command::Flushed(End::At(at(9)))).await;
    store.nth(Call::PutNew, 1, Fault::LoseReply);
    assert_eq!(new.report().await, Report::Finished(Outcome::Stopped));
    let objects = store.list(owner::PREFIX, Deadline::after(LIMIT)).await.unwrap();
    let mut kinds: Vec<_> = objects.iter().map(|object| owner::parse(&object.key).unwrap().1).collect();
    kinds.sort();
    assert_eq!(kinds, [Kind::Claim, Kind::Claim, Kind::Release]);
}

#[tokio::test]
async fn the_last_life_on_this_machine_costs_no_wait() {
    let root = tempfile::tempdir().unwrap();
    let db = DbPath::new(root.path().join("app.db"));
    let start = |id| Start { id, store: directory(root.path()), wait: LIMIT * 60, beside: Some(db.clone()) };
    let mut run = Run::start(start("first"));
    run.starts(None).await;
    run.killed().await;
    // The file is written before the app starts.
    let mut run = Run::start(start("second"));
    run.starts(None).await;
    run.killed().await;
    let mut other = Run::start(Start { beside: None, ..start("other") });
    other.phase(|phase| matches!(phase, Phase::Waiting { .. })).await;
}

#[tokio::test]
async fn content_that_is_no_record_is_named_and_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let store = directory(root.path());
    let first = owner::key(Epoch::FIRST, Kind::Claim);
    let put = async |key: &str, text: &'static str| {
        store.put(key, text.into(), Deadline::after(LIMIT)).await.unwrap();
    };
    put("owner/README", "not ours").await;
    put(&first, "{\"version\":1,\"epoch\":\"0000000000000009\"}").await;
    let error = Client::new(Arc::clone(&store)).look(Deadline::after(LIMIT)).await.unwrap_err().to_string();
    assert!(error.contains("owner/0000000000000001.json") && error.contains("epoch"), "{error}");
    let run = Run::plain("new", root.path());
    // It asks again until the object is gone.
    store.delete(&[first], Deadline::after(LIMIT)).await.unwrap();
    let mut run = run;
    run.starts(None).await;
}
