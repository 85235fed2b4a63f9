//! The app: several connections of one process, doing whatever SQLite allows. Any statement may be refused
//! (locked, busy, full of readers): that is part of the game.

use crate::model::random::Random;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Insert,
    InsertMuch,
    Update,
    Delete,
    DeleteMost,
    Several,
    Rollback,
    BeginWrite,
    EndWrite,
    BeginRead,
    EndReads,
    Checkpoint,
    AutoCheckpoint,
    Vacuum,
    IncrementalVacuum,
    Schema,
    Reopen,
}

const ACTS: [(u64, Act); 17] = [
    (24, Act::Insert),
    (3, Act::InsertMuch),
    (12, Act::Update),
    (7, Act::Delete),
    (2, Act::DeleteMost),
    (6, Act::Several),
    (5, Act::Rollback),
    (3, Act::BeginWrite),
    (5, Act::EndWrite),
    (4, Act::BeginRead),
    (5, Act::EndReads),
    (12, Act::Checkpoint),
    (3, Act::AutoCheckpoint),
    (2, Act::Vacuum),
    (3, Act::IncrementalVacuum),
    (4, Act::Schema),
    (2, Act::Reopen),
];

pub struct App {
    path: std::path::PathBuf,
    links: Vec<Connection>,
    /// Looks, and does nothing else.
    eyes: Connection,
    writing: Option<usize>,
}

impl App {
    /// Opens the database, making it if there is none. `seen` is called after every statement that may
    /// commit.
    pub fn open(path: &Path, random: &mut Random, mut seen: impl FnMut(&[u8])) -> App {
        let page_size = random.pick(&[512u32, 512, 1024, 1024, 4096, 65536]);
        let vacuum = random.pick(&["NONE", "FULL", "INCREMENTAL"]);
        let first = Connection::open(path).unwrap();
        let setup =
            format!("PRAGMA page_size={page_size}; PRAGMA auto_vacuum={vacuum}; PRAGMA journal_mode=wal");
        let _ = first.execute_batch(&setup);
        let mut app = App { path: path.to_owned(), links: vec![first], eyes: link(path, 0), writing: None };
        set_up(&app.links[0], random);
        seen(&app.image());
        for sql in [
            "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB)",
            "CREATE TABLE IF NOT EXISTS u(k INTEGER PRIMARY KEY, n INTEGER) WITHOUT ROWID",
        ] {
            let _ = app.links[0].execute_batch(sql);
            seen(&app.image());
        }
        for _ in 0..random.below(3) {
            app.links.push(link(path, random.between(5, 50) as i32));
        }
        app
    }

    /// The database as a reader sees it now.
    pub fn image(&mut self) -> Vec<u8> {
        self.eyes.serialize("main").unwrap().to_vec()
    }

    /// Everything is closed as a dying process does it: nothing is checkpointed, nothing deleted.
    pub fn die(mut self) {
        self.links.push(self.eyes);
        for link in &self.links {
            link.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        }
    }

    pub fn any_act(random: &mut Random) -> Act {
        random.weighted(&ACTS)
    }

    /// Ends whatever was begun, so that nothing is in anybody's way.
    pub fn rest(&mut self) {
        self.writing = None;
        for link in &self.links {
            let _ = link.execute_batch("ROLLBACK");
        }
    }

    pub fn act(&mut self, act: Act, random: &mut Random) {
        let at = random.below(self.links.len() as u64) as usize;
        let link = &self.links[at];
        // Whoever is in a transaction writes into it.
        let _ = match act {
            Act::Insert => insert(link, random, 600),
            Act::InsertMuch => insert(link, random, 60_000),
            Act::Update => {
                let (parts, part) = (random.between(1, 5), random.below(3));
                let bytes = random.between(1, 900) as usize;
                let blob = random.blob(bytes);
                link.execute(
                    "UPDATE t SET x = ?1 WHERE id % ?2 = ?3",
                    params![blob, parts as i64, part as i64],
                )
                .map(|_| ())
            }
            Act::Delete => {
                let (parts, part) = (random.between(2, 5), random.below(3));
                link.execute("DELETE FROM t WHERE id % ?1 = ?2", params![parts as i64, part as i64])
                    .map(|_| ())
            }
            Act::DeleteMost => link.execute("DELETE FROM t WHERE id > 1", []).map(|_| ()),
            Act::Several => several(link, random),
            Act::Rollback => rollback(link, random),
            Act::BeginWrite => {
                let begun = link.execute_batch("BEGIN IMMEDIATE").and_then(|()| insert(link, random, 9000));
                self.writing = if begun.is_ok() { Some(at) } else { self.writing };
                begun
            }
            Act::EndWrite => match self.writing.take() {
                None => Ok(()),
                Some(at) => {
                    self.links[at].execute_batch(if random.percent(60) { "COMMIT" } else { "ROLLBACK" })
                }
            },
            Act::BeginRead => link.execute_batch("BEGIN; SELECT count(*) FROM t"),
            Act::EndReads => {
                let idle = self.links.iter().enumerate().filter(|(at, _)| Some(*at) != self.writing);
                idle.for_each(|(_, link)| drop(link.execute_batch("ROLLBACK")));
                Ok(())
            }
            Act::Checkpoint => {
                let mode = random.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE", "TRUNCATE"]);
                link.execute_batch(&format!("PRAGMA wal_checkpoint({mode})"))
            }
            Act::AutoCheckpoint => {
                let pages = random.pick(&[0, 1, 8, 1000]);
                self.links
                    .iter()
                    .try_for_each(|l| l.execute_batch(&format!("PRAGMA wal_autocheckpoint={pages}")))
            }
            Act::Vacuum => link.execute_batch("VACUUM"),
            Act::IncrementalVacuum => link.execute_batch("PRAGMA incremental_vacuum(4)"),
            Act::Schema => {
                let name = random.below(3);
                let sql = if random.percent(60) {
                    format!("CREATE INDEX IF NOT EXISTS i{name} ON t(x)")
                } else {
                    format!("DROP INDEX IF EXISTS i{name}")
                };
                link.execute_batch(&sql)
            }
            Act::Reopen => {
                if self.writing != Some(at) {
                    self.links[at] = self::link(&self.path, random.between(5, 50) as i32);
                }
                Ok(())
            }
        };
    }
}

fn link(path: &Path, cache: i32) -> Connection {
    let link = Connection::open(path).unwrap();
    link.busy_timeout(Duration::ZERO).unwrap();
    let _ = link.execute_batch(&format!("PRAGMA cache_size={cache}; PRAGMA synchronous=OFF"));
    link
}

/// A small cache makes transactions spill into the WAL before they commit.
fn set_up(link: &Connection, random: &mut Random) {
    link.busy_timeout(Duration::ZERO).unwrap();
    let (cache, auto) = (random.between(5, 50), random.pick(&[0, 0, 4, 30, 1000]));
    let _ = link.execute_batch(&format!(
        "PRAGMA cache_size={cache}; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint={auto}"
    ));
}

fn insert(link: &Connection, random: &mut Random, most: u64) -> rusqlite::Result<()> {
    let bytes = random.between(1, most) as usize;
    link.execute("INSERT INTO t(x) VALUES (?1)", [random.blob(bytes)]).map(|_| ())
}

fn several(link: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    link.execute_batch("BEGIN")?;
    let mut done = Ok(());
    for _ in 0..random.between(1, 12) {
        let n = random.below(40) as i64;
        let sql = "INSERT INTO u VALUES (?1, 1) ON CONFLICT(k) DO UPDATE SET n = n + 1";
        done =
            done.and_then(|()| insert(link, random, 2000)).and_then(|()| link.execute(sql, [n]).map(|_| ()));
    }
    link.execute_batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })
}

/// More than the cache holds: the frames are in the WAL, and the next transaction writes over them.
fn rollback(link: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    link.execute_batch("BEGIN")?;
    for _ in 0..random.between(1, 8) {
        let _ = insert(link, random, 12_000);
    }
    link.execute_batch("ROLLBACK")
}
