//! What happens to bytes that the gate holds. Pure.

use super::settings::OnFailure;
use std::time::Duration;

/// What is known of everything that was committed when the bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is in the replica.
    Durable,
    /// Some of it may not be in the replica.
    Missing,
    /// Another writer has the replica: it will never be there.
    Fenced,
}

/// How likely it is that a missing proof still comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// The replica may acknowledge it at any time.
    Open,
    /// A proof was not there in time, and nothing was proven since.
    Lapsed,
    /// The last flush has ended without it.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Pass,
    /// Send the bytes without a proof.
    PassUnproven,
    Hold,
    Close(Reason),
}

/// Why the gate has closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The proof was not there in time.
    Timeout,
    /// Another writer has the replica.
    Fenced,
    /// litevisor ends, and the last flush was not complete.
    Unflushed,
    /// The app does not accept connections.
    Unreachable,
    /// An internal error of the gate.
    Failed,
}

impl Reason {
    pub const ALL: [Reason; 5] =
        [Reason::Timeout, Reason::Fenced, Reason::Unflushed, Reason::Unreachable, Reason::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Reason::Timeout => "timeout",
            Reason::Fenced => "fenced",
            Reason::Unflushed => "unflushed",
            Reason::Unreachable => "app_unreachable",
            Reason::Failed => "failed",
        }
    }
}

pub fn decide(
    proof: Proof,
    held: Duration,
    timeout: Duration,
    prospect: Prospect,
    policy: OnFailure,
) -> Decision {
    match (proof, prospect, policy) {
        (Proof::Fenced, ..) => Decision::Close(Reason::Fenced),
        (Proof::Durable, ..) => Decision::Pass,
        (Proof::Missing, Prospect::Over, OnFailure::Close) => Decision::Close(Reason::Unflushed),
        (Proof::Missing, Prospect::Over | Prospect::Lapsed, OnFailure::Pass) => Decision::PassUnproven,
        (Proof::Missing, ..) if held < timeout => Decision::Hold,
        (Proof::Missing, _, OnFailure::Close) => Decision::Close(Reason::Timeout),
        (Proof::Missing, _, OnFailure::Pass) => Decision::PassUnproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn the_table() {
        use Decision::*;
        use OnFailure as Policy;
        use Prospect::*;
        for (proof, held_s, prospect, close, pass) in [
            (Proof::Durable, 0, Open, Pass, Pass),
            (Proof::Durable, 99, Open, Pass, Pass),
            (Proof::Durable, 0, Lapsed, Pass, Pass),
            (Proof::Durable, 0, Over, Pass, Pass),
            (Proof::Missing, 0, Open, Hold, Hold),
            (Proof::Missing, 29, Open, Hold, Hold),
            (Proof::Missing, 30, Open, Close(Reason::Timeout), PassUnproven),
            (Proof::Missing, 0, Lapsed, Hold, PassUnproven),
            (Proof::Missing, 30, Lapsed, Close(Reason::Timeout), PassUnproven),
            (Proof::Missing, 0, Over, Close(Reason::Unflushed), PassUnproven),
            (Proof::Missing, 30, Over, Close(Reason::Unflushed), PassUnproven),
            (Proof::Fenced, 0, Open, Close(Reason::Fenced), Close(Reason::Fenced)),
            (Proof::Fenced, 30, Lapsed, Close(Reason::Fenced), Close(Reason::Fenced)),
            (Proof::Fenced, 0, Over, Close(Reason::Fenced), Close(Reason::Fenced)),
        ] {
            let held = Duration::from_secs(held_s);
            for (policy, expected) in [(Policy::Close, close), (Policy::Pass, pass)] {
                let found = decide(proof, held, TIMEOUT, prospect, policy);
                assert_eq!(found, expected, "{proof:?} {held_s} s {prospect:?} {policy:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_passes_without_a_proof_unless_the_policy_allows_it(
            held in 0_u64..100_000, timeout in 0_u64..100_000, which in 0_usize..3, may_pass: bool,
        ) {
            let prospect = [Prospect::Open, Prospect::Lapsed, Prospect::Over][which];
            let policy = if may_pass { OnFailure::Pass } else { OnFailure::Close };
            let decided = |proof| decide(proof, Duration::from_millis(held), Duration::from_millis(timeout), prospect, policy);
            let missing = decided(Proof::Missing);
            prop_assert_ne!(missing, Decision::Pass);
            prop_assert!(may_pass || missing != Decision::PassUnproven);
            prop_assert!(held < timeout || missing != Decision::Hold);
            prop_assert_eq!(decided(Proof::Fenced), Decision::Close(Reason::Fenced));
            prop_assert_eq!(decided(Proof::Durable), Decision::Pass);
        }
    }
}
