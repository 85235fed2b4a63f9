//! What the protocol remembers on this machine (`.NAME-litevisor/handover.json`, beside the first database):
//! which epochs its last run claimed. A file that is lost, old or torn costs a wait, never data: the data
//! path decides who writes.

use super::protocol::LastLife;
use crate::local_state::{self, LocalStateError, place};
use crate::model::DbPath;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const NAME: &str = "handover.json";
const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum LastLifeError {
    #[error(transparent)]
    File(#[from] LocalStateError),
    #[error("cannot use {}: {problem}; it may be deleted, which costs the next start a \
        wait", .path.display())]
    Text { path: PathBuf, problem: String },
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    /// The owner records' replica.
    replica: String,
    #[serde(flatten)]
    last: LastLife,
}

/// None: nothing is known of an earlier run with this replica.
pub fn load(db: &DbPath, replica: &str) -> Result<Option<LastLife>, LastLifeError> {
    let Some(text) = local_state::read_note(db, NAME)? else { return Ok(None) };
    parse(&text, replica).map_err(|problem| LastLifeError::Text { path: place::of(db).join(NAME), problem })
}

pub fn store(db: &DbPath, replica: &str, last: &LastLife) -> Result<(), LastLifeError> {
    let text = Text { version: VERSION, replica: replica.to_owned(), last: last.clone() };
    let problem = |error: serde_json::Error| LastLifeError::Text {
        path: place::of(db).join(NAME),
        problem: error.to_string(),
    };
    Ok(local_state::write_note(db, NAME, &serde_json::to_string(&text).map_err(problem)?)?)
}

fn parse(text: &[u8], replica: &str) -> Result<Option<LastLife>, String> {
    let text: Text = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if text.version != VERSION {
        return Err(format!("its version is {}, this program knows {VERSION}", text.version));
    }
    Ok((text.replica == replica).then_some(text.last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::owner::Epoch;
    use crate::handover::protocol::Life;
    use crate::handover::record::Instance;

    #[test]
    fn it_is_read_again_for_the_same_replica_only() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        assert_eq!(load(&db, "s3://b/a").unwrap(), None);
        let epoch = |number| Epoch::new(number).unwrap();
        let instance = Instance { id: "a".into(), host: "h".into(), revision: None };
        let life = Life { instance, epoch: epoch(7), from: Some(epoch(6)), released: false };
        let last = LastLife { confirmed: Some(life), tentative: None, home: Some(epoch(5)) };
        store(&db, "s3://b/a", &last).unwrap();
        assert_eq!(load(&db, "s3://b/a").unwrap(), Some(last));
        assert_eq!(load(&db, "s3://b/b").unwrap(), None);
        let text = local_state::read_note(&db, NAME).unwrap().unwrap();
        for length in 0..text.len() {
            assert!(parse(&text[..length], "s3://b/a").is_err());
        }
        let wrong = String::from_utf8(text).unwrap().replace("0000000000000007", "7");
        assert!(parse(wrong.as_bytes(), "s3://b/a").is_err());
    }
}
