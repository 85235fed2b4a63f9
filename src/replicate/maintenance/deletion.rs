//! Deletes what retention lets go of, in groups: each one leaves a replica that can be restored.

use super::retention::{Deletion, Reason};
use super::{MaintenanceTask, REQUEST, ownership};
use crate::model::Deadline;
use crate::store::StoreErrorKind;
use crate::store::layout::Level;

impl MaintenanceTask {
    pub(super) async fn delete(&mut self, groups: Vec<Vec<Deletion>>) {
        let layout = self.target.store.layout();
        for group in groups {
            let keys: Vec<_> = group.iter().map(|file| layout.key(file.level, file.range)).collect();
            let store = &*self.target.store;
            let deleted = match ownership::missing(store, &group, Deadline::after(REQUEST)).await {
                Ok(Some((level, range))) => return self.lost(level, range).await,
                Ok(None) => store.delete(&keys, Deadline::after(REQUEST)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = deleted {
                let heals = error.may_heal();
                let speak = self.pauses.delete.fail(self.clock.now_ms(), heals);
                let hint = if error.kind == StoreErrorKind::Denied {
                    "the replica grows: old files may not be deleted (grant it, or set retention.enabled = \
                     false)"
                } else {
                    "old files are not deleted for now"
                };
                return self.say(hint, &error, speak);
            }
            self.pauses.delete.over();
            self.note(|maintenance| {
                maintenance.deleted_files += group.len() as u64;
                maintenance.done(0);
            });
            for Deletion { level, range, reason } in group {
                self.inventory.remove(level, range);
                self.recent.forget(level, range);
                match reason {
                    Reason::Superseded(_) if level == Level::SNAPSHOT => {
                        tracing::info!(db = %self.target.db, "deleted the snapshot {range}: {reason}");
                    }
                    _ => {
                        tracing::debug!(db = %self.target.db, "deleted {range} of level {}: \
                            {reason}", level.0)
                    }
                }
            }
        }
    }
}
