//! `bank run`: makes transfers at a given rate and acknowledges each one after its COMMIT, until it is
//! stopped.

use crate::ledger;
use crate::options::{OnTerm, Options, Rate};
use crate::page;
use rusqlite::Connection;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TRANSFERS_AFTER_TERM: u64 = 25;
/// The longest sleep, which is also the longest delay until a SIGTERM is noticed.
const NAP: Duration = Duration::from_millis(20);

/// The file of acknowledged transfers: one write(2) for each line to a file opened for appending. A kill of
/// this process or a second writer neither loses nor mixes lines.
pub struct Acks(Option<File>);

impl Acks {
    pub fn open(options: &Options) -> std::io::Result<Acks> {
        let file = options.ack.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path));
        Ok(Acks(file.transpose()?))
    }

    pub fn note(&self, number: i64) -> std::io::Result<()> {
        let Some(mut file) = self.0.as_ref() else { return Ok(()) };
        file.write_all(format!("{number} {}\n", ledger::now_ms()).as_bytes())
    }
}

pub fn run(options: &Options) -> Result<u8, String> {
    let stop = listen_for_stop(options.on_term).map_err(|error| format!("cannot set up signals: {error}"))?;
    let mut db = ledger::open(&options.db, &options.journal).map_err(|error| problem(options, &error))?;
    ledger::note_opening(&db).map_err(|error| problem(options, &error))?;
    let acks = Arc::new(Acks::open(options).map_err(|error| format!("cannot open the ack file: {error}"))?);
    if let Some(address) = &options.http {
        page::serve(address, &options.db, Arc::clone(&acks))?;
    }
    say(&format!("bank: open, process {}\n", std::process::id()));
    let written = work(options, &mut db, &acks, &stop)?;
    if stop.load(Ordering::SeqCst) && options.on_term == OnTerm::WriteMore {
        for _ in 0..TRANSFERS_AFTER_TERM {
            one(options, &mut db, &acks)?;
        }
    }
    say(&format!("bank: closing after {written} transfers\n"));
    Ok(options.exit)
}

fn work(options: &Options, db: &mut Connection, acks: &Acks, stop: &AtomicBool) -> Result<u64, String> {
    let started = Instant::now();
    let mut written = 0u64;
    let over = |written| {
        stop.load(Ordering::SeqCst)
            || options.count.is_some_and(|count| written >= count)
            || options.for_at_most.is_some_and(|span| started.elapsed() >= span)
    };
    while !over(written) {
        let due = match options.rate {
            Rate::Max => Duration::ZERO,
            Rate::PerSecond(rate) => due_at(written, rate),
        };
        let elapsed = started.elapsed();
        if elapsed < due {
            std::thread::sleep(due.saturating_sub(elapsed).min(NAP));
            continue;
        }
        one(options, db, acks)?;
        written += 1;
    }
    Ok(written)
}

/// When transfer number `written` (from 0) is due; a rate of 0 means never.
fn due_at(written: u64, rate: f64) -> Duration {
    let seconds = u32::try_from(written).map_or(f64::MAX, f64::from) / rate;
    if rate > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::MAX }
}

fn one(options: &Options, db: &mut Connection, acks: &Acks) -> Result<(), String> {
    let number = ledger::transfer(db).map_err(|error| problem(options, &error))?;
    acks.note(number).map_err(|error| format!("cannot write the ack of transfer {number}: {error}"))
}

fn listen_for_stop(on_term: OnTerm) -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // To ignore SIGTERM, the handler sets a flag that no code reads.
    let term = if on_term == OnTerm::Ignore { Arc::new(AtomicBool::new(false)) } else { Arc::clone(&stop) };
    if on_term != OnTerm::Default {
        signal_hook::flag::register(signal_hook::consts::SIGTERM, term)?;
    }
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    Ok(stop)
}

fn problem(options: &Options, error: &rusqlite::Error) -> String {
    format!("{}: {error}", options.db.display())
}

/// One write for the whole line: `eprintln!` writes each part separately, and another process that shares
/// stderr could write in between.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}
