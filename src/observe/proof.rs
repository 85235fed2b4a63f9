//! What is known of the proofs of one replica, as `status`, `/readyz` and the metrics show it. Pure.

use crate::replica::ProofRecord;
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProofView {
    /// The newest proof that has come to a result, of this run or of the run before.
    pub last: Option<ProofRecord>,
    pub is_running: bool,
    /// Why the proof that was due has come to no result.
    pub undecided: Option<String>,
}

impl ProofView {
    /// Why the newest state is not proven, although a proof was made. None: it is, or there was none.
    pub fn failure(&self) -> Option<String> {
        let last = self.last.as_ref().filter(|last| !last.sound)?;
        let why = last.problem.as_deref().unwrap_or("the reason is not recorded");
        Some(format!("the proof of {} FAILED at TXID {}: {why}", last.time, last.txid))
    }

    pub fn problem(&self) -> Option<String> {
        let undecided = self.undecided.as_ref().map(|why| format!("the replica could not be proven: {why}"));
        self.failure().into_iter().chain(undecided).reduce(|all, more| all + "; " + &more)
    }

    /// When the newest sound proof was made (Unix milliseconds), and of which position.
    pub fn proven(&self) -> Option<(i64, u64)> {
        let proven = self.last.as_ref()?.proven.as_ref()?;
        Some((proven.time_ms(), proven.txid().0))
    }
}

pub fn report(view: &ProofView) -> Value {
    let last = view.last.as_ref();
    let proven = last.and_then(|last| last.proven.as_ref());
    json!({
        "running": view.is_running,
        "last": last.map(|last| json!({
            "time": last.time,
            "sound": last.sound,
            "mode": last.mode,
            "txid": last.txid,
            "seconds": last.seconds,
            "bytes": last.bytes,
            "problem": last.problem,
        })),
        "last_sound": proven.map(|proven| json!({ "time": proven.time, "txid": proven.txid })),
        "undecided": view.undecided,
    })
}

/// Unix seconds.
pub fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Moment, Txid};
    use crate::replica::proof::Findings;

    #[test]
    fn a_failed_proof_stays_until_a_sound_one() {
        let now = Moment::parse("2026-11-29T18:46:25.123Z").unwrap();
        let sound = ProofRecord::new(Findings { txid: Txid(7), ..Findings::default() }, now, None);
        let findings =
            Findings { txid: Txid(9), problem: Some("x is damaged".into()), ..Findings::default() };
        let failed = ProofRecord::new(findings, Moment(now.0 + 60_000), sound.proven.clone());
        let view = |last: &ProofRecord| ProofView { last: Some(last.clone()), ..ProofView::default() };
        assert_eq!((view(&sound).problem(), view(&sound).proven()), (None, Some((now.0, 7))));
        let told = view(&failed).problem().unwrap();
        assert_eq!(
            told,
            "the proof of 2026-11-29T18:47:25.123Z FAILED at TXID 0000000000000009: x is damaged"
        );
        assert_eq!(view(&failed).proven(), Some((now.0, 7)), "what was proven before");
        let undecided = ProofView { undecided: Some("no room".into()), ..view(&failed) };
        assert!(
            undecided.problem().unwrap().ends_with("x is damaged; the replica could not be proven: no room")
        );
        assert_eq!(undecided.failure(), view(&failed).failure());
        assert_eq!(report(&view(&failed)).pointer("/last_sound/txid").unwrap(), "0000000000000007");
        assert_eq!(seconds(1_234_567), "1234.567");
        assert_eq!(ProofView::default().problem(), None);
    }
}
