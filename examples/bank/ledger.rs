//! The bank's database: its schema, a transfer, and the queries.

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const OWNERS: [&str; 8] = ["Ada", "Edgar", "Grace", "Barbara", "Leslie", "Radia", "Ken", "Hedy"];
const START_BALANCE: i64 = 1000;

/// The sum of all accounts, which never changes.
pub fn total() -> i64 {
    START_BALANCE * OWNERS.iter().map(|_| 1).sum::<i64>()
}

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Opens the bank; creates it if the file is missing or empty.
pub fn open(path: &Path, journal: &str) -> rusqlite::Result<Connection> {
    let mut db = connect(path)?;
    db.pragma_update(None, "journal_mode", journal)?;
    db.pragma_update(None, "synchronous", "normal")?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL CHECK (balance >= 0));
         CREATE TABLE IF NOT EXISTS ledger (number INTEGER PRIMARY KEY, payer INTEGER NOT NULL, payee INTEGER NOT NULL, amount INTEGER NOT NULL, at_ms INTEGER NOT NULL);
         CREATE INDEX IF NOT EXISTS ledger_by_payer ON ledger (payer, at_ms);
         CREATE TABLE IF NOT EXISTS openings (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);",
    )?;
    let accounts: i64 = tx.query_row("SELECT count(*) FROM accounts", [], |row| row.get(0))?;
    if accounts == 0 {
        for owner in OWNERS {
            tx.execute("INSERT INTO accounts (owner, balance) VALUES (?1, ?2)", (owner, START_BALANCE))?;
        }
    }
    tx.commit()?;
    Ok(db)
}

/// A second connection to a bank that is already open.
pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    Ok(db)
}

/// A read-only connection: never checkpoints, never removes a WAL.
pub fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(5))?;
    Ok(db)
}

pub fn note_opening(db: &Connection) -> rusqlite::Result<()> {
    db.execute("INSERT INTO openings (at_ms) VALUES (?1)", [to_i64(now_ms())]).map(|_| ())
}

/// Makes one transfer, and returns its number when COMMIT has returned. The number determines payer and
/// payee. A payer with too little money pays all of it.
pub fn transfer(db: &mut Connection) -> rusqlite::Result<i64> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number: i64 =
        tx.query_row("SELECT coalesce(max(number), 0) + 1 FROM ledger", [], |row| row.get(0))?;
    let owners = total() / START_BALANCE;
    let payer = number % owners + 1;
    let payee = (number + 1 + number / owners % (owners - 1)) % owners + 1;
    let funds: i64 = tx.query_row("SELECT balance FROM accounts WHERE id = ?1", [payer], |row| row.get(0))?;
    let amount = funds.min(1 + number * 7919 % 100);
    tx.execute("UPDATE accounts SET balance = balance - ?2 WHERE id = ?1", [payer, amount])?;
    tx.execute("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1", [payee, amount])?;
    tx.execute(
        "INSERT INTO ledger VALUES (?1, ?2, ?3, ?4, ?5)",
        [number, payer, payee, amount, to_i64(now_ms())],
    )?;
    tx.commit()?;
    Ok(number)
}

/// A valid database without any history, like the default file that an image ships.
pub fn seed(path: &Path) -> rusqlite::Result<()> {
    let db = connect(path)?;
    db.execute_batch(
        "CREATE TABLE image_default (note TEXT); INSERT INTO image_default VALUES ('shipped with the image');",
    )
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
