//! `litevisor status`: prints the running supervisor's state as a table, or as JSON.

use super::document;
use super::error::{CommandError, ErrorKind};
use super::supervisor::Supervisor;
use crate::model::Moment;
use crate::observe::say;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

pub fn status(config: Option<PathBuf>, socket: Option<PathBuf>, as_json: bool) -> Result<u8, CommandError> {
    let reply = Supervisor::find(config, socket)?.request("GET", "/status", LIMIT)?;
    match serde_json::from_str::<Value>(&reply.body) {
        Ok(value) if reply.status == 200 => {
            if as_json {
                document::print(&value);
            } else {
                say(&text(&value, Moment::now().0));
            }
            Ok(0)
        }
        _ => Err(CommandError::new(ErrorKind::Unavailable, reply.body.trim_end())),
    }
}

fn text(value: &Value, now_ms: i64) -> String {
    let mut out = String::new();
    let at = |pointer: &str| value.pointer(pointer);
    let word = |pointer: &str| at(pointer).and_then(Value::as_str).unwrap_or("?");
    let number = |pointer: &str| at(pointer).and_then(Value::as_i64).unwrap_or(0);
    let up = span(since(at("/started"), now_ms).unwrap_or_default());
    let _ =
        write!(out, "litevisor {}, pid {}, for {up}: {}", word("/version"), number("/pid"), word("/phase"));
    if at("/ready").and_then(Value::as_bool) == Some(false) {
        let reasons = at("/reasons").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
        let _ = write!(out, "; not ready: {}", reasons.join("; "));
    }
    let app = match (at("/app/pid").and_then(Value::as_i64), at("/app/ended").and_then(Value::as_str)) {
        (Some(pid), _) => {
            format!("pid {pid}, for {}", span(since(at("/app/started"), now_ms).unwrap_or_default()))
        }
        (None, Some(ended)) => ended.to_owned(),
        (None, None) => "not started".to_owned(),
    };
    let _ = writeln!(out, "\napp: {app}, {} restarts", number("/app/restarts"));
    if let Some(state) = at("/handover/state").and_then(Value::as_str) {
        let epoch = at("/handover/epoch")
            .and_then(Value::as_u64)
            .map_or(String::new(), |epoch| format!(", epoch {epoch}"));
        let _ = writeln!(out, "hand-over: {state}{epoch}: {}", word("/handover/detail"));
    }
    let gates = at("/gates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    gates.iter().for_each(|gate| show_gate(&mut out, gate));
    let databases = at("/databases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !databases.is_empty() {
        let rows: Vec<_> = databases.iter().map(|database| row(database, now_ms)).collect();
        table(&mut out, &rows);
    }
    for database in databases {
        let word = |key: &str| database.get(key).and_then(Value::as_str);
        if let Some(follow) = database.get("follow") {
            show_follow(&mut out, word("database").unwrap_or("?"), follow);
        }
        if let Some(proof) = database.get("proof") {
            show_proof(&mut out, word("database").unwrap_or("?"), proof, now_ms);
        }
        if let Some(problem) = word("problem") {
            let _ = writeln!(out, "{}: {problem}", word("database").unwrap_or("?"));
        }
    }
    out
}

/// `/data/app.db: read-only copy at TXID 2f, 0.4 s behind its replica; restored anew 1 times`.
fn show_follow(out: &mut String, db: &str, follow: &Value) {
    let txid =
        follow.get("position").and_then(Value::as_str).map_or("-", |txid| txid.trim_start_matches('0'));
    let behind = follow.get("seconds_behind").and_then(Value::as_f64).unwrap_or_default();
    let _ = write!(out, "{db}: read-only copy at TXID {txid}, {behind:.1} s behind its replica");
    if follow.get("stale").and_then(Value::as_bool) == Some(true) {
        out.push_str(" (STALE)");
    }
    if let Some(restores) = follow.get("restores").and_then(Value::as_u64).filter(|restores| *restores > 0) {
        let _ = write!(out, "; restored anew {restores} times");
    }
    out.push('\n');
}

/// `/data/app.db: replica proven 3 h 2 min ago at TXID 2f (full, 1.2 s)`.
fn show_proof(out: &mut String, db: &str, proof: &Value, now_ms: i64) {
    let word = |pointer: &str| proof.pointer(pointer).and_then(Value::as_str);
    let ago = |pointer: &str| since(proof.pointer(pointer), now_ms).map_or("?".to_owned(), span);
    let txid = |pointer: &str| word(pointer).unwrap_or("?").trim_start_matches('0').to_owned();
    let _ = match proof.pointer("/last/sound").and_then(Value::as_bool) {
        None => write!(out, "{db}: replica not proven yet"),
        Some(true) => {
            let seconds = proof.pointer("/last/seconds").and_then(Value::as_f64).unwrap_or_default();
            let mode = word("/last/mode").unwrap_or("?");
            let txid = txid("/last/txid");
            write!(
                out,
                "{db}: replica proven {} ago at TXID {txid} ({mode}, {seconds:.1} s)",
                ago("/last/time")
            )
        }
        Some(false) if word("/last_sound/time").is_some() => {
            let txid = txid("/last_sound/txid");
            write!(out, "{db}: replica NOT PROVEN; it was {} ago at TXID {txid}", ago("/last_sound/time"))
        }
        Some(false) => write!(out, "{db}: replica NOT PROVEN"),
    };
    let running = proof.get("running").and_then(Value::as_bool) == Some(true);
    out.push_str(if running { "; a proof is running\n" } else { "\n" });
}

/// `gate [::]:8080 to localhost:3000: 12 connections; 4 KiB held, the oldest for 0.2 s; closed: 3 timeout`.
fn show_gate(out: &mut String, gate: &Value) {
    let word = |key: &str| gate.get(key).and_then(Value::as_str);
    let number = |key: &str| gate.get(key).and_then(Value::as_u64).unwrap_or(0);
    let _ = write!(out, "gate {} to {}: ", word("listen").unwrap_or("?"), word("app").unwrap_or("?"));
    let _ = match word("reason") {
        Some(why) => write!(out, "CLOSED: {why}"),
        None => write!(out, "{} connections", number("connections")),
    };
    if let Some(oldest) = gate.get("oldest_held_seconds").and_then(Value::as_f64) {
        let _ = write!(out, "; {} held, the oldest for {oldest:.1} s", size(number("held_bytes")));
    }
    let closed = gate.get("closed").and_then(Value::as_object).into_iter().flatten();
    let closed =
        closed.filter_map(|(reason, count)| Some((reason, count.as_u64().filter(|count| *count > 0)?)));
    let closed: Vec<String> =
        closed.map(|(reason, count)| format!("{count} {}", reason.replace('_', " "))).collect();
    if !closed.is_empty() {
        let _ = write!(out, "; closed: {}", closed.join(", "));
    }
    if number("unproven") > 0 {
        let _ = write!(out, "; sent unproven: {}", number("unproven"));
    }
    out.push('\n');
    let unprovable = gate.get("unprovable").and_then(Value::as_array).into_iter().flatten();
    for one in unprovable {
        let word = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(out, "{}: its answers are held: {}", word("database"), word("reason"));
    }
}

const HEAD: [&str; 7] = ["DATABASE", "STATE", "COMMITTED", "UPLOADED", "BEHIND", "WAL", "LAST UPLOAD"];

fn row(database: &Value, now_ms: i64) -> [String; HEAD.len()] {
    let at = |pointer: &str| database.pointer(pointer);
    let word = |pointer: &str| at(pointer).and_then(Value::as_str);
    let number = |pointer: &str| at(pointer).and_then(Value::as_u64);
    let txid = |pointer: &str| word(pointer).map_or("-", |txid| txid.trim_start_matches('0')).to_owned();
    let state = match number("/progress/bytes").zip(number("/progress/of")) {
        Some((bytes, of)) if of > 0 => format!("restoring {} %", bytes.saturating_mul(100) / of),
        _ => match word("/state").unwrap_or("?") {
            "absent" => "no database".to_owned(),
            state => state.replace('_', " "),
        },
    };
    let committed = txid("/committed");
    let behind = match at("/lag_seconds").and_then(Value::as_f64).zip(number("/lag_bytes")) {
        None => "-".to_owned(),
        Some((0.0, _)) => "0 s".to_owned(),
        Some((seconds, 0)) => format!("{seconds:.1} s"),
        Some((seconds, bytes)) => format!("{seconds:.1} s, {}", size(bytes)),
    };
    [
        word("/database").unwrap_or("?").to_owned(),
        state,
        // The files were written since the last look: the newest commits have no TXID yet.
        if at("/unread_writes") == Some(&Value::Bool(true)) { committed + "+" } else { committed },
        txid("/uploaded"),
        behind,
        number("/wal_bytes").map_or("-".to_owned(), size),
        since(at("/last_upload"), now_ms).map_or("-".to_owned(), |ago| format!("{} ago", span(ago))),
    ]
}

fn table(out: &mut String, rows: &[[String; HEAD.len()]]) {
    let head = HEAD.map(String::from);
    let all = || std::iter::once(&head).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in all() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
}

/// Milliseconds since a time in RFC 3339; None: there is none.
fn since(time: Option<&Value>, now_ms: i64) -> Option<u64> {
    let Moment(then_ms) = Moment::parse(time?.as_str()?)?;
    Some(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_for_people() {
        let value = json!({
            "version": "0.1.0", "pid": 1, "started": "2026-05-04T12:00:00Z", "phase": "running", "ready": true, "reasons": [],
            "app": { "pid": 7, "started": "2026-05-04T12:00:30Z", "restarts": 2, "ended": "exited with \
                status 1" },
            "databases": [
                { "database": "/data/app.db", "state": "failing", "problem": "no \
                    route", "committed": "000000000000002f",
                  "uploaded": "000000000000002e", "lag_seconds": 12.34, "lag_bytes": 4096, "wal_bytes": 5242880,
                  "last_upload": "2026-05-04T13:01:00Z" },
                { "database": "/data/c.db", "state": "replicating", "problem": null, "committed": "0000000000000002",
                  "uploaded": "0000000000000002", "unread_writes": true, "lag_seconds": 0.2, "lag_bytes": 0, "wal_bytes": 0 },
                { "database": "/data/d.db", "state": "absent", "problem": "not replicated: there is no \
                    database" },
                { "database": "/data/b.db", "state": "restoring", "progress": { "bytes": 5, "of": 20 }, "problem": null },
            ],
        });
        let now = Moment::parse("2026-05-04T13:01:42Z").unwrap().0;
        let expected = "\
litevisor 0.1.0, pid 1, for 1 h 1 min: running
app: pid 7, for 1 h 1 min, 2 restarts
DATABASE      STATE           COMMITTED  UPLOADED  BEHIND         WAL      LAST UPLOAD
/data/app.db  failing         2f         2e        12.3 s, 4 KiB  5.0 MiB  42 s ago
/data/c.db    replicating     2+         2         0.2 s          0 B      -
/data/d.db    no database     -          -         -              -        -
/data/b.db    restoring 25 %  -          -         -              -        -
/data/app.db: no route
/data/d.db: not replicated: there is no database
";
        assert_eq!(text(&value, now), expected);
    }

    #[test]
    fn gates() {
        let told = |gate: Value| {
            let mut out = String::new();
            show_gate(&mut out, &gate);
            out
        };
        let quiet = json!({ "listen": "[::]:80", "app": "localhost:3000", "connections": 2, "closed": { "timeout": 0 } });
        assert_eq!(told(quiet), "gate [::]:80 to localhost:3000: 2 connections\n");
        let busy = json!({
            "listen": "unix:/g", "app": "unix:/a", "connections": 3, "held_bytes": 4096, "oldest_held_seconds": 0.21,
            "closed": { "app_unreachable": 2, "timeout": 5 }, "unproven": 1,
            "unprovable": [{ "database": "/data/a.db", "reason": "it has a rollback journal" }],
        });
        let expected = "gate unix:/g to unix:/a: 3 connections; 4 KiB held, the oldest for 0.2 s; closed: 2 \
            app \
                        unreachable, 5 timeout; sent unproven: 1\n\
                        /data/a.db: its answers are held: it has a rollback journal\n";
        assert_eq!(told(busy), expected);
        let shut = json!({ "listen": "[::]:80", "app": "localhost:3000", "reason": "another writer has the \
            replica" });
        assert_eq!(told(shut), "gate [::]:80 to localhost:3000: CLOSED: another writer has the replica\n");
    }

    #[test]
    fn before_the_app_and_without_databases() {
        let value = json!({ "phase": "restoring", "ready": false, "reasons": ["restoring", "x"], "app": { "pid": null } });
        assert_eq!(
            text(&value, 0),
            "litevisor ?, pid 0, for 0 s: restoring; not ready: restoring; x\napp: not started, 0 restarts\n"
        );
    }
}
