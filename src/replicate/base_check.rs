//! Asks whether the replica still holds the snapshot that a restore begins with, when that is due.

use super::end::End;
use super::mailbox::Occasion;
use super::maintenance::base::{LastAsked, Uploads, is_due};
use super::maintenance::{Maintenance, ownership};
use super::task::Task;
use crate::model::Deadline;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request for the base while the app writes, and the one before the last flush ends, which has to fit into
/// what is left of the platform's grace.
const REQUEST: Duration = Duration::from_secs(20);
const LAST_REQUEST: Duration = Duration::from_millis(1500);

impl Task {
    /// Asks for the base, if that is due. When it is gone the session ends: the next one lists the replica
    /// and uploads what is missing.
    pub async fn check_base(&mut self, maintenance: &Maintenance, occasion: Occasion) -> Result<(), End> {
        if maintenance.base_status().is_emptied() {
            return Err(End::Again("the replica is empty: everything in it was removed".into()));
        }
        let in_run = self.status.read().uploads;
        let uploads = Uploads { since: in_run.saturating_sub(self.base_asked.uploads), in_run };
        let Some((level, range)) = maintenance.base_status().base() else { return Ok(()) };
        if !is_due(occasion, uploads, self.base_asked.at.elapsed()) {
            return Ok(());
        }
        let limit = if occasion == Occasion::Last { LAST_REQUEST } else { REQUEST };
        let store = Arc::clone(&self.target.store);
        let asked = ownership::there(&*store, level, range, Deadline::after(limit));
        let Some(answer) = self.mailbox.during(true, asked).await else {
            return if self.mailbox.closed() { Err(End::Closed) } else { Ok(()) };
        };
        let db = &self.target.db;
        let url = self.target.store.url();
        match answer {
            Ok(true) => self.base_asked = LastAsked::now(in_run),
            // Maintenance has uploaded a newer one meanwhile, and deleted this one.
            Ok(false) if maintenance.base_status().base() != Some((level, range)) => {}
            Ok(false) => {
                let what = format!(
                    "the snapshot {range} (level {}), which every restore begins with, is gone",
                    level.0
                );
                tracing::error!(
                    %db, "{url}: {what}: nothing can be restored until a new one is there. It is uploaded \
                     now; find out what deletes there (a lifecycle rule?) and stop it"
                );
                return Err(End::Again(what));
            }
            Err(error) => {
                // What was uploaded was acknowledged; the next upload meets the same store.
                self.base_asked.at = Instant::now();
                tracing::warn!(%db, "cannot ask whether the replica's snapshot is still there: {error}");
            }
        }
        Ok(())
    }
}
