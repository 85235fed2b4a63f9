//! What a start does with one database: pure, every cell.

use super::error::Refusal;
use super::settings::Others;
use crate::replica::{Descent, Doubt, Replica};

/// The file at the database's path; one of 0 bytes is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    Absent,
    /// With what is known of its relation to the replica; None where the replica holds nothing to compare with.
    Present(Option<Lineage>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// What the record beside it proves, and its content does not deny.
    Recorded(Descent),
    /// The local WAL still holds the last frame of the tip, whatever the record says.
    ByWal,
    /// It continues the newest state of a Litestream 0.3 replica: restored from it by us, or replicated to it.
    FromOldFormat,
    /// It was brought back to an older state on purpose, and the replica has not grown since.
    Wished,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    KeepLocal(Kept),
    Restore(Why),
    StartEmpty,
    Refuse(Refusal),
}

/// Why the local file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    ReplicaEmpty,
    ByState,
    ByWal,
    FromOldFormat,
    Ahead,
    Wished,
}

/// Why the replica's state is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    NoLocalFile,
    /// A local file is there, and nothing proves that it continues the replica.
    Instead(Doubt),
}

/// A file that others may have open is never replaced.
pub fn decide(local: &Local, replica: Replica, others: Others) -> Decision {
    match (alone(local, replica), others) {
        (Decision::Restore(Why::Instead(doubt)), Others::MayUse | Others::MayUseOnce) => {
            Decision::Refuse(Refusal::InUse(doubt))
        }
        (decision, _) => decision,
    }
}

fn alone(local: &Local, replica: Replica) -> Decision {
    match (local, replica) {
        (Local::Present(Some(Lineage::Wished)), Replica::OldFormat) => Decision::KeepLocal(Kept::Wished),
        (Local::Present(Some(Lineage::FromOldFormat)), Replica::OldFormat) => Decision::KeepLocal(Kept::FromOldFormat),
        (Local::Present(_), Replica::OldFormat) => Decision::Restore(Why::Instead(Doubt::NoState)),
        (Local::Absent, Replica::OldFormat) => Decision::Restore(Why::NoLocalFile),
        (Local::Absent, Replica::Empty) => Decision::StartEmpty,
        (Local::Absent, Replica::Ends(_)) => Decision::Restore(Why::NoLocalFile),
        (Local::Present(_), Replica::Empty) => Decision::KeepLocal(Kept::ReplicaEmpty),
        (Local::Present(lineage), Replica::Ends(tip)) => match lineage {
            Some(Lineage::ByWal) => Decision::KeepLocal(Kept::ByWal),
            Some(Lineage::FromOldFormat) => Decision::KeepLocal(Kept::FromOldFormat),
            Some(Lineage::Wished) => Decision::KeepLocal(Kept::Wished),
            Some(Lineage::Recorded(descent)) => match descent {
                Descent::Ours { .. } => Decision::KeepLocal(Kept::ByState),
                Descent::Ahead { .. } => Decision::KeepLocal(Kept::Ahead),
                Descent::Forked { acked } => Decision::Refuse(Refusal::Forked { tip, acked: *acked }),
                Descent::Unproven(doubt) => Decision::Restore(Why::Instead(doubt.clone())),
            },
            None => Decision::Restore(Why::Instead(Doubt::NoState)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Txid;

    #[test]
    fn every_cell() {
        let acked = Txid(9);
        let ends = Replica::Ends(Txid(4));
        let recorded = |descent| Local::Present(Some(Lineage::Recorded(descent)));
        let from_old = Local::Present(Some(Lineage::FromOldFormat));
        let behind = Doubt::Behind { acked: Txid(2), tip: Txid(4) };
        for (local, replica, decision) in [
            (Local::Absent, Replica::Empty, Decision::StartEmpty),
            (Local::Absent, Replica::OldFormat, Decision::Restore(Why::NoLocalFile)),
            (Local::Absent, ends, Decision::Restore(Why::NoLocalFile)),
            (Local::Present(None), Replica::Empty, Decision::KeepLocal(Kept::ReplicaEmpty)),
            (Local::Present(None), Replica::OldFormat, Decision::Restore(Why::Instead(Doubt::NoState))),
            (Local::Present(Some(Lineage::Wished)), Replica::Empty, Decision::KeepLocal(Kept::ReplicaEmpty)),
            (Local::Present(Some(Lineage::Wished)), Replica::OldFormat, Decision::KeepLocal(Kept::Wished)),
            (Local::Present(Some(Lineage::Wished)), ends, Decision::KeepLocal(Kept::Wished)),
            (from_old.clone(), Replica::OldFormat, Decision::KeepLocal(Kept::FromOldFormat)),
            (Local::Present(None), ends, Decision::Restore(Why::Instead(Doubt::NoState))),
            (recorded(Descent::Ours { sent: false }), ends, Decision::KeepLocal(Kept::ByState)),
            (Local::Present(Some(Lineage::ByWal)), ends, Decision::KeepLocal(Kept::ByWal)),
            (recorded(Descent::Ahead { acked }), ends, Decision::KeepLocal(Kept::Ahead)),
            (recorded(Descent::Forked { acked }), ends, Decision::Refuse(Refusal::Forked { tip: Txid(4), acked })),
            (recorded(Descent::Unproven(Doubt::NoState)), ends, Decision::Restore(Why::Instead(Doubt::NoState))),
            (recorded(Descent::Unproven(behind.clone())), ends, Decision::Restore(Why::Instead(behind))),
        ] {
            assert_eq!(decide(&local, replica, Others::None), decision, "{local:?} {replica:?}");
            for others in [Others::MayUse, Others::MayUseOnce] {
                let decision = match decision.clone() {
                    Decision::Restore(Why::Instead(doubt)) => Decision::Refuse(Refusal::InUse(doubt)),
                    other => other,
                };
                assert_eq!(decide(&local, replica, others), decision, "{local:?} {replica:?} {others:?}");
            }
        }
    }
}
