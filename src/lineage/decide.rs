//! The one decision about a local file and its replica, for a start (`FileAccess` says what may be replaced)
//! and for the begin of a session (which replaces nothing, so `Shared`): pure, every cell.

use super::check::{Doubt, LineageCheck};
use super::evidence::Evidence;
use super::rollback::Rollback;
use super::setup_mark::{self, Before};
use crate::model::Txid;
use crate::replica::Replica;

/// The file at the database's path; one of 0 bytes is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    Absent,
    /// With what is known of its relation to the replica; None where the replica holds nothing to compare
    /// with.
    Present(Option<Relation>),
    /// Present, and of no position: it must not be used, whatever the replica holds.
    Torn(Doubt),
    /// The same, and there was no file before.
    Begun(Doubt),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// What the record beside it proves, and its content does not deny.
    ByRecord(LineageCheck),
    /// The local WAL still holds the last frame of the tip, whatever the record says.
    ByWal,
    /// It continues the newest state of a Litestream 0.3 replica: restored from it by us, or replicated to
    /// it.
    FromV3,
    /// It was brought back to an older state on purpose, and the replica has not grown since.
    RolledBack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    KeepLocal(Kept),
    Restore(Why),
    StartEmpty,
    /// The local file is removed.
    StartOver(Doubt),
    Refuse(Refusal),
}

/// Why the local file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    ReplicaEmpty,
    ByRecord,
    ByWal,
    FromV3,
    Ahead,
    RolledBack,
}

/// Which processes may have a database's files open while litevisor prepares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileAccess {
    /// None: the app is started afterwards.
    #[default]
    Exclusive,
    /// An app that litevisor does not start. No file of the database's name, be it empty, is replaced, moved
    /// or removed.
    Shared,
}

/// A state in which going on would lose data silently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "it ends at TXID {tip} with a file of another writer, while the local file had been replicated up to \
         TXID {acked}; keep the one that is right and remove the other (the local database, or the replica)"
    )]
    Forked { tip: Txid, acked: Txid },
    #[error(
        "{0}. An app may have the file open, so it is not replaced: stop the app and let `litevisor run` or \
         `litevisor restore --force` decide, or move the file, or the replica, away"
    )]
    InUse(Doubt),
    #[error(
        "it holds nothing, and the local file cannot be used: {0}. Bring the replica back, or remove the \
         local file to start with an empty database"
    )]
    TornAlone(Doubt),
}

/// Why the replica's state is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    NoLocalFile,
    /// A local file is there, and nothing proves that it continues the replica.
    Instead(Doubt),
}

const OTHER_FILE: &str = "another file was put in place of the one that was restored on purpose";
const OUTDATED: &str =
    "an older state was restored on purpose, but the replica has got newer positions since";

/// How the local file relates to the replica, from all evidence.
pub fn relate(evidence: &Evidence) -> Local {
    if let (true, Some(before)) = (evidence.present, evidence.setup) {
        return of_setup(before);
    }
    let torn = evidence.torn();
    match (evidence.present, evidence.replica) {
        (false, _) => Local::Absent,
        (true, _) if torn.is_some() => torn.map_or(Local::Absent, Local::Torn),
        (true, Replica::Empty) => Local::Present(None),
        (true, Replica::V3) if evidence.rollback == Some(Rollback::Valid) => {
            Local::Present(Some(Relation::RolledBack))
        }
        (true, Replica::V3) => {
            Local::Present((evidence.v3_marker || evidence.v3_shadow).then_some(Relation::FromV3))
        }
        (true, Replica::Ends(_)) => {
            Local::Present(evidence.check.as_ref().map(|check| by_tip(evidence, check)))
        }
    }
}

/// The file that a setup without success has left.
fn of_setup(before: Before) -> Local {
    match before {
        before @ (Before::Replica | Before::Unknown) => Local::Torn(setup_mark::doubt(before)),
        Before::Nothing => Local::Begun(setup_mark::doubt(before)),
    }
}

fn by_tip(evidence: &Evidence, check: &LineageCheck) -> Relation {
    let unproven = |why| Relation::ByRecord(LineageCheck::Unproven(Doubt::Content(why)));
    match (check, evidence.rollback) {
        // The rollback was accepted and recorded; its snapshot is not in the replica yet.
        (LineageCheck::Ours { sent: false }, Some(Rollback::OtherFile)) => unproven(OTHER_FILE),
        (LineageCheck::Ours { .. }, _) => {
            evidence.denied().map_or(Relation::ByRecord(check.clone()), unproven)
        }
        // A file that lost its WAL may still be newer than a replica that lost its end.
        (LineageCheck::Ahead { .. }, _) => {
            evidence.replaced().map_or(Relation::ByRecord(check.clone()), unproven)
        }
        (LineageCheck::Unproven(_), Some(Rollback::Valid)) => Relation::RolledBack,
        (LineageCheck::Unproven(_), _) if evidence.wal_holds_tip.is_some() => Relation::ByWal,
        (LineageCheck::Unproven(_), Some(Rollback::OtherFile)) => unproven(OTHER_FILE),
        (LineageCheck::Unproven(_), Some(Rollback::Outdated)) => unproven(OUTDATED),
        _ => Relation::ByRecord(check.clone()),
    }
}

/// A file that another process may have open is never replaced.
pub fn decide(local: &Local, replica: Replica, access: FileAccess) -> Decision {
    match (alone(local, replica), access) {
        (Decision::Restore(Why::Instead(doubt)) | Decision::StartOver(doubt), FileAccess::Shared) => {
            Decision::Refuse(Refusal::InUse(doubt))
        }
        (decision, _) => decision,
    }
}

/// How a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The replica is empty: a snapshot of the database is its first position.
    New,
    /// `sent`: the last upload had arrived although its reply was lost.
    Continue { sent: bool },
    /// The replica lost its end: a snapshot of the database is its next position.
    Ahead,
    /// Nothing may be uploaded on top of this replica.
    Refused(NoSession),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    #[error("the local file does not continue it: {0}")]
    Unproven(Doubt),
    #[error("the local file had been replicated up to TXID {0}")]
    Forked(Txid),
}

/// The same decision at the begin of a session. The file has been kept by a start, or replaced while the app
/// runs; its content is compared with the record under the hold (`resume`), so only what the record proves
/// has a say here.
pub fn decide_session(evidence: &Evidence) -> Begin {
    let relation = evidence.check.clone().map(Relation::ByRecord);
    let local = match (evidence.setup, evidence.torn()) {
        (Some(before), _) => of_setup(before),
        (None, Some(doubt)) => Local::Torn(doubt),
        (None, None) => Local::Present(relation),
    };
    match (decide(&local, evidence.replica, FileAccess::Shared), &evidence.check) {
        (Decision::KeepLocal(Kept::ReplicaEmpty), _) => Begin::New,
        (Decision::KeepLocal(Kept::Ahead), _) => Begin::Ahead,
        (Decision::KeepLocal(_), Some(LineageCheck::Ours { sent })) => Begin::Continue { sent: *sent },
        (Decision::Refuse(Refusal::Forked { acked, .. }), _) => Begin::Refused(NoSession::Forked(acked)),
        (
            Decision::Refuse(Refusal::InUse(doubt) | Refusal::TornAlone(doubt))
            | Decision::Restore(Why::Instead(doubt))
            | Decision::StartOver(doubt),
            _,
        ) => Begin::Refused(NoSession::Unproven(doubt)),
        (Decision::KeepLocal(_) | Decision::Restore(Why::NoLocalFile) | Decision::StartEmpty, _) => {
            Begin::Refused(NoSession::Unproven(Doubt::NoState))
        }
    }
}

fn alone(local: &Local, replica: Replica) -> Decision {
    match (local, replica) {
        (Local::Torn(doubt), Replica::Empty) => Decision::Refuse(Refusal::TornAlone(doubt.clone())),
        (Local::Begun(doubt), Replica::Empty) => Decision::StartOver(doubt.clone()),
        (Local::Torn(doubt) | Local::Begun(doubt), _) => Decision::Restore(Why::Instead(doubt.clone())),
        (Local::Present(Some(Relation::RolledBack)), Replica::V3) => Decision::KeepLocal(Kept::RolledBack),
        (Local::Present(Some(Relation::FromV3)), Replica::V3) => Decision::KeepLocal(Kept::FromV3),
        (Local::Present(_), Replica::V3) => Decision::Restore(Why::Instead(Doubt::NoState)),
        (Local::Absent, Replica::V3) => Decision::Restore(Why::NoLocalFile),
        (Local::Absent, Replica::Empty) => Decision::StartEmpty,
        (Local::Absent, Replica::Ends(_)) => Decision::Restore(Why::NoLocalFile),
        (Local::Present(_), Replica::Empty) => Decision::KeepLocal(Kept::ReplicaEmpty),
        (Local::Present(lineage), Replica::Ends(tip)) => match lineage {
            Some(Relation::ByWal) => Decision::KeepLocal(Kept::ByWal),
            Some(Relation::FromV3) => Decision::KeepLocal(Kept::FromV3),
            Some(Relation::RolledBack) => Decision::KeepLocal(Kept::RolledBack),
            Some(Relation::ByRecord(check)) => match check {
                LineageCheck::Ours { .. } => Decision::KeepLocal(Kept::ByRecord),
                LineageCheck::Ahead { .. } => Decision::KeepLocal(Kept::Ahead),
                LineageCheck::Forked { acked } => Decision::Refuse(Refusal::Forked { tip, acked: *acked }),
                LineageCheck::Unproven(doubt) => Decision::Restore(Why::Instead(doubt.clone())),
            },
            None => Decision::Restore(Why::Instead(Doubt::NoState)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::file_content::Content;
    use crate::lineage::file_times::FileTimes;
    use crate::lineage::record::{LocalState, Origin};
    use crate::lineage::{FollowMark, FollowStep};
    use crate::sqlite::WalStanding;

    fn evidence() -> Evidence {
        Evidence {
            present: true,
            file: None,
            record: None,
            replica: Replica::Ends(Txid(4)),
            tip: None,
            check: None,
            wal: None,
            content: None,
            rollback: None,
            v3_marker: false,
            v3_shadow: false,
            wal_holds_tip: None,
            setup: None,
        }
    }

    fn record() -> LocalState {
        let file = Some(FileTimes { modified_ns: 5, born_ns: 6 });
        LocalState { file, ..LocalState::without_position("r", 7, Origin::Continued) }
    }

    fn torn_record() -> LocalState {
        let step = FollowStep {
            txid: 6,
            in_place: true,
            commit_fields: None,
            db_checksum: 1 << 63,
            file_checksum: 1 << 63,
        };
        let origin = Origin::Following(FollowMark { step: Some(step), commit_fields: None });
        LocalState { origin, acked: Txid(4), sent: Txid(4), ..record() }
    }

    #[test]
    fn the_relation_to_a_replica_with_ltx_files() {
        let (ours, arrived) = (LineageCheck::Ours { sent: false }, LineageCheck::Ours { sent: true });
        let (ahead, forked) =
            (LineageCheck::Ahead { acked: Txid(9) }, LineageCheck::Forked { acked: Txid(9) });
        let behind = LineageCheck::Unproven(Doubt::Behind { acked: Txid(2), tip: Txid(4) });
        let by = |check: &LineageCheck| Relation::ByRecord(check.clone());
        let content = |why| Relation::ByRecord(LineageCheck::Unproven(Doubt::Content(why)));
        let (valid, other, outdated) =
            (Some(Rollback::Valid), Some(Rollback::OtherFile), Some(Rollback::Outdated));
        let (reached, short) = (Some(WalStanding::Reached), Some(WalStanding::Short));
        let lost = "its WAL ends before what it had uploaded";
        for (check, rollback, wal, holds_tip, relation) in [
            (&ours, None, None, false, by(&ours)),
            (&ours, None, reached, false, by(&ours)),
            (&ours, None, short, false, content(lost)),
            (&arrived, None, reached, false, by(&arrived)),
            (&arrived, None, short, false, content(lost)),
            // A rollback that was accepted: its own file only, until its snapshot has arrived.
            (&ours, valid, reached, false, by(&ours)),
            (&ours, valid, short, false, content(lost)),
            (&ours, other, reached, false, content(OTHER_FILE)),
            (&arrived, other, reached, false, by(&arrived)),
            (&ours, outdated, reached, false, by(&ours)),
            (&ahead, None, short, false, by(&ahead)),
            (&forked, None, None, true, by(&forked)),
            (&behind, None, None, false, by(&behind)),
            (&behind, None, None, true, Relation::ByWal),
            (&behind, valid, None, false, Relation::RolledBack),
            (&behind, valid, None, true, Relation::RolledBack),
            (&behind, other, None, false, content(OTHER_FILE)),
            (&behind, other, None, true, Relation::ByWal),
            (&behind, outdated, None, false, content(OUTDATED)),
            (&behind, outdated, None, true, Relation::ByWal),
        ] {
            let evidence = Evidence {
                check: Some(check.clone()),
                record: Some(record()),
                rollback,
                wal,
                wal_holds_tip: holds_tip.then(record),
                ..evidence()
            };
            assert_eq!(relate(&evidence), Local::Present(Some(relation)), "{evidence:?}");
            assert_eq!(relate(&Evidence { present: false, ..evidence }), Local::Absent);
        }
        assert_eq!(relate(&evidence()), Local::Present(None));
        let torn = torn_record();
        let doubt = Doubt::Torn { from: Txid(4), to: Txid(6) };
        for replica in [Replica::Ends(Txid(4)), Replica::Empty, Replica::V3] {
            let wal_holds_tip = Some(record());
            let found =
                Evidence { check: Some(ours.clone()), record: Some(torn.clone()), replica, ..evidence() };
            assert_eq!(relate(&found), Local::Torn(doubt.clone()), "{replica:?}");
            assert_eq!(
                decide_session(&found),
                Begin::Refused(NoSession::Unproven(doubt.clone())),
                "{replica:?}"
            );
            // Another file has been put in its place since.
            let file = Some(FileTimes { modified_ns: 5, born_ns: 99 });
            let other = Evidence { file, wal_holds_tip, ..found };
            assert_ne!(relate(&other), Local::Torn(doubt.clone()), "{replica:?}");
        }
        for before in [Before::Replica, Before::Unknown, Before::Nothing] {
            let doubt = setup_mark::doubt(before);
            let expected = if before == Before::Nothing {
                Local::Begun(doubt.clone())
            } else {
                Local::Torn(doubt.clone())
            };
            for (replica, record) in [
                (Replica::Ends(Txid(4)), None),
                (Replica::Empty, Some(record())),
                (Replica::V3, Some(torn.clone())),
            ] {
                let (check, setup, wal_holds_tip) = (Some(ours.clone()), Some(before), record.clone());
                let found = Evidence { check, record, replica, setup, wal_holds_tip, ..evidence() };
                assert_eq!(relate(&found), expected, "{replica:?}");
                let refused = Begin::Refused(NoSession::Unproven(doubt.clone()));
                assert_eq!(decide_session(&found), refused, "{before:?} {replica:?}");
                assert_eq!(relate(&Evidence { present: false, ..found }), Local::Absent);
            }
        }
        for check in [ours, ahead] {
            let (wal, another) = (reached, Some(Content::Another));
            let overwritten =
                Evidence { check: Some(check), record: Some(record()), wal, content: another, ..evidence() };
            let denied = overwritten.denied().unwrap();
            assert_eq!(relate(&overwritten), Local::Present(Some(content(denied))));
        }
    }

    #[test]
    fn the_relation_to_an_empty_replica_and_to_litestream_0_3() {
        let v3 = Evidence { replica: Replica::V3, ..evidence() };
        let valid = Some(Rollback::Valid);
        for (evidence, relation) in [
            (Evidence { replica: Replica::Empty, rollback: valid, v3_marker: true, ..evidence() }, None),
            (v3.clone(), None),
            (Evidence { v3_marker: true, ..v3.clone() }, Some(Relation::FromV3)),
            (Evidence { v3_shadow: true, ..v3.clone() }, Some(Relation::FromV3)),
            (Evidence { rollback: valid, ..v3.clone() }, Some(Relation::RolledBack)),
            (Evidence { rollback: valid, v3_shadow: true, ..v3.clone() }, Some(Relation::RolledBack)),
            (Evidence { rollback: Some(Rollback::OtherFile), ..v3.clone() }, None),
            (
                Evidence { rollback: Some(Rollback::Outdated), v3_marker: true, ..v3.clone() },
                Some(Relation::FromV3),
            ),
        ] {
            assert_eq!(relate(&evidence), Local::Present(relation), "{evidence:?}");
            assert_eq!(relate(&Evidence { present: false, ..evidence }), Local::Absent);
        }
    }

    #[test]
    fn how_a_session_begins() {
        let behind = Doubt::Behind { acked: Txid(2), tip: Txid(4) };
        for (check, begin) in [
            (LineageCheck::Ours { sent: false }, Begin::Continue { sent: false }),
            (LineageCheck::Ours { sent: true }, Begin::Continue { sent: true }),
            (LineageCheck::Ahead { acked: Txid(9) }, Begin::Ahead),
            (LineageCheck::Forked { acked: Txid(9) }, Begin::Refused(NoSession::Forked(Txid(9)))),
            (LineageCheck::Unproven(behind.clone()), Begin::Refused(NoSession::Unproven(behind))),
        ] {
            let evidence = Evidence { check: Some(check), record: Some(record()), ..evidence() };
            assert_eq!(decide_session(&evidence), begin, "{evidence:?}");
        }
        assert_eq!(decide_session(&Evidence { replica: Replica::Empty, ..evidence() }), Begin::New);
        assert_eq!(decide_session(&evidence()), Begin::Refused(NoSession::Unproven(Doubt::NoState)));
    }

    #[test]
    fn every_cell() {
        let acked = Txid(9);
        let ends = Replica::Ends(Txid(4));
        let recorded = |check| Local::Present(Some(Relation::ByRecord(check)));
        let from_old = Local::Present(Some(Relation::FromV3));
        let behind = Doubt::Behind { acked: Txid(2), tip: Txid(4) };
        let torn = Doubt::Torn { from: Txid(2), to: Txid(4) };
        for (local, replica, decision) in [
            (Local::Torn(torn.clone()), Replica::Empty, Decision::Refuse(Refusal::TornAlone(torn.clone()))),
            (Local::Torn(torn.clone()), Replica::V3, Decision::Restore(Why::Instead(torn.clone()))),
            (Local::Torn(torn.clone()), ends, Decision::Restore(Why::Instead(torn.clone()))),
            (Local::Begun(torn.clone()), Replica::Empty, Decision::StartOver(torn.clone())),
            (Local::Begun(torn.clone()), Replica::V3, Decision::Restore(Why::Instead(torn.clone()))),
            (Local::Begun(torn.clone()), ends, Decision::Restore(Why::Instead(torn))),
            (Local::Absent, Replica::Empty, Decision::StartEmpty),
            (Local::Absent, Replica::V3, Decision::Restore(Why::NoLocalFile)),
            (Local::Absent, ends, Decision::Restore(Why::NoLocalFile)),
            (Local::Present(None), Replica::Empty, Decision::KeepLocal(Kept::ReplicaEmpty)),
            (Local::Present(None), Replica::V3, Decision::Restore(Why::Instead(Doubt::NoState))),
            (
                Local::Present(Some(Relation::RolledBack)),
                Replica::Empty,
                Decision::KeepLocal(Kept::ReplicaEmpty),
            ),
            (Local::Present(Some(Relation::RolledBack)), Replica::V3, Decision::KeepLocal(Kept::RolledBack)),
            (Local::Present(Some(Relation::RolledBack)), ends, Decision::KeepLocal(Kept::RolledBack)),
            (from_old.clone(), Replica::V3, Decision::KeepLocal(Kept::FromV3)),
            (Local::Present(None), ends, Decision::Restore(Why::Instead(Doubt::NoState))),
            (recorded(LineageCheck::Ours { sent: false }), ends, Decision::KeepLocal(Kept::ByRecord)),
            (Local::Present(Some(Relation::ByWal)), ends, Decision::KeepLocal(Kept::ByWal)),
            (recorded(LineageCheck::Ahead { acked }), ends, Decision::KeepLocal(Kept::Ahead)),
            (
                recorded(LineageCheck::Forked { acked }),
                ends,
                Decision::Refuse(Refusal::Forked { tip: Txid(4), acked }),
            ),
            (
                recorded(LineageCheck::Unproven(Doubt::NoState)),
                ends,
                Decision::Restore(Why::Instead(Doubt::NoState)),
            ),
            (recorded(LineageCheck::Unproven(behind.clone())), ends, Decision::Restore(Why::Instead(behind))),
        ] {
            assert_eq!(decide(&local, replica, FileAccess::Exclusive), decision, "{local:?} {replica:?}");
            let shared = match decision {
                Decision::Restore(Why::Instead(doubt)) | Decision::StartOver(doubt) => {
                    Decision::Refuse(Refusal::InUse(doubt))
                }
                other => other,
            };
            assert_eq!(decide(&local, replica, FileAccess::Shared), shared, "{local:?} {replica:?}, shared");
        }
    }
}
