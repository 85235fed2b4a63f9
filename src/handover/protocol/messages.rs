//! What goes into the state machine and what comes out of it: events, requests to the store and their
//! replies, actions.

use super::{LastLife, Outcome};
use crate::handover::owner::Epoch;
use crate::handover::record::{Answer, Claim, End, Positions, Release};

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and rarely")]
pub enum Event {
    /// Time has passed: to be sent by `wakes_at` at the latest.
    Tick,
    Answered {
        serial: u64,
        reply: Reply,
    },
    /// The local files are where `Action::CatchUp` said.
    CaughtUp,
    /// The app cannot be started, has failed or is not ready within the trial.
    StartFailed,
    /// The app is gone and the last flush has ended.
    Flushed(End),
    /// Another writer has taken the next TXID.
    Fenced,
    /// The first request waits for the app.
    Traffic,
    /// A stop signal, or the app's own end. The lifecycle stops the app by itself.
    Stop,
    /// An owner looks now: `poll` is "never".
    Look,
    /// An operator wants this instance to take over. `force`: without waiting for the owner's answer.
    Promote {
        force: bool,
    },
    /// An operator wants this owner to release the replica.
    LetGo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The newest claim, and its release.
    Look,
    Watch(Watch),
    Claim(Claim),
    Fence,
    Answer(Answer),
    Release(Release),
}

/// Which objects to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub release_of: Option<Epoch>,
    pub answer_of: Option<Epoch>,
    pub claim_of: Option<Epoch>,
    pub beat_of: Option<Beat>,
}

/// Which heartbeat of an epoch to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Number(Epoch, u64),
    /// By a listing.
    Newest(Epoch),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Looked(Option<Seen>),
    Watched(Watched),
    /// The epoch is ours (also when the reply to an earlier try was lost), or another instance's.
    Claimed {
        ours: bool,
    },
    /// The fencing segments are the newest of every database.
    Fenced(Positions),
    /// A release or an answer is there.
    Written,
    /// Nothing is known: to be asked again.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub claim: Claim,
    pub release: Option<Release>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub release: Option<Release>,
    pub answer: Option<Answer>,
    pub claimed: bool,
    /// The heartbeat that was asked for.
    pub beat: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the store; what comes of it is `Event::Answered` with this number.
    Ask {
        serial: u64,
        request: Request,
    },
    /// Bring the local files to the newest position, or keep what continues it; then `CaughtUp`. This state
    /// (None: it is not known) is behind or at that position.
    CatchUp {
        to: Option<Positions>,
    },
    /// To be on the disk before the next action.
    Remember(LastLife),
    Start,
    /// Stop the app with its budget and flush; then `Flushed`.
    StopApp,
    /// There is no app: upload what a killed run has left on the disk; then `Flushed`.
    Flush,
    /// The protocol has ended.
    Finish(Outcome),
}
