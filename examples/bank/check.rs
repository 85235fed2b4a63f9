//! `bank check`: verifies the file, the ledger and that every acknowledged transfer is in it. One line, exit
//! 0 or 1.

use crate::ledger;
use crate::options::Options;
use rusqlite::Connection;
use std::collections::BTreeSet;

pub fn check(options: &Options) -> Result<u8, String> {
    let acked = match &options.ack {
        None => BTreeSet::new(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            acknowledged(&text, options.before_ms)?
        }
    };
    match audit(options, &acked) {
        Ok(line) => {
            println!("ok: {line}");
            Ok(0)
        }
        Err(line) => {
            println!("WRONG: {}: {line}", options.db.display());
            Ok(1)
        }
    }
}

/// The numbers in the ack file. A kill can cut off the last line; that transfer counts as not acknowledged.
fn acknowledged(text: &str, before_ms: Option<u64>) -> Result<BTreeSet<i64>, String> {
    let mut numbers = BTreeSet::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let parsed =
            line.split_once(' ').and_then(|(n, ms)| Some((n.parse().ok()?, ms.parse::<u64>().ok()?)));
        let (number, at_ms) =
            parsed.ok_or_else(|| format!("ack file: `{line}` is not `NUMBER MILLISECONDS`"))?;
        if before_ms.is_none_or(|before| at_ms < before) {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

fn audit(options: &Options, acked: &BTreeSet<i64>) -> Result<String, String> {
    let db = ledger::open_to_read(&options.db).map_err(|error| format!("cannot be opened: {error}"))?;
    let sql = |error: rusqlite::Error| error.to_string();
    let integrity = integrity(&db).map_err(sql)?;
    if integrity != "ok" {
        return Err(format!("integrity_check says: {integrity}"));
    }
    let one = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(sql);
    let total = one("SELECT coalesce(sum(balance), 0) FROM accounts")?;
    if total != ledger::total() {
        return Err(format!("the accounts hold {total} instead of {}", ledger::total()));
    }
    let count = one("SELECT count(*) FROM ledger")?;
    let last = one("SELECT coalesce(max(number), 0) FROM ledger")?;
    if count != last {
        return Err(format!("the ledger has {count} rows but ends with number {last}"));
    }
    // The numbers start at 1 and have no holes, so every number up to `last` exists.
    let missing: Vec<i64> = acked.iter().copied().filter(|number| *number > last).collect();
    if let (Some(first), Some(end)) = (missing.first(), missing.last()) {
        let lost = missing.len();
        return Err(format!(
            "{lost} acknowledged transfers are missing: {first} to {end}; the ledger ends with {last}"
        ));
    }
    let openings = one("SELECT count(*) FROM openings")?;
    let acks = acked.len();
    Ok(format!(
        "{total} in all accounts, {count} transfers without a hole, {acks} acknowledged and present, opened {openings} times"
    ))
}

fn integrity(db: &Connection) -> rusqlite::Result<String> {
    db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
}
