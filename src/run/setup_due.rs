//! Whether the commands of `[app] setup` must run, and the record in the replica by which a later start, also
//! on an empty disk, knows that they need not. Pure, but for `SetupPlan::of`.

use crate::lineage::Kept;
use crate::model::Txid;
use crate::restore::Outcome;
use crate::supervise::{AppSettings, SetupWhen, setup_digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the engine must know of the setup.
pub struct SetupPlan {
    pub when: SetupWhen,
    /// None: a program of it cannot be read, and starting it will say why.
    pub digest: Option<String>,
}

impl SetupPlan {
    /// None: there is nothing to do. Reads the programs if they decide.
    pub fn of(app: &AppSettings) -> Option<Arc<SetupPlan>> {
        let setup = Some(&app.setup).filter(|setup| !setup.commands.is_empty())?;
        let digest = (setup.when == SetupWhen::Changed).then(|| setup_digest(app)).flatten();
        Some(Arc::new(SetupPlan { when: setup.when, digest }))
    }

    /// Whether a later start asks what was done.
    pub fn is_recorded(&self) -> bool {
        self.when == SetupWhen::Changed
    }
}

/// How a database stands before the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no file.
    Empty,
    /// The local file, which continues the replica's newest state.
    Continued,
    Restored(Txid),
    /// Another state than the replica's newest one.
    Other,
}

impl Standing {
    pub fn of(outcome: &Outcome) -> Standing {
        match outcome {
            Outcome::StartedEmpty | Outcome::LeftAbsent => Standing::Empty,
            Outcome::Restored { txid, .. } => Standing::Restored(*txid),
            Outcome::KeptLocal { why: Kept::ByRecord | Kept::ByWal | Kept::Ahead } => Standing::Continued,
            Outcome::KeptLocal { why: Kept::ReplicaEmpty | Kept::FromV3 | Kept::RolledBack } => {
                Standing::Other
            }
            Outcome::Unrestored(_) => Standing::Other,
        }
    }

    /// Whether a local file is there that the replica need not hold.
    pub fn is_local(self) -> bool {
        matches!(self, Standing::Continued | Standing::Other)
    }
}

/// Which setup has been done, and by when: `setup/done.json` in the replica of the first database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub digest: String,
    /// The TXID that each database had reached with it.
    pub positions: BTreeMap<String, u64>,
}

impl Record {
    /// Whether this database holds what the setup has made of it.
    fn covers(&self, db: &str, standing: Standing) -> bool {
        let reached = self.positions.get(db);
        match standing {
            Standing::Continued => true,
            // The app has created it since, or has never created it.
            Standing::Restored(txid) => reached.is_none_or(|reached| txid.0 >= *reached),
            Standing::Empty => reached.is_none(),
            Standing::Other => false,
        }
    }
}

/// `digest`: of this setup; None: it is not known.
pub fn is_due<'a>(
    when: SetupWhen,
    record: Option<&Record>,
    digest: Option<&str>,
    mut standings: impl Iterator<Item = (&'a str, Standing)>,
) -> bool {
    match (when, record) {
        (SetupWhen::Always, _) | (SetupWhen::Changed, None) => true,
        (SetupWhen::Changed, Some(record)) => {
            digest != Some(&record.digest) || !standings.all(|(db, standing)| record.covers(db, standing))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_already_is_not_done_again() {
        let record = Record { digest: "d".into(), positions: [("/a".to_owned(), 5)].into() };
        let (empty, continued, other) = (Standing::Empty, Standing::Continued, Standing::Other);
        let restored = |txid| Standing::Restored(Txid(txid));
        for (db, standing, due) in [
            ("/a", continued, false),
            ("/a", restored(5), false),
            ("/a", restored(9), false),
            ("/a", restored(4), true),
            ("/a", empty, true),
            ("/a", other, true),
            ("/b", restored(1), false),
            ("/b", empty, false),
            ("/b", other, true),
        ] {
            let is = |when, record, digest| is_due(when, record, digest, [(db, standing)].into_iter());
            assert_eq!(is(SetupWhen::Changed, Some(&record), Some("d")), due, "{db} {standing:?}");
            assert!(is(SetupWhen::Changed, Some(&record), Some("e")));
            assert!(is(SetupWhen::Changed, Some(&record), None));
            assert!(is(SetupWhen::Changed, None, Some("d")));
            assert!(is(SetupWhen::Always, Some(&record), Some("d")));
        }
        let both = [("/a", continued), ("/a", other)];
        assert!(is_due(SetupWhen::Changed, Some(&record), Some("d"), both.into_iter()), "one is enough");
    }
}
