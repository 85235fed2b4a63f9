//! The judge is judged: the bank's check accepts a healthy bank and sees each kind of loss.

use crate::support::process::Process;
use crate::support::{SOON, bank};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Bank {
    _directory: tempfile::TempDir,
    db: PathBuf,
    ack: PathBuf,
}

/// A bank of 40 acknowledged transfers.
fn healthy() -> Bank {
    let directory = tempfile::tempdir().unwrap();
    let (db, ack) = (directory.path().join("bank.db"), directory.path().join("ack"));
    let mut run = Command::new(bank::binary());
    run.args(["run", "--rate", "max", "--count", "40", "--exit", "5", "--db"])
        .arg(&db)
        .arg("--ack")
        .arg(&ack);
    assert_eq!(run.status().unwrap().code(), Some(5));
    Bank { _directory: directory, db, ack }
}

fn change(db: &Path, sql: &str) {
    rusqlite::Connection::open(db).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_healthy_bank_passes() {
    let bank = healthy();
    assert_eq!(bank::acked(&bank.ack), 40);
    let said = bank::check(&bank.db, &bank.ack, None).unwrap();
    assert!(said.contains("40 transfers without a hole, 40 acknowledged"), "{said}");
}

#[test]
fn every_kind_of_loss_is_seen() {
    let losses = [
        ("DELETE FROM ledger WHERE number = 40", "acknowledged transfers are missing: 40"),
        ("DELETE FROM ledger WHERE number = 7", "39 rows but ends with number 40"),
        ("UPDATE accounts SET balance = balance + 1 WHERE id = 3", "the accounts hold 8001 instead of 8000"),
        ("DROP TABLE accounts", "no such table"),
        (
            "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'ledger_by_payer'",
            "WRONG",
        ),
    ];
    for (sql, said) in losses {
        let bank = healthy();
        change(&bank.db, sql);
        let wrong = bank::check(&bank.db, &bank.ack, None).expect_err(sql);
        assert!(wrong.contains(said), "{sql}: {wrong}");
    }
}

#[test]
fn only_what_was_acknowledged_in_time_is_asked_for() {
    let bank = healthy();
    change(&bank.db, "DELETE FROM ledger WHERE number > 30");
    let acks = std::fs::read_to_string(&bank.ack).unwrap();
    let later: String =
        acks.lines().map(|line| line.split_once(' ').unwrap().0).map(|n| format!("{n} {n}000\n")).collect();
    std::fs::write(&bank.ack, later + "41 unfinished line of a killed ap").unwrap();
    bank::check(&bank.db, &bank.ack, Some(31_000)).unwrap();
    bank::check(&bank.db, &bank.ack, Some(31_001)).unwrap_err();
}

#[test]
fn dumps_and_schemas_tell_databases_apart() {
    let (one, other) = (healthy(), healthy());
    assert_eq!(bank::schema(&one.db), bank::schema(&other.db));
    assert_ne!(bank::dump(&one.db), bank::dump(&other.db), "times differ");
    change(&other.db, "CREATE TABLE foreign_object (x)");
    assert_ne!(bank::schema(&one.db), bank::schema(&other.db));
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_shows_the_bank_and_moves_money() {
    let directory = tempfile::tempdir().unwrap();
    let (db, ack) = (directory.path().join("bank.db"), directory.path().join("ack"));
    let mut command = Command::new(bank::binary());
    command.args(["run", "--http", "127.0.0.1:0", "--db"]).arg(&db).arg("--ack").arg(&ack);
    let run = Process::start(command);
    let line = run.wait_for_log("the page's address", SOON, |line| line.contains("http://"));
    let address = line.split_once("http://").unwrap().1.split(' ').next().unwrap().to_owned();
    assert!(ask(&address, "GET /").contains("<title>"));
    assert!(ask(&address, "GET /state").contains("\"transfers\":0"));
    ask(&address, "POST /transfer");
    assert!(ask(&address, "POST /transfer").contains("\"transfers\":2,\"openings\":1,\"total\":8000"));
    assert!(ask(&address, "GET /nowhere").starts_with("HTTP/1.1 404"));
    bank::check(&db, &ack, None).unwrap();
    assert_eq!(bank::acked(&ack), 2);
}
