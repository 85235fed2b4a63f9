//! The settings of the hand-over.

use crate::store::StoreSettings;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverSettings {
    /// False (`enabled = "never"`): this instance asks no other one for the replica, and does not run while
    /// another one owns it.
    pub claims: bool,
    /// An owner that does not release the replica within this time is fenced.
    pub wait: Duration,
    /// Between two looks for a request, or for an answer to one. None: an owner looks at its stop alone.
    pub poll: Option<Duration>,
    /// A failure of the app within this time after a hand-over gives the replica back to the previous owner.
    pub trial: Duration,
    /// The owner is not asked: this instance takes over when there is none, when its heartbeat stops, or when
    /// it is promoted.
    pub standby: bool,
    /// Between two heartbeats of this instance while it owns the replica. None: it writes none.
    pub heartbeat: Option<Duration>,
    /// Where the owner records are. None: beside the first database's replica.
    pub records: Option<StoreSettings>,
}

impl HandoverSettings {
    pub const DEFAULT: HandoverSettings = HandoverSettings {
        claims: true,
        wait: Duration::from_secs(10),
        poll: Some(Duration::from_secs(2)),
        trial: Duration::from_secs(60),
        standby: false,
        heartbeat: None,
        records: None,
    };
}
