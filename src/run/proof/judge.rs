//! What the result of a proof means. Pure.

use crate::model::{DbChecksum, Txid};
use crate::restore::{RestoreError, RestoreErrorKind};

/// What a try to prove one position found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    /// The replica's newest state is not what it must be.
    Failed(Failure),
    /// Nothing is known: the store is away, there is no room, …
    Undecided(String),
    /// The replica has changed meanwhile (merged, retained): a newer position is proven.
    Again(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub why: String,
    /// The damaged files, if they are known.
    pub damaged: Vec<String>,
    /// A new snapshot can be sound.
    pub renew: bool,
}

impl Failure {
    fn of(why: String, damaged: Vec<String>) -> Verdict {
        Verdict::Failed(Failure { why, damaged, renew: true })
    }
}

/// What was restored or read, and can be compared.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The checksum of the whole database. None: nothing states it.
    pub db_checksum: Option<DbChecksum>,
    /// Damaged files, which other files could replace or not.
    pub damaged: Vec<String>,
    /// What SQLite finds wrong with the structure of the restored file.
    pub problems: Vec<String>,
}

/// `live`: the checksum of the live database at the same position.
pub fn judge(evidence: &Evidence, live: DbChecksum) -> Verdict {
    let Evidence { db_checksum, damaged, problems } = evidence;
    if let Some(first) = damaged.first() {
        let more = match damaged.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more files)"),
        };
        return Failure::of(format!("{first} is damaged{more}"), damaged.clone());
    }
    match db_checksum {
        None => {
            return Verdict::Undecided(
                "its newest file states no checksum: set mode = \"full\" under [verify]".into(),
            );
        }
        Some(found) if *found != live => {
            let (found, live) = (found.get(), live.get());
            let why = format!(
                "the replica has the database with the checksum {found:016x}, the live one has {live:016x}"
            );
            return Failure::of(why, Vec::new());
        }
        Some(_) => {}
    }
    let Some(first) = problems.first() else { return Verdict::Sound };
    // The live database has the same bytes, and so would a new snapshot.
    let why = format!(
        "the replica equals the live database, but SQLite finds both damaged: {first} ({} lines); run PRAGMA \
         integrity_check on the live database",
        problems.len()
    );
    Verdict::Failed(Failure { why, damaged: Vec::new(), renew: false })
}

/// Why the position could not be restored or read. `is_newest`: nothing was uploaded since, so the replica
/// must have it.
pub fn of_error(error: &RestoreError, txid: Txid, is_newest: bool) -> Verdict {
    let why = error.to_string();
    match (error, error.kind()) {
        (RestoreError::Damaged { file, .. }, _) => Failure::of(why, vec![file.clone()]),
        (RestoreError::Vanishing { .. }, _) => Verdict::Again(why),
        (_, RestoreErrorKind::Damaged | RestoreErrorKind::NothingThere) if is_newest => {
            Failure::of(format!("TXID {txid}, the newest position, cannot be restored: {why}"), Vec::new())
        }
        (_, RestoreErrorKind::Damaged | RestoreErrorKind::NothingThere) => Verdict::Again(why),
        (_, RestoreErrorKind::Unavailable | RestoreErrorKind::Local) => Verdict::Undecided(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::PlanError;
    use crate::restore::error::Damage;
    use crate::store::{StoreError, StoreErrorKind};

    fn checksum(value: u64) -> DbChecksum {
        DbChecksum::from_header(1 << 63 | value).unwrap()
    }

    #[test]
    fn only_an_equal_and_sound_database_is_a_proof() {
        let evidence = |db_checksum: Option<u64>, damaged: &[&str], problems: &[&str]| Evidence {
            db_checksum: db_checksum.map(checksum),
            damaged: damaged.iter().map(ToString::to_string).collect(),
            problems: problems.iter().map(ToString::to_string).collect(),
        };
        let sound = |evidence: &Evidence| judge(evidence, checksum(5));
        assert_eq!(sound(&evidence(Some(5), &[], &[])), Verdict::Sound);
        assert!(matches!(sound(&evidence(None, &[], &[])), Verdict::Undecided(_)));
        for (evidence, word, damaged) in [
            (evidence(Some(6), &[], &[]), "8000000000000006", 0),
            (evidence(Some(5), &["a", "b"], &[]), "a is damaged (and 1 more files)", 2),
            (evidence(Some(6), &["a"], &["x"]), "a is damaged", 1),
            (evidence(Some(5), &[], &["Page 4: never used"]), "Page 4: never used (1 lines)", 0),
        ] {
            let Verdict::Failed(failure) = sound(&evidence) else { panic!("{evidence:?}") };
            assert!(failure.why.contains(word) && failure.damaged.len() == damaged, "{failure:?}");
            assert_eq!(failure.renew, evidence.problems.is_empty() || damaged > 0, "{failure:?}");
        }
    }

    #[test]
    fn what_an_error_means() {
        let replica = || "r".to_owned();
        let damaged =
            RestoreError::Damaged { replica: replica(), file: "ltx/9/x".into(), damage: Damage::Missing(3) };
        let unreachable = PlanError::Unreachable { wanted: Txid(9), reached: Txid(8) };
        let missing = RestoreError::NoSuchState { replica: replica(), source: unreachable.clone() };
        let gap = RestoreError::Incomplete { replica: replica(), source: unreachable };
        let away = StoreError::new(StoreErrorKind::Unreachable, "get", replica(), "no route");
        let away = RestoreError::Unavailable { source: away };
        let full = RestoreError::NoSpace { path: "/d".into(), needs: 2, has: 1 };
        let vanishing = RestoreError::Vanishing { replica: replica() };
        let nothing = RestoreError::NothingThere { replica: replica() };
        for (error, is_newest, expected) in [
            (&damaged, false, "failed"),
            (&missing, true, "failed"),
            (&missing, false, "again"),
            (&gap, true, "failed"),
            (&nothing, true, "failed"),
            (&vanishing, true, "again"),
            (&away, true, "undecided"),
            (&full, true, "undecided"),
        ] {
            let verdict = of_error(error, Txid(9), is_newest);
            let name = match &verdict {
                Verdict::Sound => "sound",
                Verdict::Failed(_) => "failed",
                Verdict::Undecided(_) => "undecided",
                Verdict::Again(_) => "again",
            };
            assert_eq!(name, expected, "{error}");
            let named = matches!(&verdict, Verdict::Failed(failure) if failure.damaged.len() == 1);
            assert_eq!(named, error.to_string().contains("/9/"));
        }
    }
}
