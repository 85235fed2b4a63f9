//! The records of proofs, `proof/<time>.json` in the replica: what was restored and compared, when, and what
//! came of it. Pure.

use crate::model::{Moment, Txid};
use crate::store::Object;
use serde::{Deserialize, Serialize};

pub const PREFIX: &str = "proof/";
/// So many records are kept.
pub const KEPT: usize = 30;
/// A record that is larger was not written by litevisor.
pub const MOST_BYTES: u64 = 64 << 10;
const FORMAT: u32 = 1;
/// Damaged files that a record names.
const MOST_NAMED: usize = 20;
/// In place of what SQLite finds, which names tables, indexes and columns.
const SQLITE_FINDS_DAMAGE: &str = "the replica equals the live database, but SQLite finds both damaged (the \
    log of that run says more); run PRAGMA integrity_check on the live database";

/// How a proof is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofMode {
    /// The newest state is restored, checked by SQLite, and compared with the live database.
    #[default]
    Full,
    /// The files of the newest state are read, and the checksum that they state is compared. Nothing is
    /// written.
    Quick,
}

/// A state of the replica that equals the live database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Proven {
    pub time: String,
    pub txid: String,
}

impl Proven {
    pub fn time_ms(&self) -> i64 {
        Moment::parse(&self.time).map_or(0, |time| time.0)
    }

    pub fn txid(&self) -> Txid {
        Txid::from_name(&self.txid).unwrap_or(Txid::NONE)
    }
}

/// What one proof found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ProofRecord {
    format: u32,
    /// RFC 3339, when the proof ended.
    pub time: String,
    pub sound: bool,
    pub mode: ProofMode,
    pub txid: String,
    /// Of the whole database, as the live one has it.
    pub db_checksum: String,
    pub seconds: f64,
    /// Files of the replica that were read, and their bytes.
    pub files: usize,
    pub bytes: u64,
    /// What SQLite says of the content, and what it cannot check without the app's functions and collations.
    pub remarks: Vec<String>,
    pub problem: Option<String>,
    pub damaged: Vec<String>,
    /// The newest proof that found the replica sound, this one included.
    pub proven: Option<Proven>,
    pub version: String,
}

/// What a record is made of.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub mode: ProofMode,
    pub txid: Txid,
    pub db_checksum: u64,
    pub seconds: f64,
    pub files: usize,
    pub bytes: u64,
    pub remarks: Vec<String>,
    /// None: the replica is sound.
    pub problem: Option<String>,
    pub damaged: Vec<String>,
}

impl ProofRecord {
    /// `before`: the newest sound proof before this one.
    pub fn new(findings: Findings, now: Moment, before: Option<Proven>) -> ProofRecord {
        let Findings { mode, txid, db_checksum, seconds, files, bytes, mut remarks, problem, mut damaged } =
            findings;
        let (time, txid, sound) = (now.to_string(), txid.to_string(), problem.is_none());
        damaged.truncate(MOST_NAMED);
        remarks.truncate(MOST_NAMED);
        let this = Proven { time: time.clone(), txid: txid.clone() };
        ProofRecord {
            format: FORMAT,
            time,
            sound,
            mode,
            txid,
            db_checksum: format!("{db_checksum:016x}"),
            seconds: (seconds * 1000.0).round() / 1000.0,
            files,
            bytes,
            remarks,
            problem,
            damaged,
            proven: if sound { Some(this) } else { before },
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// As it may be read by the bucket's owner, who must not learn the schema of an encrypted database.
    /// `is_sqlites`: the problem is what SQLite says of the restored file.
    pub fn without_schema(&self, is_sqlites: bool) -> ProofRecord {
        let problem = self.problem.clone();
        let problem = problem.map(|told| if is_sqlites { SQLITE_FINDS_DAMAGE.to_owned() } else { told });
        ProofRecord { remarks: Vec::new(), problem, ..self.clone() }
    }

    /// None: another format, or not a record.
    pub fn parse(text: &[u8]) -> Option<ProofRecord> {
        let record: ProofRecord = serde_json::from_slice(text).ok()?;
        (record.format == FORMAT && Moment::parse(&record.time).is_some()).then_some(record)
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    pub fn time_ms(&self) -> i64 {
        Moment::parse(&self.time).map_or(0, |time| time.0)
    }

    /// `proof/20261129T184625.123Z.json`: ordered by time.
    pub fn key(&self) -> String {
        let time: String = self.time.chars().filter(|char| !matches!(char, '-' | ':')).collect();
        format!("{PREFIX}{time}.json")
    }
}

/// Whether a record can have this key.
fn is_record(key: &str) -> bool {
    let name = key.strip_prefix(PREFIX).and_then(|name| name.strip_suffix("Z.json"));
    name.is_some_and(|name| {
        name.len() == 19 && name.chars().all(|char| char.is_ascii_digit() || matches!(char, 'T' | '.'))
    })
}

/// The keys of the records, the newest first.
pub fn newest_first(objects: &[Object]) -> Vec<String> {
    let records = objects.iter().filter(|object| is_record(&object.key) && object.size <= MOST_BYTES);
    let mut keys: Vec<String> = records.map(|object| object.key.clone()).collect();
    keys.sort_unstable_by(|a, b| b.cmp(a));
    keys
}

/// The records that are too many.
pub fn outdated(objects: &[Object]) -> Vec<String> {
    newest_first(objects).into_iter().skip(KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, size: u64) -> Object {
        Object { key: key.to_owned(), size, modified_ms: 0 }
    }

    #[test]
    fn the_schema_is_not_in_a_record_that_others_read() {
        let finds = |problem: Option<&str>| Findings {
            remarks: vec!["NULL value in users.mail".to_owned()],
            problem: problem.map(str::to_owned),
            ..Findings::default()
        };
        let record = |problem| ProofRecord::new(finds(problem), Moment(0), None);
        for (problem, is_sqlites, expected) in [
            (None, false, None),
            (Some("row 3 missing from index by_mail"), true, Some(SQLITE_FINDS_DAMAGE)),
            (Some("ltx/9/x is damaged"), false, Some("ltx/9/x is damaged")),
        ] {
            let (whole, public) = (record(problem), record(problem).without_schema(is_sqlites));
            assert_eq!((public.problem.as_deref(), public.sound), (expected, whole.sound));
            assert!(!public.to_text().contains("mail"), "{}", public.to_text());
        }
    }

    #[test]
    fn a_record_is_read_back_and_its_name_is_its_time() {
        let now = Moment::parse("2026-11-29T18:46:25.123Z").unwrap();
        let findings =
            Findings { txid: Txid(0xab), db_checksum: 1 << 63, seconds: 1.23456, ..Findings::default() };
        let record = ProofRecord::new(findings.clone(), now, None);
        assert_eq!(record.key(), "proof/20261129T184625.123Z.json");
        assert!(is_record(&record.key()));
        assert_eq!(ProofRecord::parse(record.to_text().as_bytes()), Some(record.clone()));
        assert_eq!(
            (record.seconds, record.db_checksum.as_str(), record.sound),
            (1.235, "8000000000000000", true)
        );
        let proven = record.proven.clone().unwrap();
        assert_eq!((proven.time_ms(), proven.txid(), record.time_ms()), (now.0, Txid(0xab), now.0));
        // A failed one knows the last that was not.
        let failed =
            Findings { problem: Some("damaged".into()), damaged: vec![String::new(); 99], ..findings };
        let failed = ProofRecord::new(failed, Moment(now.0 + 1), Some(proven.clone()));
        assert_eq!((failed.sound, failed.proven, failed.damaged.len()), (false, Some(proven), MOST_NAMED));
        for foreign in ["", "{}", "[]", &record.to_text().replace("\"format\": 1", "\"format\": 2")] {
            assert_eq!(ProofRecord::parse(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn the_newest_thirty_stay_and_nothing_else_is_touched() {
        let key = |second: usize| format!("proof/20261129T1846{second:02}.000Z.json");
        let mut objects: Vec<Object> = (0..32).rev().map(|second| object(&key(second), 9)).collect();
        assert_eq!(outdated(&objects), [key(1), key(0)]);
        assert_eq!(newest_first(&objects).first(), Some(&key(31)));
        objects.truncate(30);
        objects.extend(
            ["proof/README", "proof/x.json", "owner/1.json", "ltx/0/1.ltx"].map(|key| object(key, 9)),
        );
        objects.push(object("proof/20261129T184600.000Z.json", MOST_BYTES + 1));
        assert_eq!(outdated(&objects), [""; 0]);
        assert_eq!(newest_first(&objects).len(), 30);
    }
}
