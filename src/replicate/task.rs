//! The task of one database: takes the hold, and runs sessions (`session`) until it is told to end. A session
//! that breaks is logged and begun again after a pause; only another writer ends replication for good. Never
//! blocks the async thread: disk work runs in `blocking`.

use super::capture::replaced::Replacement;
use super::capture::watch::{TICK, Watcher};
use super::disk::Disk;
use super::end::{End, blocking};
use super::ledger::LedgerEntry;
use super::mailbox::Mailbox;
use super::maintenance::base::LastAsked;
use super::signs::Signs;
use super::status::StatusCell;
use super::{Conflict, LockingMode, OnConflict, Target};
use crate::lineage::{LocalState, state_file};
use crate::model::Txid;
use crate::model::log_throttle::{LogThrottle, REMIND};
use crate::sqlite::exclusive::{self, WholeLock};
use crate::sqlite::{ReadHold, SqliteError, Writers};
use crate::store::retry::{self, Urgency};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// A whole turn (capture, checkpoint) is made this often even if the files look the same.
pub(super) const TURN: Duration = Duration::from_secs(15);
const BREAK_PAUSE: Duration = Duration::from_millis(500);
/// That a database is no longer replicated is said this often, when the app goes on all the same.
const LOST: Duration = Duration::from_secs(5 * 60);
/// A lock that is in the way for longer is spoken of.
const LOCKED: Duration = Duration::from_secs(3);
/// An app that writes in a rollback journal mode without a pause for this long uses a shorter one to be
/// switched.
const FIRST_START: Duration = Duration::from_secs(60);
const SHORT_PAUSE: Duration = Duration::from_millis(500);
/// One that never pauses for that long is past every first start. It would be unreplicated for ever, so the
/// switch takes its lock in a single try, without waiting for it, although the app may meet it.
const NO_PAUSE: Duration = Duration::from_secs(300);
/// An app that shares a database creates its `-shm` after the `-wal` within this time, and an app that does
/// not has locked it.
const INDEX_FOLLOWS: Duration = Duration::from_millis(200);
/// A flush of a database that cannot be opened waits this long: nothing that litevisor does opens it.
const HOPELESS: Duration = Duration::from_secs(5);

pub struct Task {
    pub watcher: Watcher,
    pub target: Target,
    /// Of this run: two copies of one disk must not take each other's files for their own.
    pub node_id: u64,
    pub status: Arc<StatusCell>,
    pub changed: Arc<Notify>,
    pub mailbox: Mailbox,
    /// Taken before the app was started, if there was a database.
    pub hold: Option<ReadHold>,
    pub conflict: Conflict,
    /// When the replica was last seen to end where we say.
    pub sure_since: Instant,
    pub base_asked: LastAsked,
    /// None: there is no gate, and what is uploaded is not asked.
    pub ledger: Option<LedgerEntry>,
    /// What is at the path took the place of what was replicated; the whole of it is not in the replica yet.
    pub replaced: Option<Replacement>,
    /// The app locks the whole database (`PRAGMA locking_mode = EXCLUSIVE`), or did in its last life: no
    /// connection of ours may be open when it opens the database.
    pub app_locks_exclusively: bool,
    /// What a process wrote before is no sign that it shares the database.
    pub begun: SystemTime,
    /// Of the last session.
    pub disk: Option<Disk>,
}

impl Task {
    pub async fn run(&mut self) {
        let mut breaks = 0;
        loop {
            let begun = Instant::now();
            let life = self.life().await;
            self.status.set_capture(None);
            match life {
                End::Closed => return,
                End::Fenced(detail) => return self.fenced(detail).await,
                End::Refused(detail) => return self.refused(detail).await,
                End::Replaced(replacement) => {
                    tracing::warn!(db = %self.target.db, "replication begins anew: {replacement}");
                    self.status.update(|status| {
                        (status.replaced, status.replicating) = (Some(replacement.to_string()), false);
                        status.failures += 1;
                    });
                    self.replaced = Some(*replacement);
                }
                End::LockedOut => self.make_way().await,
                End::Again(reason) => {
                    // What keeps failing is tried, and spoken of, more and more rarely.
                    breaks = if begun.elapsed() > REMIND { 1 } else { breaks + 1 };
                    tracing::warn!(db = %self.target.db, "replication begins anew: {reason}");
                    self.status.update(|status| {
                        (status.problem, status.replicating) = (Some(reason), false);
                        status.failures += 1;
                    });
                    self.mailbox.pause(retry::pause(breaks, self.urgency())).await;
                }
            }
        }
    }

    /// What waits for the replica.
    pub(super) fn urgency(&self) -> Urgency {
        if self.mailbox.hurried() {
            Urgency::LastFlush
        } else if self.ledger.as_ref().is_some_and(LedgerEntry::is_open) {
            Urgency::Answers
        } else {
            Urgency::Nothing
        }
    }

    async fn life(&mut self) -> End {
        let held = match self.replaced.take() {
            Some(replacement) => self.proven(replacement).await,
            None => self.hold_or_wait().await,
        };
        let hold = match held {
            Ok(hold) => hold,
            Err(end) => return end,
        };
        let (Ok(end) | Err(end)) = self.session(hold).await;
        if !matches!(end, End::LockedOut) {
            self.disk = None;
        }
        end
    }

    /// A hold on the database, as soon as there is one.
    async fn hold_or_wait(&mut self) -> Result<ReadHold, End> {
        if let Some(hold) = self.hold.take() {
            return Ok(hold);
        }
        let hold = self.wait_for_hold().await?;
        self.watcher.catch_up().await;
        self.status.signs(Signs::forget);
        Ok(hold)
    }

    /// Tries to take a hold until it succeeds, and answers the requests that come meanwhile.
    async fn wait_for_hold(&mut self) -> Result<ReadHold, End> {
        let mut throttle = LogThrottle::default();
        let begun = Instant::now();
        let mut asked_since = None;
        let mut locked_since = None;
        loop {
            let asked = self.mailbox.asked();
            if self.is_just_created() && !self.is_shared().await? {
                self.mailbox.wait(&self.changed, Instant::now() + INDEX_FOLLOWS).await;
                continue;
            }
            if self.must_stay_closed().await? {
                self.wait_for_exclusive_app(asked, &mut throttle).await?;
                continue;
            }
            if asked > 0 {
                asked_since.get_or_insert_with(Instant::now);
            }
            let db = self.target.db.clone();
            let writers = writers(begun.elapsed(), self.mailbox.asked_last());
            let mut hopeless = false;
            match blocking(move || ReadHold::take(&db, writers)).await? {
                Ok(hold) => {
                    self.status.update(|status| (status.absent, status.locked_by_app) = (false, false));
                    return Ok(hold);
                }
                Err(error @ (SqliteError::NotYet { .. } | SqliteError::ReadOnly { .. })) => {
                    self.note_missing(&error, &mut throttle);
                    if self.mailbox.answer(asked, &self.status.read()) {
                        return Err(End::Closed);
                    }
                    asked_since = None;
                }
                Err(error) => {
                    self.check_locks(&mut locked_since).await?;
                    let locked = matches!(error, SqliteError::Busy { .. } | SqliteError::Writing { .. });
                    if (!locked || begun.elapsed() >= LOCKED) && throttle.due(&error.to_string()) {
                        tracing::warn!(db = %self.target.db, "not replicated yet: {error}");
                    }
                    self.status
                        .update(|status| (status.absent, status.problem) = (false, Some(error.to_string())));
                    hopeless =
                        !locked && asked_since.is_some_and(|since: Instant| since.elapsed() >= HOPELESS);
                }
            }
            if self.mailbox.closed() || (hopeless && self.mailbox.refuse(asked)) {
                return Err(End::Closed);
            }
            let absent = self.status.read().absent;
            // A file that appears wakes the task.
            let pause = if asked > 0 {
                BREAK_PAUSE
            } else if absent {
                TURN
            } else {
                TICK
            };
            self.mailbox.wait(&self.changed, Instant::now() + pause).await;
        }
    }

    /// The app has just created its database or the `-wal`, and whether it shares the database is not known
    /// yet.
    fn is_just_created(&self) -> bool {
        let fresh = self.status.created_ago().is_some_and(|age| age < INDEX_FOLLOWS);
        fresh && !self.mailbox.asked_last() && !self.mailbox.closed()
    }

    /// Whether no connection of ours may be opened now: not before the app's end, unless the app shares the
    /// database this time.
    async fn must_stay_closed(&mut self) -> Result<bool, End> {
        if self.mailbox.asked_last() {
            // The app may have created and removed its `-wal` within milliseconds.
            self.watcher.catch_up().await;
        }
        let without_index = self.status.without_index_for();
        self.app_locks_exclusively |=
            without_index.is_some_and(|age| age >= INDEX_FOLLOWS || self.mailbox.asked_last());
        if !self.app_locks_exclusively || self.mailbox.asked_last() {
            return Ok(false);
        }
        if self.target.settings.locking_mode == LockingMode::Exclusive {
            return Ok(true);
        }
        if self.is_shared().await? {
            if self.status.read().problem.is_some() {
                tracing::info!(db = %self.target.db, "the app shares the database: its commits are \
                    replicated from now on");
            }
            self.app_locks_exclusively = false;
            self.status.signs(Signs::mistaken);
        }
        Ok(self.app_locks_exclusively)
    }

    /// Whether the app has committed, and shares the database. No connection of ours is open.
    async fn is_shared(&mut self) -> Result<bool, End> {
        let db = self.target.db.clone();
        let since = self.begun;
        blocking(move || exclusive::is_shared(&db, since)).await
    }

    /// The app locks the whole database: logs what that costs, refuses to sync, and waits for a change.
    async fn wait_for_exclusive_app(&mut self, asked: usize, throttle: &mut LogThrottle) -> Result<(), End> {
        let problem = "the app locks the whole database (PRAGMA locking_mode = EXCLUSIVE): its commits are \
            uploaded when it has ended, and are on this disk only until then";
        if throttle.due(problem) {
            tracing::warn!(db = %self.target.db, "NOT REPLICATED while the app runs: {problem}");
        }
        self.status.update(|status| {
            (status.absent, status.replicating, status.problem) = (false, false, Some(problem.to_owned()));
            status.locked_by_app = true;
        });
        if (asked > 0 && self.mailbox.refuse(asked)) || self.mailbox.closed() {
            return Err(End::Closed);
        }
        self.mailbox.wait(&self.changed, Instant::now() + TICK).await;
        Ok(())
    }

    /// There is no database yet, or none that can be written.
    fn note_missing(&self, error: &SqliteError, throttle: &mut LogThrottle) {
        let absent = matches!(error, SqliteError::NotYet { .. });
        if absent {
            self.ledger.iter().for_each(LedgerEntry::absent);
        } else if throttle.due(&error.to_string()) {
            tracing::warn!(db = %self.target.db, "not replicated: {error}");
        }
        let problem = (!absent).then(|| error.to_string());
        self.status
            .update(|status| (status.absent, status.problem, status.written_at) = (absent, problem, None));
    }

    /// Notes that the app has locked the whole database, once that is no passing lock.
    async fn check_locks(&mut self, locked_since: &mut Option<Instant>) -> Result<(), End> {
        let db = self.target.db.clone();
        let lock = blocking(move || exclusive::whole_lock(&db)).await?;
        let since = (lock != WholeLock::None).then(|| locked_since.unwrap_or_else(Instant::now));
        *locked_since = since;
        let lasts = since.is_some_and(|since| since.elapsed() >= exclusive::LASTS);
        self.app_locks_exclusively |= lock == WholeLock::Exclusive || lasts;
        Ok(())
    }

    /// Lets the app have the database: no connection of ours is open from now on, also at the next start.
    async fn make_way(&mut self) {
        tracing::warn!(
            db = %self.target.db,
            "replication pauses: the app cannot open the database beside litevisor (PRAGMA locking_mode = \
             EXCLUSIVE)"
        );
        self.app_locks_exclusively = true;
        self.status.update(|status| (status.replicating, status.locked_by_app) = (false, true));
        if let Some(disk) = self.disk.take()
            && let Err(End::Again(error)) = disk.disconnect().await
        {
            tracing::warn!(db = %self.target.db, "{error}");
        }
        self.begun = SystemTime::now();
        let db = self.target.db.clone();
        let recorded = blocking(move || {
            exclusive::make_way(&db);
            let state = state_file::load(&db)?;
            state.map_or(Ok(()), |state| {
                state_file::store(&db, &LocalState { app_locks_exclusively: true, ..state })
            })
        });
        if let Ok(Err(error)) = recorded.await {
            tracing::warn!(db = %self.target.db, "{error}");
        }
    }

    /// Another writer has the replica: answer requests, touch nothing.
    async fn fenced(&mut self, detail: String) {
        let uploaded = self.status.read().uploaded.0;
        let ours = if uploaded == Txid::NONE {
            "nothing of this run".to_owned()
        } else {
            format!("TXID {uploaded}")
        };
        let detail = format!("{detail}; the last of ours in the replica is {ours}");
        self.status.update(|status| {
            (status.fenced, status.problem, status.replicating) = (Some(detail.clone()), None, false);
        });
        self.ledger.iter().for_each(LedgerEntry::fenced);
        let db = &self.target.db;
        let url = self.target.store.url();
        tracing::error!(%db, "another instance writes to {url}: {detail}");
        let goes_on = self.target.settings.on_conflict == OnConflict::Continue;
        if !goes_on {
            let _ = self.conflict.send((self.target.db.clone(), detail));
        }
        self.answer_until_last(goes_on.then_some("on_conflict = \"continue\"")).await;
    }

    /// The app goes on, and what it writes there stays here.
    async fn refused(&mut self, detail: String) {
        let replica = self.target.store.url();
        tracing::error!(
            db = %self.target.db, replica,
            "NOT REPLICATED: it appeared while the app was running, and its replica holds another history: \
             {detail}. The next start would restore that history in its place: move one of the two"
        );
        let told = format!("{replica} holds another history, which it does not continue: {detail}");
        self.ledger.iter().for_each(|ledger| ledger.refused(&told));
        self.status
            .update(|status| (status.fenced, status.refused, status.replicating) = (Some(told), true, false));
        self.answer_until_last(Some("its replica holds another history")).await;
    }

    /// Replication has ended: answers requests, until the last one. `goes_on`: why the app runs on all the
    /// same.
    async fn answer_until_last(&mut self, goes_on: Option<&str>) {
        while !self.mailbox.closed() {
            let asked = self.mailbox.asked();
            if self.mailbox.answer(asked, &self.status.read()) {
                return;
            }
            if let Some(why) = goes_on
                && asked == 0
            {
                let db = &self.target.db;
                tracing::error!(%db, "the app goes on WITHOUT replication ({why}): what it writes is on this \
                    disk only");
            }
            self.mailbox.pause(LOST).await;
        }
    }
}

/// Who may write to a database that is not in WAL mode, so long after the first look. Pure. `last`: the app
/// has ended.
fn writers(age: Duration, last: bool) -> Writers {
    match age {
        _ if last => Writers::None,
        _ if age < FIRST_START => Writers::MAY_COME,
        _ if age < NO_PAUSE => Writers::MayCome { quiet: SHORT_PAUSE },
        _ => Writers::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_starts_is_switched_in_a_pause() {
        for (age, last, expected) in [
            (Duration::ZERO, false, Writers::MAY_COME),
            (FIRST_START, false, Writers::MayCome { quiet: SHORT_PAUSE }),
            (NO_PAUSE, false, Writers::None),
            (Duration::ZERO, true, Writers::None),
        ] {
            assert_eq!(writers(age, last), expected, "{age:?}");
        }
    }
}
