//! Waits until what took the place of a replicated database is whole, and says meanwhile what is wrong.

use super::capture::replaced::{FileState, Replacement, advice};
use super::end::{End, blocking};
use super::ledger::LedgerEntry;
use super::task::Task;
use crate::model::log_throttle::LogThrottle;
use crate::sqlite::ReadHold;
use std::time::{Duration, Instant};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(250);
/// A flush that is asked for waits this long for the files to become whole.
const PATIENCE: Duration = Duration::from_secs(3);

impl Task {
    /// A hold on what took the place of the database, as soon as that is whole.
    pub async fn proven(&mut self, mut replacement: Replacement) -> Result<ReadHold, End> {
        let mut throttle = LogThrottle::default();
        let mut asked_since = None;
        loop {
            let asked = self.mailbox.asked();
            asked_since = if asked > 0 { asked_since.or_else(|| Some(Instant::now())) } else { None };
            let db = self.target.db.clone();
            let (returned, found) = blocking(move || {
                let found = replacement.inspect(&db);
                (replacement, found)
            })
            .await?;
            replacement = returned;
            let problem = match found {
                FileState::Whole(hold) => {
                    self.replaced = Some(replacement);
                    self.status.update(|status| (status.absent, status.problem) = (false, None));
                    return Ok(*hold);
                }
                FileState::Absent { lost: false } => {
                    self.ledger.iter().for_each(LedgerEntry::absent);
                    self.status.update(|status| {
                        (status.absent, status.problem, status.replaced) = (true, None, None);
                        status.written_at = None;
                    });
                    if self.mailbox.answer(asked, &self.status.read()) {
                        return Err(End::Closed);
                    }
                    None
                }
                FileState::Absent { lost: true } => Some(
                    "the database file was removed, and the app has written to it since: those commits are \
                     lost"
                        .to_owned(),
                ),
                found => Some(advice(&replacement.why, &found)),
            };
            if let Some(problem) = problem {
                self.ledger.iter().for_each(LedgerEntry::unknown);
                if throttle.due(&problem) {
                    tracing::error!(db = %self.target.db, "NOT REPLICATED: {problem}");
                }
                self.status.update(|status| {
                    (status.problem, status.absent, status.replicating) = (None, false, false);
                    status.replaced = Some(problem);
                });
                let hopeless = asked_since.is_some_and(|since: Instant| since.elapsed() >= PATIENCE);
                if self.mailbox.closed() || (hopeless && self.mailbox.refuse(asked)) {
                    self.replaced = Some(replacement);
                    return Err(End::Closed);
                }
            }
            if self.mailbox.closed() {
                return Err(End::Closed);
            }
            self.mailbox.wait(&self.changed, Instant::now() + LOOK).await;
        }
    }

    /// What is at the path now is in the replica.
    pub fn repaired(&mut self) {
        if self.replaced.take().is_some() {
            self.status.update(|status| status.replaced = None);
            let db = &self.target.db;
            let txid = self.status.read().uploaded.0;
            tracing::info!(%db, %txid, "the database that replaced it is sound and in the replica");
        }
    }
}
