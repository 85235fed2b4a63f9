//! The ownership of the replica, as `status`, `/readyz` and the metrics show it, and what an operator asks of
//! it. Values only.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// What this instance knows of the ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandoverView {
    /// The epoch that this instance has claimed.
    pub epoch: Option<u64>,
    /// In one word: `waiting`, `owner`, `retired`, …
    pub state: &'static str,
    /// In one sentence, for people.
    pub detail: String,
    pub standby: Option<StandbyView>,
}

/// The owner that this instance stands by for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyView {
    /// Its host.
    pub owner: String,
    pub epoch: u64,
    /// Between two of its heartbeats. None: it writes none.
    pub heartbeat: Option<Duration>,
    /// The newest heartbeat. None: there is none yet.
    pub newest: Option<u64>,
    /// Missing in a row.
    pub missed: u32,
    /// When the newest one was seen.
    pub heard: Instant,
}

impl HandoverView {
    /// The time at which the newest heartbeat was seen first.
    pub fn after(mut self, before: Option<&HandoverView>) -> HandoverView {
        let before = before.and_then(|view| view.standby.as_ref());
        if let (Some(now), Some(before)) = (&mut self.standby, before)
            && (now.epoch, now.newest) == (before.epoch, before.newest)
        {
            now.heard = before.heard;
        }
        self
    }

    /// In one sentence, with the age of what it knows. `positions`: what its files hold, by database.
    pub fn sentence(&self, positions: &BTreeMap<String, String>, now: Instant) -> String {
        let mut text = self.detail.clone();
        let Some(standby) = &self.standby else { return text };
        if let Some(age) = standby.age(now) {
            text.push_str(&format!("; the last heartbeat came {} s ago", age.as_secs()));
        }
        match (positions.len(), positions.values().next()) {
            (1, Some(position)) => text.push_str(&format!("; its copy is at {position}")),
            (0, _) | (_, None) => {}
            (copies, Some(_)) => text.push_str(&format!("; {copies} copies follow")),
        }
        text
    }
}

impl StandbyView {
    /// Of the newest heartbeat.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.heartbeat.and(self.newest).map(|_| now.saturating_duration_since(self.heard))
    }
}

pub fn report(view: &HandoverView, positions: &BTreeMap<String, String>, now: Instant) -> Value {
    let standby = view.standby.as_ref().map(|standby| {
        json!({
            "of": standby.owner,
            "epoch": standby.epoch,
            "heartbeat_seconds": standby.heartbeat.map(|every| every.as_secs_f64()),
            "heard_seconds_ago": standby.age(now).map(|age| age.as_secs_f64()),
            "missed": standby.missed,
            "positions": positions,
        })
    });
    json!({
        "epoch": view.epoch,
        "state": view.state,
        "detail": view.sentence(positions, now),
        "standby": standby,
    })
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take over. `force`: without waiting for the owner's answer.
    Promote { force: bool },
    /// Release the replica.
    LetGo,
}

#[derive(Debug)]
pub struct HandoverRequest {
    pub order: Order,
    pub reply: oneshot::Sender<HandoverAnswer>,
}

/// `code`: the exit status of the command; 0: the order is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverAnswer {
    pub code: u8,
    pub message: String,
}

pub type HandoverRequests = mpsc::UnboundedReceiver<HandoverRequest>;

/// `force=true`, or nothing.
pub fn parse_promote(query: &str) -> Result<Order, String> {
    match query {
        "" | "force=false" => Ok(Order::Promote { force: false }),
        "force=true" => Ok(Order::Promote { force: true }),
        other => Err(format!("{other} is not known here; known is force=true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeats_age_is_that_of_its_first_sight() {
        let begun = Instant::now();
        let view = |newest, after: u64| HandoverView {
            detail: "standby of a".into(),
            standby: Some(StandbyView {
                owner: "a".into(),
                epoch: 1,
                heartbeat: Some(Duration::from_secs(10)),
                newest,
                missed: 0,
                heard: begun + Duration::from_secs(after),
            }),
            ..HandoverView::default()
        };
        let first = view(Some(3), 0);
        let same = view(Some(3), 9).after(Some(&first));
        let next = view(Some(4), 9).after(Some(&same));
        let now = begun + Duration::from_secs(12);
        let positions = BTreeMap::from([("/a.db".to_owned(), "000000000000002a".to_owned())]);
        let told = |view: &HandoverView| view.sentence(&positions, now);
        assert_eq!(
            told(&same),
            "standby of a; the last heartbeat came 12 s ago; its copy is at 000000000000002a"
        );
        assert!(told(&next).contains("came 3 s ago"), "{}", told(&next));
        assert_eq!(view(None, 0).sentence(&BTreeMap::new(), now), "standby of a");
    }

    #[test]
    fn the_query_of_a_promotion() {
        assert_eq!(parse_promote(""), Ok(Order::Promote { force: false }));
        assert_eq!(parse_promote("force=true"), Ok(Order::Promote { force: true }));
        for wrong in ["force", "force=1", "x=y"] {
            assert!(parse_promote(wrong).is_err(), "{wrong}");
        }
    }
}
