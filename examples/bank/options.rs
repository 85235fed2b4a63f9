//! The bank's command line. Every option can also be set in the environment (`--on-term` is `BANK_ON_TERM`),
//! for places where the arguments cannot be changed.

use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
bank run   --db PATH    move money until told to stop, or:
    --count N             that many transfers, then exit
    --for DURATION        that long (500ms, 2s), then exit
    --rate N|max          transfers per second (20; with --http 0)
    --ack FILE            append `NUMBER MILLISECONDS` after each commit
    --exit CODE           exit status when it ends by itself or by SIGTERM (0)
    --on-term HOW         exit0 | default | ignore | write-more (25 more, then exit)
    --journal MODE        wal | delete
    --http PORT|ADDR      a page for the browser
bank check --db PATH    integrity, the total, no hole in the ledger; exit 0 or 1
    --ack FILE            every acknowledged transfer is there
    --before MS           only those acknowledged before this time (Unix milliseconds)
bank seed  --db PATH    write the kind of default file that an image ships";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Run,
    Check,
    Seed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    Max,
    PerSecond(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// Complete the current transfer, then exit with the status of `--exit`.
    Exit,
    /// Install no handler: SIGTERM ends the process.
    Default,
    Ignore,
    /// Write more transfers before the exit, as real apps do in a clean shutdown.
    WriteMore,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub mode: Mode,
    pub db: PathBuf,
    pub rate: Rate,
    pub for_at_most: Option<Duration>,
    pub count: Option<u64>,
    pub ack: Option<PathBuf>,
    pub exit: u8,
    pub on_term: OnTerm,
    pub journal: String,
    pub http: Option<String>,
    pub before_ms: Option<u64>,
}

const NAMES: [&str; 10] =
    ["db", "rate", "for", "count", "ack", "exit", "on-term", "journal", "http", "before"];

impl Options {
    pub fn read(
        mut args: impl Iterator<Item = String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Options, String> {
        let mode = match args.next().as_deref() {
            Some("run") => Mode::Run,
            Some("check") => Mode::Check,
            Some("seed") => Mode::Seed,
            _ => return Err("say `run`, `check` or `seed` first".into()),
        };
        let mut given = Vec::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").filter(|name| NAMES.contains(name));
            let name = name.ok_or_else(|| format!("unknown option `{arg}`"))?.to_owned();
            let value = args.next().ok_or_else(|| format!("--{name} needs a value"))?;
            given.push((name, value));
        }
        let value = |name: &str| {
            let named = given.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            named.or_else(|| env(&format!("BANK_{}", name.to_uppercase().replace('-', "_"))))
        };
        let http =
            value("http").map(|text| if text.contains(':') { text } else { format!("127.0.0.1:{text}") });
        Ok(Options {
            mode,
            db: value("db").ok_or("--db PATH is missing")?.into(),
            rate: match value("rate") {
                Some(text) => rate(&text)?,
                None => Rate::PerSecond(if http.is_some() { 0.0 } else { 20.0 }),
            },
            for_at_most: value("for").map(|text| duration(&text)).transpose()?,
            count: value("count").map(|text| number("--count", &text)).transpose()?,
            ack: value("ack").map(PathBuf::from),
            exit: value("exit").map_or(Ok(0), |text| number("--exit", &text))?,
            on_term: on_term(value("on-term").as_deref().unwrap_or("exit0"))?,
            journal: journal(value("journal").as_deref().unwrap_or("wal"))?,
            http,
            before_ms: value("before").map(|text| number("--before", &text)).transpose()?,
        })
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: `{text}` is no number in its range"))
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let rate: f64 = number("--rate", text)?;
    if rate.is_finite() && rate >= 0.0 { Ok(Rate::PerSecond(rate)) } else { Err(format!("--rate: `{text}`")) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => ms.parse().ok().map(Duration::from_millis),
        (None, Some(s)) => s.parse().ok().map(Duration::from_secs),
        (None, None) => None,
    };
    parsed.ok_or_else(|| format!("`{text}` is no duration; write 500ms or 2s"))
}

fn on_term(text: &str) -> Result<OnTerm, String> {
    match text {
        "exit0" => Ok(OnTerm::Exit),
        "default" => Ok(OnTerm::Default),
        "ignore" => Ok(OnTerm::Ignore),
        "write-more" => Ok(OnTerm::WriteMore),
        other => Err(format!("--on-term: `{other}` is none of exit0, default, ignore, write-more")),
    }
}

fn journal(text: &str) -> Result<String, String> {
    match text {
        "wal" | "delete" => Ok(text.to_owned()),
        other => Err(format!("--journal: `{other}` is neither wal nor delete")),
    }
}
