//! What is known of a local file and of its replica, gathered in one pass: the record, the file, its WAL, the
//! replica's newest position. Reads; changes nothing. `decide` judges it.
//!
//! A record may be right about the replica and wrong about the file: its WAL was lost (a power cut, a copy of
//! the database alone), or another file is in its place. Such a file must not become the replica's head
//! (`denied`). A file that was created after the record (renamed over the recorded one, or copied with its
//! directory) must hold the recorded content. Not detected: an older copy that was written into the very same
//! file, without a WAL; beside a WAL, what `file_content` cannot prove.

use super::check::{self, Doubt, LineageCheck, check};
use super::file_content::{self, Content};
use super::file_times::FileTimes;
use super::record::{LocalState, Origin, WalPosition};
use super::rollback::{Head, Rollback};
use super::setup_mark::{self, Before};
use super::{file_times, state_file};
use crate::ltx::Header;
use crate::model::{DbChecksum, DbPath};
use crate::replica::{Listing, Replica, Tip};
use crate::sqlite::{WalPlace, WalStanding, wal_standing};
use crate::v3::shadow;
use crate::wal::{HEADER, Salts};
use std::io;

/// SQLite would apply the WAL to a database that it does not belong to.
const OVERWRITTEN: &str = "it was overwritten or replaced while the -wal of a killed run was left beside it \
    (to restore a backup by hand, remove app.db-wal and app.db-shm before it is copied)";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// A database file of at least one byte is there.
    pub present: bool,
    pub file: Option<FileTimes>,
    pub record: Option<LocalState>,
    pub replica: Replica,
    /// None: the replica holds no LTX file, or its newest data is Litestream 0.3's.
    pub tip: Option<Tip>,
    /// What the record says of the replica's newest position; None without a tip.
    pub check: Option<LineageCheck>,
    /// Where the WAL stands to the recorded place; None: no place is recorded.
    pub wal: Option<WalStanding>,
    /// What the file beside a WAL that has the recorded place holds; None: it is not needed, or not known.
    pub content: Option<Content>,
    /// What the marker of a rollback says; None: the record is about another replica, or has another origin.
    pub rollback: Option<Rollback>,
    /// The file continues the newest state of a Litestream 0.3 replica: by the record's origin, or by that
    /// program's copies of the WAL.
    pub v3_marker: bool,
    pub v3_shadow: bool,
    /// The WAL holds the last frame of the tip: the record to write, whatever the one on the disk says.
    pub wal_holds_tip: Option<LocalState>,
    /// Commands of `[app] setup` did not end with success: what there was before them.
    pub setup: Option<Before>,
}

/// The record and the file. A state file that cannot be used counts as none.
pub fn of_file(db: &DbPath, present: bool) -> Evidence {
    let record = state_file::load(db).unwrap_or_else(|error| {
        tracing::warn!(%db, "the state file cannot be used and is ignored: {error}");
        None
    });
    Evidence {
        present,
        file: file_times(db),
        record,
        replica: Replica::Empty,
        tip: None,
        check: None,
        wal: None,
        content: None,
        rollback: None,
        v3_marker: false,
        v3_shadow: false,
        wal_holds_tip: None,
        setup: setup_mark::undone(db),
    }
}

impl Evidence {
    /// Of a replica whose newest data are LTX files.
    pub fn with_tip(mut self, replica: &str, tip: Option<Tip>) -> Evidence {
        self.replica = tip.as_ref().map_or(Replica::Empty, |tip| Replica::Ends(tip.txid));
        self.check = tip.as_ref().map(|tip| check(self.record.as_ref(), replica, tip));
        self.rollback = tip.as_ref().and_then(|tip| self.judge_rollback(replica, &Head::of(tip)));
        self.tip = tip;
        self
    }

    /// Of a replica whose newest data are Litestream 0.3's.
    pub fn with_v3(mut self, db: &DbPath, replica: &str, listing: &Listing) -> io::Result<Evidence> {
        self.replica = Replica::V3;
        self.rollback = Head::of_v3(listing).and_then(|head| self.judge_rollback(replica, &head));
        let record = self.record.as_ref().filter(|record| record.replica == replica);
        self.v3_marker = match record.map(|record| &record.origin) {
            Some(Origin::V3(marker)) => marker.proves(&listing.v3, self.file),
            _ => false,
        };
        let proven = self.v3_marker || self.rollback == Some(Rollback::Valid);
        self.v3_shadow = !proven && shadow::continues(db, &listing.v3)?;
        Ok(self)
    }

    /// Where the WAL stands to what the record says, and what the file beside it holds. Reads on another
    /// thread: both may be large.
    pub async fn with_wal(mut self, db: &DbPath) -> io::Result<Evidence> {
        let (Some(record), Some(tip)) = (&self.record, &self.tip) else { return Ok(self) };
        let sent = match self.check {
            Some(LineageCheck::Ours { sent }) => sent,
            Some(LineageCheck::Ahead { .. }) => false,
            _ => return Ok(self),
        };
        let Some((place, sum)) = recorded_place(record, tip, sent) else { return Ok(self) };
        let recorded = record.file;
        (self.wal, self.content) = blocking(db, move |db| {
            let (standing, found) = (wal_standing(&db.wal(), place)?, file_times(db));
            let asked = standing == WalStanding::Reached && (recorded.is_none() || recorded != found);
            let most = if is_another_file(recorded, found) { u64::MAX } else { file_content::MOST_BYTES };
            let content = match sum.filter(|_| asked) {
                Some(sum) => Some(file_content::compare(db, place, sum, most)?),
                None => None,
            };
            Ok((Some(standing), content))
        })
        .await?;
        // After the WAL: an app that closes the database writes to the file before the WAL goes.
        self.file = file_times(db);
        Ok(self)
    }

    fn judge_rollback(&self, replica: &str, head: &Head) -> Option<Rollback> {
        match self.record.as_ref().filter(|record| record.replica == replica)?.origin {
            Origin::RolledBack(ref marker) => Some(marker.judge(head, self.file)),
            _ => None,
        }
    }

    /// Why the file is of no position: a step of `restore/follow` was interrupted. None: it is, or another
    /// file is in its place.
    pub fn torn(&self) -> Option<Doubt> {
        let record = self.record.as_ref().filter(|record| !is_another_file(record.file, self.file))?;
        check::torn(record)
    }

    /// Why the file's own content denies what the record says; None: it does not.
    pub fn denied(&self) -> Option<&'static str> {
        self.replaced().or_else(|| lost_wal(self.wal, self.record.as_ref()?.file, self.file))
    }

    /// Why the file is not the recorded one; None: nothing says so.
    pub fn replaced(&self) -> Option<&'static str> {
        replaced(self.wal, self.content, is_another_file(self.record.as_ref()?.file, self.file))
    }

    /// The record of a file that was created after it, and holds what it says: later starts know the file by
    /// its creation.
    pub fn record_of_copy(&self) -> Option<LocalState> {
        let record = self.record.as_ref().filter(|record| is_another_file(record.file, self.file))?;
        Some(LocalState { file: self.file, ..record.clone() })
    }
}

/// Whether the local files hold what a raw file states: the WAL the whole chain up to its end, and the
/// database no other content.
pub async fn holds(db: &DbPath, raw: &Header) -> io::Result<bool> {
    let Some(place) = of_raw(raw) else { return Ok(false) };
    let sum = raw.db_checksum;
    blocking(db, move |db| {
        if wal_standing(&db.wal(), place)? != WalStanding::Reached {
            return Ok(false);
        }
        let compare = |sum| file_content::compare(db, place, sum, file_content::MOST_BYTES);
        Ok(sum.map(compare).transpose()? != Some(Content::Another))
    })
    .await
}

/// Work that fails to run at all proves nothing.
async fn blocking<T: Default + Send + 'static>(
    db: &DbPath,
    read: impl FnOnce(&DbPath) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let db = db.clone();
    tokio::task::spawn_blocking(move || read(&db)).await.unwrap_or_else(|_| Ok(T::default()))
}

fn of_raw(raw: &Header) -> Option<WalPlace> {
    let end = u64::try_from(raw.wal_offset.checked_add(raw.wal_size)?).ok()?;
    (raw.wal_size > 0).then_some(WalPlace {
        salts: Salts(raw.salt1, raw.salt2),
        end,
        page_size: raw.page_size,
    })
}

/// The place of the newest position if it is known, else of the position confirmed before; with the
/// database's checksum there, where that is known.
fn recorded_place(state: &LocalState, tip: &Tip, sent: bool) -> Option<(WalPlace, Option<DbChecksum>)> {
    let of_record = |wal: WalPosition| {
        let place =
            WalPlace { salts: Salts(wal.salt1, wal.salt2), end: wal.offset, page_size: state.page_size };
        (place.end >= HEADER).then_some(place)
    };
    let acked = || of_record(state.wal).map(|place| (place, state.db_checksum));
    // Spilled segments were captured from this WAL, and are newer than every upload.
    if let Some(end) = state.spilled {
        return of_record(end.wal).map(|place| (place, Some(end.db_checksum)));
    }
    let of_tip = || tip.raw().and_then(|raw| of_raw(&raw.header));
    let arrived = || of_record(state.wal_sent).or_else(of_tip).map(|place| (place, tip.db_checksum()));
    if sent { arrived().or_else(acked) } else { acked() }
}

/// Created after the record: renamed over the recorded file, or a copy of it on another disk. Pure.
fn is_another_file(recorded: Option<FileTimes>, found: Option<FileTimes>) -> bool {
    matches!((recorded, found), (Some(recorded), Some(found))
        if recorded.born_ns != 0 && found.born_ns != 0 && recorded.born_ns != found.born_ns)
}

/// Why a file is not the recorded one. Pure. `another`: it was created after the record.
fn replaced(standing: Option<WalStanding>, content: Option<Content>, another: bool) -> Option<&'static str> {
    match (standing, content) {
        (Some(WalStanding::Reached), Some(Content::Another)) => Some(OVERWRITTEN),
        // A copy of the directory on another disk.
        (Some(WalStanding::Reached), Some(Content::Recorded | Content::Later)) => None,
        _ => another.then_some("another file was put in its place"),
    }
}

/// Why a file has lost the WAL that it had. Pure.
fn lost_wal(
    standing: Option<WalStanding>,
    recorded: Option<FileTimes>,
    found: Option<FileTimes>,
) -> Option<&'static str> {
    match (standing, recorded, found) {
        (Some(WalStanding::Short), _, _) => Some("its WAL ends before what it had uploaded"),
        (Some(WalStanding::Gone), Some(recorded), Some(found))
            if recorded.modified_ns == found.modified_ns =>
        {
            Some("its WAL is gone, and with it what it had uploaded")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_denies_the_record() {
        use WalStanding::{Another, Gone, Reached, Restarted, Short};
        let look = |modified_ns, born_ns| Some(FileTimes { modified_ns, born_ns });
        let recorded = look(1000, 7);
        let (same, later) = (Some(Content::Recorded), Some(Content::Later));
        let (other, unknown) = (Some(Content::Another), Some(Content::Unknown));
        for (standing, content, recorded, found, denies) in [
            (Some(Reached), None, recorded, look(1000, 7), false),
            (Some(Reached), same, recorded, look(2000, 7), false),
            (Some(Reached), unknown, recorded, look(2000, 7), false),
            (Some(Reached), other, recorded, look(2000, 7), true),
            // Another file, beside the WAL of the recorded one: only its content says that it is a copy.
            (Some(Reached), same, recorded, look(1000, 8), false),
            (Some(Reached), later, recorded, look(1000, 8), false),
            (Some(Reached), unknown, recorded, look(1000, 8), true),
            (Some(Reached), None, recorded, look(1000, 8), true),
            (Some(Reached), other, recorded, look(1000, 8), true),
            (Some(Short), None, None, look(2000, 7), true),
            (Some(Restarted), None, recorded, look(1000, 7), false),
            (Some(Restarted), None, recorded, look(1000, 8), true),
            // Written to, checkpointed and closed while nothing replicated it.
            (Some(Gone), None, recorded, look(2000, 7), false),
            // The WAL was removed; an older copy, or another database.
            (Some(Gone), None, recorded, look(1000, 7), true),
            (Some(Another), None, recorded, look(1000, 7), false),
            (Some(Another), None, recorded, look(1000, 8), true),
            (Some(Gone), None, recorded, look(2000, 8), true),
            // The file was complete when it was recorded.
            (Some(Gone), None, look(0, 7), look(1000, 7), false),
            (Some(Gone), None, look(0, 7), look(1000, 8), true),
            // The file system keeps no such time; nothing is known.
            (Some(Gone), None, look(1000, 0), look(2000, 8), false),
            (Some(Gone), None, recorded, look(2000, 0), false),
            (Some(Gone), None, None, look(1000, 7), false),
            // No place in a WAL is recorded: a restored file, or one that was uploaded as a whole.
            (None, None, recorded, look(2000, 7), false),
            (None, None, look(0, 7), look(1000, 8), true),
            (None, None, look(0, 0), look(1000, 8), false),
            (None, None, None, look(1000, 8), false),
        ] {
            let record =
                LocalState { file: recorded, ..LocalState::without_position("r", 1, Origin::Restored) };
            let db = DbPath::new("/nowhere");
            let evidence =
                Evidence { record: Some(record), file: found, wal: standing, content, ..of_file(&db, true) };
            assert_eq!(
                evidence.denied().is_some(),
                denies,
                "{standing:?} {content:?} {recorded:?} {found:?}"
            );
        }
    }
}
