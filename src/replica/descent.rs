//! Does the local file descend from the replica? Pure: what the record beside it claims, against what the replica's
//! newest files say of themselves. A local file becomes the replica's head only when it provably does. Where the file's
//! own content has a say (its WAL, its checksum), the callers ask it next.

use super::tip::Tip;
use crate::model::Txid;
use crate::model::lineage::LocalState;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The newest file is this lineage's, or the very one that was restored. `sent`: the last upload had arrived although
    /// its reply was lost.
    Ours { sent: bool },
    /// The tip is ours, but the replica had confirmed more: it lost its end, the local file has it.
    Ahead { acked: Txid },
    /// The replica had confirmed more, and its tip is somebody else's.
    Forked { acked: Txid },
    /// Nothing says that it does.
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
    #[error("the replica's newest file (TXID {tip}) was written by another")]
    ForeignTip { tip: Txid },
    #[error("{0}")]
    Content(&'static str),
}

pub fn descent(state: Option<&LocalState>, replica: &str, tip: &Tip) -> Descent {
    let Some(state) = state else { return Descent::Unproven(Doubt::NoState) };
    if state.replica != replica {
        return Descent::Unproven(Doubt::OtherReplica(state.replica.clone()));
    }
    let (acked, txid) = (state.acked, tip.txid);
    let ours = tip.files().any(|file| file.header.node_id == state.node_id);
    if txid < acked {
        return if ours { Descent::Ahead { acked } } else { Descent::Forked { acked } };
    }
    if txid > state.sent {
        return Descent::Unproven(Doubt::Behind { acked, tip: txid });
    }
    // What was restored, and how the database was, is recorded for the confirmed position only.
    let confirmed = txid == acked;
    let known = confirmed && tip.files().any(|file| Some(file.checksum) == state.tip_checksum);
    let another = confirmed && matches!((tip.db_checksum(), state.db_checksum), (Some(a), Some(b)) if a != b);
    if (ours || known) && !another {
        Descent::Ours { sent: !confirmed }
    } else {
        Descent::Unproven(Doubt::ForeignTip { tip: txid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::Header;
    use crate::model::lineage::WalPosition;
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
        let behind = |acked, tip| Descent::Unproven(Doubt::Behind { acked: Txid(acked), tip: Txid(tip) });
        let foreign = |tip| Descent::Unproven(Doubt::ForeignTip { tip: Txid(tip) });
        let (same, arrived) = (Descent::Ours { sent: false }, Descent::Ours { sent: true });
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
            // Somebody went on; or we did, and this is an old disk.
            (5, 5, 6, &[(8, 1)], behind(5, 6)),
            (5, 5, 6, &[(OURS, 1)], behind(5, 6)),
            (5, 6, 7, &[(8, 1)], behind(5, 7)),
            // The replica lost its end, or was made anew by another.
            (5, 5, 4, &[(OURS, 1)], Descent::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(0, 1), (OURS, 1)], Descent::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(8, 1)], Descent::Forked { acked: Txid(5) }),
        ] {
            let tip = tip(end, files, None);
            assert_eq!(descent(Some(&state(acked, sent)), "file:///r", &tip), expected, "{acked} {sent} {tip:?}");
        }
        let tip = tip(5, &[(OURS, 99)], None);
        assert_eq!(descent(None, "file:///r", &tip), Descent::Unproven(Doubt::NoState));
        let other = Descent::Unproven(Doubt::OtherReplica("file:///r".into()));
        assert_eq!(descent(Some(&state(5, 5)), "file:///other", &tip), other);
    }

    #[test]
    fn the_same_number_with_another_database_is_foreign() {
        let ask = |acked, sent, end, sum| {
            descent(Some(&state(acked, sent)), "file:///r", &tip(end, &[(OURS, 99)], checksum(sum)))
        };
        assert_eq!(ask(5, 5, 5, 5), Descent::Ours { sent: false });
        assert_eq!(ask(5, 5, 5, 6), Descent::Unproven(Doubt::ForeignTip { tip: Txid(5) }));
        assert_eq!(ask(5, 6, 6, 6), Descent::Ours { sent: true }, "the record is about the position before");
    }
}
