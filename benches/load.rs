//! The app that the benchmarks run: a writer whose cost is SQLite's own, and the small probes that need to be
//! as quick as a real app's start. In: arguments. Out: one line of JSON, or a time. It knows nothing of who
//! supervises it.

use rusqlite::{Connection, params};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const USAGE: &str = "\
bench-load fill DB MIB             make a database of that size whose content compresses to about half
bench-load write DB [OPTION VALUE]...
    --commits N    --rate N|max    --go FILE: begin when it is there    --acks FILE: number and time after each commit
    --jitter 0|1: the pause between commits varies by half of it    --out FILE: latencies, as JSON
    then stay until told to stop
bench-load count DB                the newest number that was written
bench-load first-line              print the time (CLOCK_MONOTONIC, ns) and end
bench-load launch CMD ARGS...      print the time and become CMD
bench-load idle                    stay until told to stop";

const ACCOUNTS: i64 = 10_000;
const FILLER: usize = 1000;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["fill", db, mib] => mib.parse().map_err(Failure::from).and_then(|mib| fill(Path::new(db), mib)),
        ["write", db, options @ ..] => write(Path::new(db), options),
        ["count", db] => count(Path::new(db)),
        ["first-line"] => say_time(),
        ["launch", program, rest @ ..] => launch(program, rest),
        ["idle"] => stay(),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers without a pattern, the same every time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Half of it random, half of it one byte.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let random = std::iter::repeat_with(|| self.next().to_le_bytes()).flatten();
        random.take(length / 2).chain(std::iter::repeat_n(b'x', length - length / 2)).collect()
    }
}

fn open(db: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(db)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

fn prepare_tables(connection: &mut Connection) -> Result<(), Failure> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS filler (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, body BLOB NOT NULL);",
    )?;
    let there: i64 = transaction.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
    let mut random = Random(7);
    for id in there..ACCOUNTS {
        transaction.execute("INSERT INTO account VALUES (?1, 0, ?2)", params![id, random.bytes(80)])?;
    }
    transaction.commit()?;
    Ok(())
}

fn fill(db: &Path, mib: i64) -> Result<(), Failure> {
    let mut connection = open(db)?;
    prepare_tables(&mut connection)?;
    let mut random = Random(42);
    loop {
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let missing = ((mib << 20) - pages * size).max(0);
        if missing == 0 {
            break;
        }
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare("INSERT INTO filler (body) VALUES (?1)")?;
        for _ in 0..(missing / FILLER as i64).clamp(1, 4000) {
            insert.execute(params![random.bytes(FILLER)])?;
        }
        drop(insert);
        transaction.commit()?;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

struct Plan<'a> {
    commits: u64,
    /// Between two commits; zero: as fast as it goes.
    period: Duration,
    jitter: bool,
    go: Option<&'a Path>,
    acks: Option<&'a Path>,
    out: Option<&'a Path>,
}

fn plan<'a>(options: &[&'a str]) -> Result<Plan<'a>, Failure> {
    let mut plan =
        Plan { commits: u64::MAX, period: Duration::ZERO, jitter: false, go: None, acks: None, out: None };
    for option in options.chunks(2) {
        match *option {
            ["--commits", value] => plan.commits = value.parse()?,
            ["--rate", "max"] => plan.period = Duration::ZERO,
            ["--rate", value] => plan.period = Duration::from_secs_f64(1.0 / value.parse::<f64>()?),
            ["--jitter", value] => plan.jitter = value == "1",
            ["--go", value] => plan.go = Some(Path::new(value)),
            ["--acks", value] => plan.acks = Some(Path::new(value)),
            ["--out", value] => plan.out = Some(Path::new(value)),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(plan)
}

/// Each transaction is a booking: one row is changed, one added.
fn write(db: &Path, options: &[&str]) -> Result<(), Failure> {
    let plan = plan(options)?;
    let mut connection = open(db)?;
    prepare_tables(&mut connection)?;
    while plan.go.is_some_and(|go| !go.exists()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut acks = plan.acks.map(std::fs::File::create).transpose()?;
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut change = connection.prepare("UPDATE account SET balance = balance + 1 WHERE id = ?1")?;
    let mut add = connection.prepare("INSERT INTO entry (account, body) VALUES (?1, ?2)")?;
    let mut commit = connection.prepare("COMMIT")?;
    let mut random = Random(now_ns() | 1);
    let mut latencies = Vec::new();
    let begun = Instant::now();
    let mut due = begun;
    for _ in 0..plan.commits {
        let account = (random.next() % ACCOUNTS as u64) as i64;
        let body = random.bytes(100);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        begin.execute([])?;
        change.execute(params![account])?;
        add.execute(params![account, body])?;
        commit.execute([])?;
        latencies.push(asked.elapsed());
        if let Some(acks) = &mut acks {
            acks.write_all(format!("{} {}\n", connection.last_insert_rowid(), now_ns()).as_bytes())?;
        }
        let half = plan.period / 2;
        due += if plan.jitter {
            half + half.mul_f64((random.next() % 2001) as f64 / 1000.0)
        } else {
            plan.period
        };
    }
    if let Some(out) = plan.out {
        report(out, latencies, begun.elapsed())?;
    }
    stay()
}

/// Written beside and renamed: whoever waits for it finds it complete.
fn report(out: &Path, mut latencies: Vec<Duration>, took: Duration) -> Result<(), Failure> {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or_default().as_secs_f64()
    };
    let mut text = String::new();
    write!(text, "{{\"commits\": {}, \"seconds\": {}", latencies.len(), took.as_secs_f64())?;
    write!(
        text,
        ", \"p50\": {}, \"p99\": {}, \"p999\": {}, \"max\": {}}}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )?;
    let beside = out.with_extension("part");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, out)?;
    Ok(())
}

fn count(db: &Path) -> Result<(), Failure> {
    let newest: i64 =
        Connection::open(db)?.query_row("SELECT coalesce(max(id), 0) FROM entry", [], |row| row.get(0))?;
    writeln!(std::io::stdout(), "{newest}")?;
    Ok(())
}

fn say_time() -> Result<(), Failure> {
    let now = now_ns();
    writeln!(std::io::stdout(), "first-line {now}")?;
    Ok(())
}

fn launch(program: &str, rest: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(rest);
    writeln!(std::io::stdout(), "launched {}", now_ns())?;
    Err(command.exec().into())
}

fn stay() -> Result<(), Failure> {
    loop {
        std::thread::park();
    }
}

/// The clock that every process of the machine shares.
fn now_ns() -> u64 {
    let mut now = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call, and the clock always exists.
    unsafe { nix::libc::clock_gettime(nix::libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
