//! What the hand-over of one run begins with: its settings, and what this machine says of itself.

use crate::config::Config;
use crate::handover::HandoverSettings;
use crate::handover::record::{Position, Positions};
use crate::lineage::state_file;
use crate::model::{DbPath, Txid};
use crate::store::StoreSettings;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the hand-over of one run needs.
#[derive(Clone, Debug)]
pub struct OwnershipSettings {
    pub handover: HandoverSettings,
    /// Where the owner records may be.
    pub places: Vec<StoreSettings>,
    /// Which of them it is, once it is known.
    pub chosen: Arc<OnceLock<StoreSettings>>,
    /// The platform's name of what was deployed.
    pub revision: Option<String>,
    pub gated: bool,
    /// A gate accepts connections before the app is there.
    pub early: bool,
    /// The stop's, as configured.
    pub grace: Duration,
    /// Whether litevisor may delete objects: there is retention.
    pub deletes: bool,
}

impl OwnershipSettings {
    /// None: the hand-over is off.
    pub fn of(config: &Config, (gated, early): (bool, bool)) -> Option<OwnershipSettings> {
        let first = config.first_database()?;
        Some(OwnershipSettings {
            handover: config.handover.clone()?,
            places: config.owner_records().into_iter().cloned().collect(),
            chosen: Arc::default(),
            revision: config.revision.clone(),
            gated,
            early,
            grace: config.shutdown.grace,
            deletes: first.replicate.retention.is_some(),
        })
    }
}

/// Where the databases are, as their state files say.
pub fn positions(databases: &[DbPath]) -> Positions {
    let position = |db: &DbPath| {
        let state = state_file::load(db).ok().flatten().filter(|state| state.acked != Txid::NONE)?;
        Some((db.to_string(), Position { txid: state.acked, checksum: state.db_checksum }))
    };
    databases.iter().filter_map(position).collect()
}

pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
