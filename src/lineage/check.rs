//! The lineage check: does the record beside a database prove that the local file continues the replica?
//! Pure: the record against the headers and checksums of the replica's newest files. The file's own content
//! is checked after it (`decide`).

use super::record::LocalState;
use crate::model::Txid;
use crate::replica::Tip;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineageCheck {
    /// The newest file was written by this lineage, or is the file that was restored. `sent`: the last upload
    /// had arrived although its reply was lost.
    Ours { sent: bool },
    /// The newest file is ours, but the replica had confirmed a later one: the replica lost its end, the
    /// local file has it.
    Ahead { acked: Txid },
    /// The replica had confirmed a later position, and its newest file was written by another.
    Forked { acked: Txid },
    /// Nothing proves that the local file continues the replica.
    Unproven(Doubt),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("nothing is recorded about it")]
    NoState,
    #[error("it belongs to another replica ({0})")]
    OtherReplica(String),
    #[error("it is behind: it stands at TXID {acked}, the replica at {tip}")]
    Behind { acked: Txid, tip: Txid },
    #[error("the replica's newest file (TXID {tip}) was written by another writer")]
    ForeignTip { tip: Txid },
    #[error(
        "it was being brought from TXID {from} to {to} when that was interrupted: it holds pages of both"
    )]
    Torn { from: Txid, to: Txid },
    #[error("{0}")]
    Content(&'static str),
}

/// The file is of no position, whatever its replica holds.
pub fn torn(state: &LocalState) -> Option<Doubt> {
    state.torn().map(|to| Doubt::Torn { from: state.acked, to })
}

pub fn check(state: Option<&LocalState>, replica: &str, tip: &Tip) -> LineageCheck {
    let Some(state) = state.filter(|state| state.has_position() || state.replica != replica) else {
        return LineageCheck::Unproven(Doubt::NoState);
    };
    if state.replica != replica {
        return LineageCheck::Unproven(Doubt::OtherReplica(state.replica.clone()));
    }
    if let Some(doubt) = torn(state) {
        return LineageCheck::Unproven(doubt);
    }
    let acked = state.acked;
    let txid = tip.txid;
    let ours = tip.files().any(|file| file.header.node_id == state.node_id);
    if txid < acked {
        return if ours { LineageCheck::Ahead { acked } } else { LineageCheck::Forked { acked } };
    }
    if txid > state.sent {
        return LineageCheck::Unproven(Doubt::Behind { acked, tip: txid });
    }
    // The file's checksum and the database's are recorded for the confirmed position only.
    let confirmed = txid == acked;
    let known = confirmed && tip.files().any(|file| Some(file.checksum) == state.tip_checksum);
    let another = confirmed && matches!((tip.db_checksum(), state.db_checksum), (Some(a), Some(b)) if a != b);
    if (ours || known) && !another {
        LineageCheck::Ours { sent: !confirmed }
    } else {
        LineageCheck::Unproven(Doubt::ForeignTip { tip: txid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::record::{Origin, WalPosition};
    use crate::ltx::Header;
    use crate::model::{DbChecksum, FileChecksum, PageSize, TxidRange};
    use crate::replica::TipFile;
    use crate::store::layout::Level;

    const OURS: u64 = 7;

    fn checksum(value: u64) -> Option<DbChecksum> {
        DbChecksum::from_header(1 << 63 | value)
    }

    fn state(acked: u64, sent: u64) -> LocalState {
        LocalState {
            replica: "file:///r".into(),
            node_id: OURS,
            acked: Txid(acked),
            sent: Txid(sent),
            tip_checksum: Some(FileChecksum(99)),
            page_size: PageSize::new(4096).unwrap(),
            wal: WalPosition::default(),
            wal_sent: WalPosition::default(),
            db_checksum: checksum(5),
            file: None,
            spilled: None,
            origin: Origin::Continued,
            app_locks_exclusively: false,
        }
    }

    /// Files by node id and file checksum.
    fn tip(txid: u64, files: &[(u64, u64)], db_checksum: Option<DbChecksum>) -> Tip {
        let mut files = files.iter().map(|(node_id, checksum)| {
            let mut header = Header::new(PageSize::new(4096).unwrap(), 1, TxidRange::single(Txid(txid)), 0);
            (header.node_id, header.db_checksum) = (*node_id, db_checksum);
            TipFile { key: "k".into(), level: Level(0), header, checksum: FileChecksum(*checksum) }
        });
        Tip { txid: Txid(txid), first: files.next().unwrap(), others: files.collect() }
    }

    #[test]
    fn every_relation_of_state_and_tip() {
        let behind =
            |acked, tip| LineageCheck::Unproven(Doubt::Behind { acked: Txid(acked), tip: Txid(tip) });
        let foreign = |tip| LineageCheck::Unproven(Doubt::ForeignTip { tip: Txid(tip) });
        let (same, arrived) = (LineageCheck::Ours { sent: false }, LineageCheck::Ours { sent: true });
        for (acked, sent, end, files, expected) in [
            // Confirmed and there, by our header or as the very file that was restored.
            (5, 5, 5, &[(OURS, 1)][..], same.clone()),
            (5, 5, 5, &[(0, 99)], same.clone()),
            (5, 5, 5, &[(0, 1), (0, 99)], same.clone()),
            (5, 5, 5, &[(0, 1)], foreign(5)),
            (5, 5, 5, &[(8, 1)], foreign(5)),
            // The reply was lost.
            (5, 6, 6, &[(OURS, 1)], arrived),
            (5, 6, 6, &[(8, 1)], foreign(6)),
            (5, 6, 6, &[(0, 99)], foreign(6)),
            // The upload never arrived.
            (5, 6, 5, &[(OURS, 1)], same.clone()),
            (5, 6, 5, &[(0, 99)], same),
            // Another writer went on; or we did, and this is an old disk.
            (5, 5, 6, &[(8, 1)], behind(5, 6)),
            (5, 5, 6, &[(OURS, 1)], behind(5, 6)),
            (5, 6, 7, &[(8, 1)], behind(5, 7)),
            // The replica lost its end, or was made anew by another.
            (5, 5, 4, &[(OURS, 1)], LineageCheck::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(0, 1), (OURS, 1)], LineageCheck::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(8, 1)], LineageCheck::Forked { acked: Txid(5) }),
        ] {
            let tip = tip(end, files, None);
            assert_eq!(
                check(Some(&state(acked, sent)), "file:///r", &tip),
                expected,
                "{acked} {sent} {tip:?}"
            );
        }
        let tip = tip(5, &[(OURS, 99)], None);
        assert_eq!(check(None, "file:///r", &tip), LineageCheck::Unproven(Doubt::NoState));
        let other = LineageCheck::Unproven(Doubt::OtherReplica("file:///r".into()));
        assert_eq!(check(Some(&state(5, 5)), "file:///other", &tip), other);
    }

    #[test]
    fn the_same_number_with_another_database_is_foreign() {
        let ask = |acked, sent, end, sum| {
            check(Some(&state(acked, sent)), "file:///r", &tip(end, &[(OURS, 99)], checksum(sum)))
        };
        assert_eq!(ask(5, 5, 5, 5), LineageCheck::Ours { sent: false });
        assert_eq!(ask(5, 5, 5, 6), LineageCheck::Unproven(Doubt::ForeignTip { tip: Txid(5) }));
        assert_eq!(
            ask(5, 6, 6, 6),
            LineageCheck::Ours { sent: true },
            "the record is about the position before"
        );
    }
}
