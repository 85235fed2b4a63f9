//! The bank in the browser: one page, one button. Minimal HTTP/1.1 on the standard library, with one request
//! per connection. For a demo on loopback, not for the internet.

use crate::ledger;
use crate::run::Acks;
use rusqlite::Connection;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const HTML: &str = include_str!("page.html");

/// Answers requests on its own thread, with its own database connection, until the process ends.
pub fn serve(address: &str, db: &Path, acks: Arc<Acks>) -> Result<(), String> {
    let listener =
        TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let at = listener.local_addr().map_err(|error| error.to_string())?;
    let path: PathBuf = db.to_owned();
    let mut db = ledger::connect(db).map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &mut db, &path, &acks) {
                eprintln!("bank: a request failed: {error}");
            }
        }
    });
    eprintln!("bank: open http://{at} in a browser");
    Ok(())
}

fn answer(mut stream: TcpStream, db: &mut Connection, path: &Path, acks: &Acks) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(16 << 10));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    let response = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => response("200 OK", "text/html; charset=utf-8", HTML),
        (Some("GET"), Some("/state")) => json(state(db, path)),
        (Some("POST"), Some("/transfer")) => json(transfer(db, acks).and_then(|()| state(db, path))),
        _ => response("404 Not Found", "text/plain", "There is only one page: /\n"),
    };
    stream.write_all(response.as_bytes())
}

fn transfer(db: &mut Connection, acks: &Acks) -> Result<(), String> {
    let number = ledger::transfer(db).map_err(|error| error.to_string())?;
    acks.note(number).map_err(|error| error.to_string())
}

fn state(db: &Connection, path: &Path) -> Result<String, String> {
    let read = || -> rusqlite::Result<String> {
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let mut accounts = String::new();
        let mut statement = db.prepare("SELECT owner, balance FROM accounts ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        for row in rows {
            let (owner, balance) = row?;
            let comma = if accounts.is_empty() { "" } else { "," };
            let _ = write!(accounts, "{comma}[\"{owner}\",{balance}]");
        }
        let mut last = String::new();
        let mut statement = db.prepare(
            "SELECT number, p.owner, q.owner, amount FROM ledger JOIN accounts p ON p.id = payer JOIN \
             accounts q ON q.id = payee ORDER BY number DESC LIMIT 8",
        )?;
        let rows = statement.query_map([], |row| {
            let payer: String = row.get(1)?;
            let payee: String = row.get(2)?;
            Ok(format!("[{},\"{payer}\",\"{payee}\",{}]", row.get::<_, i64>(0)?, row.get::<_, i64>(3)?))
        })?;
        for row in rows {
            let comma = if last.is_empty() { "" } else { "," };
            let _ = write!(last, "{comma}{}", row?);
        }
        let transfers = count("SELECT count(*) FROM ledger")?;
        let openings = count("SELECT count(*) FROM openings")?;
        let total = ledger::total();
        let file = path.display().to_string().replace(['"', '\\'], "'");
        Ok(format!(
            "{{\"accounts\":[{accounts}],\"last\":[{last}],\"transfers\":{transfers},\"openings\":{openings},\"total\":{total},\"file\":\"{file}\"}}"
        ))
    };
    read().map_err(|error| error.to_string())
}

fn json(body: Result<String, String>) -> String {
    match body {
        Ok(body) => response("200 OK", "application/json", &body),
        Err(message) => response("500 Internal Server Error", "text/plain", &message),
    }
}

fn response(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}
