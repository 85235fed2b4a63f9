//! What an operator may ask of the hand-over (`litevisor promote`, `litevisor handover`), by the phase that
//! it is in: pure.

use crate::exit;
use crate::handover::describe;
use crate::handover::protocol::Phase;
use crate::observe::handover::{HandoverAnswer, Order, StandbyView};
use std::time::Instant;

/// The status code 0: the order is carried out.
pub fn decide(order: Order, phase: &Phase) -> HandoverAnswer {
    let doing = describe::sentence(phase);
    let refused = |message: String| HandoverAnswer { code: exit::USAGE, message };
    let accepted = |message: &str| HandoverAnswer { code: 0, message: message.to_owned() };
    match (order, phase) {
        (Order::LetGo, Phase::Owner { .. }) => {
            accepted("this instance stops its app, uploads its last commits and releases the replica")
        }
        (Order::LetGo, _) => refused(format!("this instance does not own the replica: {doing}")),
        (Order::Promote { .. }, Phase::Owner { .. }) => {
            refused("this instance owns the replica already".to_owned())
        }
        (
            Order::Promote { .. },
            Phase::Stopping { .. }
            | Phase::Releasing { .. }
            | Phase::Judging
            | Phase::Recalling { .. }
            | Phase::Done(_),
        ) => refused(format!("this instance cannot take over now: {doing}")),
        (Order::Promote { force: true }, _) => {
            accepted("this instance fences the owner without waiting for its answer, and takes over")
        }
        (Order::Promote { force: false }, _) => {
            accepted("this instance asks the owner for the replica, and takes over")
        }
    }
}

/// Without `[handover]`.
pub fn off() -> HandoverAnswer {
    let message = "the hand-over is off here (handover.enabled): there is no other instance to take over \
        from, or to release the replica to";
    HandoverAnswer { code: exit::CONFIG, message: message.to_owned() }
}

pub fn too_early() -> HandoverAnswer {
    HandoverAnswer {
        code: exit::UNAVAILABLE,
        message: "the databases are being restored: try again".to_owned(),
    }
}

/// Whom this instance stands by for.
pub fn standby(phase: &Phase) -> Option<StandbyView> {
    let Phase::Standby(owner) = phase else { return None };
    Some(StandbyView {
        owner: owner.host.clone(),
        epoch: owner.epoch.get(),
        heartbeat: owner.heartbeat,
        newest: owner.heard.newest.filter(|newest| *newest > 0),
        missed: owner.missing(),
        heard: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::owner::Epoch;
    use std::time::Duration;

    #[test]
    fn only_an_owner_lets_go_and_only_another_one_is_promoted() {
        let epoch = Epoch::FIRST;
        let [promote, force] = [false, true].map(|force| Order::Promote { force });
        let owner = Phase::Owner { trial_until: Duration::ZERO };
        let retired = Phase::Retired { newest: epoch, cursor: epoch };
        let let_go = Phase::LetGo { until: None };
        let waiting = Phase::Waiting { predecessor: epoch, until: None, answered: false };
        for (phase, order, code) in [
            (&owner, Order::LetGo, 0),
            (&owner, promote, 64),
            (&owner, force, 64),
            (&retired, Order::LetGo, 64),
            (&retired, promote, 0),
            (&let_go, Order::LetGo, 64),
            (&let_go, promote, 0),
            (&waiting, promote, 0),
            (&waiting, force, 0),
            (&Phase::Judging, promote, 64),
        ] {
            assert_eq!(decide(order, phase).code, code, "{phase:?} {order:?}");
        }
    }
}
