//! Does the local file continue the replica? Pure: what the state file claims, against what the replica's newest files
//! say of themselves.

use crate::ltx::Header;
use crate::model::lineage::LocalState;
use crate::model::{FileChecksum, Txid};
use crate::store::layout::Level;

/// The newest position of a replica, and the heads of the files that end there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    pub txid: Txid,
    /// Raw level first; never empty.
    pub files: Vec<TipFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TipFile {
    pub key: String,
    pub size: u64,
    pub level: Level,
    pub header: Header,
    pub checksum: FileChecksum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The state file names the tip as its own.
    ByState,
    /// The local WAL still holds the last frame of the tip.
    ByWal,
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
}

/// What the state file proves, without looking at the database.
pub fn by_state(state: Option<&LocalState>, replica: &str, tip: &Tip) -> Lineage {
    let Some(state) = state else { return Lineage::Unproven(Doubt::NoState) };
    if state.replica != replica {
        return Lineage::Unproven(Doubt::OtherReplica(state.replica.clone()));
    }
    let ours = tip.files.iter().any(|file| file.header.node_id == state.node_id);
    let known = tip.files.iter().any(|file| Some(file.checksum) == state.tip_checksum);
    let (acked, tip) = (state.acked, tip.txid);
    match (tip < acked, tip > state.sent) {
        (true, _) if ours => Lineage::Ahead { acked },
        (true, _) => Lineage::Forked { acked },
        (_, true) => Lineage::Unproven(Doubt::Behind { acked, tip }),
        // Between what was confirmed and what was sent: ours if its header says so, known if it is the very file.
        _ if ours || known => Lineage::ByState,
        _ => Lineage::Unproven(Doubt::ForeignTip { tip }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lineage::WalPosition;
    use crate::model::{PageSize, TxidRange};

    const OURS: u64 = 7;

    fn state(acked: u64, sent: u64) -> LocalState {
        LocalState {
            replica: "file:///r".into(),
            node_id: OURS,
            acked: Txid(acked),
            sent: Txid(sent),
            tip_checksum: Some(FileChecksum(99)),
            page_size: PageSize::new(4096).unwrap(),
            wal: WalPosition::default(),
            db_checksum: None,
        }
    }

    fn tip(txid: u64, files: &[(u64, u64)]) -> Tip {
        let files = files.iter().map(|(node_id, checksum)| {
            let mut header = Header::new(PageSize::new(4096).unwrap(), 1, TxidRange::single(Txid(txid)), 0);
            header.node_id = *node_id;
            TipFile { key: "k".into(), size: 200, level: Level(0), header, checksum: FileChecksum(*checksum) }
        });
        Tip { txid: Txid(txid), files: files.collect() }
    }

    #[test]
    fn every_relation_of_state_and_tip() {
        let behind = |acked, tip| Lineage::Unproven(Doubt::Behind { acked: Txid(acked), tip: Txid(tip) });
        let foreign = |tip| Lineage::Unproven(Doubt::ForeignTip { tip: Txid(tip) });
        for (acked, sent, end, files, lineage) in [
            // Confirmed and there, by our header or as the very file that was restored.
            (5, 5, 5, &[(OURS, 1)][..], Lineage::ByState),
            (5, 5, 5, &[(0, 99)], Lineage::ByState),
            (5, 5, 5, &[(0, 1), (0, 99)], Lineage::ByState),
            (5, 5, 5, &[(0, 1)], foreign(5)),
            (5, 5, 5, &[(8, 1)], foreign(5)),
            // The reply was lost.
            (5, 6, 6, &[(OURS, 1)], Lineage::ByState),
            (5, 6, 6, &[(8, 1)], foreign(6)),
            // The upload never arrived.
            (5, 6, 5, &[(OURS, 1)], Lineage::ByState),
            (5, 6, 5, &[(0, 99)], Lineage::ByState),
            // Somebody went on.
            (5, 5, 6, &[(8, 1)], behind(5, 6)),
            (5, 5, 6, &[(OURS, 1)], behind(5, 6)),
            (5, 6, 7, &[(8, 1)], behind(5, 7)),
            // The replica lost its end, or was made anew by another.
            (5, 5, 4, &[(OURS, 1)], Lineage::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(0, 1), (OURS, 1)], Lineage::Ahead { acked: Txid(5) }),
            (5, 5, 4, &[(8, 1)], Lineage::Forked { acked: Txid(5) }),
        ] {
            let tip = tip(end, files);
            assert_eq!(by_state(Some(&state(acked, sent)), "file:///r", &tip), lineage, "{acked} {sent} {tip:?}");
        }
        let tip = tip(5, &[(OURS, 99)]);
        assert_eq!(by_state(None, "file:///r", &tip), Lineage::Unproven(Doubt::NoState));
        let other = Lineage::Unproven(Doubt::OtherReplica("file:///r".into()));
        assert_eq!(by_state(Some(&state(5, 5)), "file:///other", &tip), other);
    }
}
