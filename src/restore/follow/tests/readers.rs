//! Readers in other processes that look for a torn transaction while a copy is written through SQLite.

use super::site::{Python, Site, killed, poll};
use super::*;

/// Every transaction of the app keeps the sum, and says how many rows there are. Says how often it has
/// looked, and what was wrong.
const READER: &str = r"
import sqlite3, sys, threading
c = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
print('x', flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
looks = wrong = stands = 0
last = -1
while not over.is_set():
    c.execute('BEGIN')
    total, = c.execute('SELECT coalesce(sum(n), 0) FROM accounts').fetchone()
    rows, = c.execute('SELECT count(*) FROM log').fetchone()
    said, = c.execute('SELECT rows FROM state').fetchone()
    c.execute('COMMIT')
    looks += 1
    wrong += total != 1000 or rows != said
    stands += said != last
    last = said
print(looks, wrong, stands, c.execute('PRAGMA integrity_check').fetchone()[0])
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_transactions() {
    let mut site = Site::new("PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL");
    site.run(
        "CREATE TABLE accounts(id INTEGER PRIMARY KEY, n INTEGER, pad BLOB);
         CREATE TABLE log(id INTEGER PRIMARY KEY, x BLOB); CREATE TABLE state(rows INTEGER);
         WITH RECURSIVE r(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM r WHERE i < 100)
         INSERT INTO accounts SELECT i, 10, zeroblob(400) FROM r;
         INSERT INTO state VALUES (0)",
    );
    site.replicate();
    site.flush().await;
    let copy = site.copy("copy.db").await;
    let mut follower = site.follow(&copy, Way::ThroughSqlite).await;
    let readers = [Python::start(READER, &copy), Python::start(READER, &copy)];
    let mut random = Random(3);
    let mut rows = 0;
    let (mut steps, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(4) {
        let (from, to, n) = (random.below(100) + 1, random.below(100) + 1, random.below(9));
        // Grows for a while, then shrinks.
        let change = if steps % 30 == 29 {
            rows = 0;
            "DELETE FROM log".to_owned()
        } else {
            rows += 3;
            format!("INSERT INTO log(x) VALUES (randomblob({})), (1), (2)", random.below(6000))
        };
        site.run(&format!(
            "BEGIN; UPDATE accounts SET n = n - {n} WHERE id = {from}; UPDATE accounts SET n = n + {n} WHERE \
             id = {to};
             {change}; UPDATE state SET rows = {rows}; COMMIT"
        ));
        site.flush().await;
        steps += poll(&mut follower).await.files;
    }
    let end = site.flush().await;
    assert_eq!(poll(&mut follower).await.position, end);
    for reader in readers {
        let said = reader.end();
        let words: Vec<&str> = said.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        eprintln!("{steps} transactions; a reader: looks, violations, states, integrity: {said}");
        assert_eq!((number(1), words[3]), (0, "ok"), "{said}");
        assert!(number(0) > 20 && number(2) > 5, "{said}");
    }
    assert!(steps > 20, "{steps}");
    let wal = std::fs::metadata(copy.wal()).unwrap().len();
    assert!(wal < 32 << 20, "{wal}: the copy's own WAL is checkpointed");
    drop(follower);
    killed(&copy);
    site.assert_same(&copy, Way::ThroughSqlite, end).await;
    site.stop().await;
}
