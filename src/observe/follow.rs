//! How far a read-only copy is behind its replica, as the task that follows knows it, and as `status`,
//! `/readyz` and the metrics show it.

use crate::model::Txid;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a copy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowView {
    /// Of the copy, and the replica's newest when it was last listed.
    pub position: Txid,
    pub newest: Txid,
    /// When the newest listing began of which everything was applied. None: the copy has not been complete
    /// yet.
    pub complete_at: Option<Instant>,
    /// When the copy began to be followed.
    pub since: Instant,
    pub max_lag: Duration,
    /// Files of the replica that were applied, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// How often the copy was restored anew, because nothing led on.
    pub restores: u64,
    /// Why the last look failed.
    pub problem: Option<String>,
    /// Device and inode of the copy's previous file, and the processes that still read it: they see nothing
    /// new.
    pub previous: Option<((u64, u64), String)>,
}

impl FollowView {
    pub fn new(max_lag: Duration) -> FollowView {
        FollowView {
            position: Txid::NONE,
            newest: Txid::NONE,
            complete_at: None,
            since: Instant::now(),
            max_lag,
            files: 0,
            bytes: 0,
            restores: 0,
            problem: None,
            previous: None,
        }
    }

    /// The copy has everything that was in the replica this long ago. While nothing fails, it is between zero
    /// and one poll, also when nothing is written: an idle writer is no lag.
    pub fn behind(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.complete_at.unwrap_or(self.since))
    }

    /// Processes that read a file which does not follow any more.
    pub fn left_behind(&self) -> Option<String> {
        let (_, who) = self.previous.as_ref()?;
        Some(format!("the copy is a new file, and {who} still read the old one: restart them"))
    }

    /// Why the copy is too old to be read; None: it is not.
    pub fn stale(&self, now: Instant) -> Option<String> {
        let behind = self.behind(now);
        if behind <= self.max_lag {
            return None;
        }
        let why = self.problem.as_ref().map_or(String::new(), |why| format!(": {why}"));
        Some(format!("the copy is {} s behind its replica{why}", behind.as_secs()))
    }
}

/// What the task writes and the registry reads.
#[derive(Clone, Debug)]
pub struct FollowStatus(Arc<Mutex<FollowView>>);

impl FollowStatus {
    pub fn new(max_lag: Duration) -> FollowStatus {
        FollowStatus(Arc::new(Mutex::new(FollowView::new(max_lag))))
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut FollowView) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn view(&self) -> FollowView {
        self.change(|view| view.clone())
    }
}

pub fn report(view: &FollowView, now: Instant) -> Value {
    let txid = |txid: Txid| (txid != Txid::NONE).then(|| txid.to_string());
    let seconds = (view.behind(now).as_secs_f64() * 1000.0).round() / 1000.0;
    json!({
        "position": txid(view.position),
        "newest": txid(view.newest),
        "seconds_behind": seconds,
        "stale": view.stale(now).is_some(),
        "files": view.files,
        "bytes": view.bytes,
        "restores": view.restores,
        "readers_of_old_file": view.previous.as_ref().map(|(_, who)| who),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_writer_is_no_lag_and_a_replica_that_is_away_is() {
        let since = Instant::now();
        let at = |seconds| since + Duration::from_secs(seconds);
        let new = FollowView { since, ..FollowView::new(Duration::from_secs(60)) };
        assert_eq!((new.behind(at(9)), new.stale(at(60))), (Duration::from_secs(9), None));
        assert!(new.stale(at(61)).is_some(), "it has never been complete");
        let idle = FollowView { complete_at: Some(at(1000)), ..new.clone() };
        assert_eq!((idle.behind(at(1001)), idle.stale(at(1001))), (Duration::from_secs(1), None));
        let away = FollowView { problem: Some("no route".into()), ..idle };
        assert_eq!(away.stale(at(1100)).unwrap(), "the copy is 100 s behind its replica: no route");
        let left = FollowView { previous: Some(((1, 2), "PID 7 (app)".into())), ..new };
        assert!(left.left_behind().unwrap().contains("PID 7 (app) still read the old one"));
    }
}
