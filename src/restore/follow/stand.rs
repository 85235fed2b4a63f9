//! Where a copy stands: its position, what proves it, and the record of both beside the database.

use super::error::{Anew, FollowError};
use crate::lineage::{
    CommitFields, FileTimes, FollowMark, FollowStep, LocalState, Origin, file_times, state_file,
};
use crate::ltx::{Header, Trailer};
use crate::model::{DbChecksum, DbPath, FileChecksum, Moment, PageNo, PageSize, Txid, page_checksum};
use crate::restore::RestoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    pub txid: Txid,
    /// Of the whole database there.
    pub db_checksum: DbChecksum,
    /// Of the file whose end it is, where that is known.
    pub file_checksum: Option<FileChecksum>,
    pub page_size: PageSize,
    /// Size of the database in pages; unknown while the file is torn.
    pub pages: u32,
    /// When it was committed; None: not known yet.
    pub time: Option<Moment>,
    pub app_locks_exclusively: bool,
    /// The file also has pages of positions up to this one.
    pub torn: Option<Txid>,
}

impl Stand {
    /// After the file with this header and trailer. `db_checksum`: of what the database is then.
    pub fn after(header: &Header, trailer: &Trailer, db_checksum: DbChecksum) -> Stand {
        Stand {
            txid: header.range.max,
            db_checksum,
            file_checksum: Some(trailer.file),
            page_size: header.page_size,
            pages: header.commit,
            time: Some(Moment(header.timestamp_ms)),
            app_locks_exclusively: header.app_locks_exclusively,
            torn: None,
        }
    }
}

/// The checksum of the database after a file, where its writer says it: litevisor's, or LTX's own.
pub fn stated(header: &Header, trailer: &Trailer) -> Option<DbChecksum> {
    let own = || header.pre_apply.and_then(|_| DbChecksum::from_header(trailer.post_apply));
    header.db_checksum.or_else(own)
}

/// The sum over all pages but the first, and the first: what a scan of the copy finds.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    rest: DbChecksum,
    first: Vec<u8>,
    pub pages: u32,
}

impl Scan {
    pub fn add(&mut self, page: PageNo, data: &[u8], lock: PageNo) {
        self.pages = self.pages.max(page.0);
        if page == PageNo(1) {
            data.clone_into(&mut self.first);
        } else if page != lock {
            self.rest.toggle(page_checksum(page, data));
        }
    }

    /// The sum over all pages, with these fields in the first one.
    pub fn total(&self, fields: Option<CommitFields>) -> DbChecksum {
        let mut first = self.first.clone();
        fields.iter().for_each(|fields| fields.put(&mut first));
        let mut total = self.rest;
        if !first.is_empty() {
            total.toggle(page_checksum(PageNo(1), &first));
        }
        total
    }

    pub fn own_fields(&self) -> Option<CommitFields> {
        CommitFields::of(&self.first)
    }
}

/// Which position the scanned copy has: the recorded one, or that of the step that was under way, whose
/// transaction was committed before the record was. None: another one. With the fields that the replica's
/// first page has.
pub fn locate(scan: &Scan, recorded: &Stand, mark: &FollowMark) -> Option<(Stand, Option<CommitFields>)> {
    let fields = mark.commit_fields.or_else(|| scan.own_fields());
    if scan.total(fields) == recorded.db_checksum {
        return Some((Stand { pages: scan.pages, ..recorded.clone() }, fields));
    }
    let step = mark.step.filter(|step| !step.in_place)?;
    let fields = step.commit_fields.or(fields);
    let sum = step.checksum().filter(|sum| scan.total(fields) == *sum)?;
    let file_checksum = Some(FileChecksum(step.file_checksum));
    let txid = Txid(step.txid);
    Some((
        Stand { txid, db_checksum: sum, file_checksum, pages: scan.pages, time: None, ..recorded.clone() },
        fields,
    ))
}

/// What the state file says.
pub fn load(db: &DbPath, replica: &str) -> Result<(Stand, FollowMark), FollowError> {
    let none = || Anew::NoPosition { replica: replica.to_owned() };
    let state = state_file::load(db).map_err(|source| RestoreError::State { source })?.ok_or_else(none)?;
    let settled = state.replica == replica
        && state.has_position()
        && state.acked == state.sent
        && state.spilled.is_none();
    let (true, Some(db_checksum)) = (settled, state.db_checksum) else { return Err(none().into()) };
    let stand = Stand {
        txid: state.acked,
        db_checksum,
        file_checksum: state.tip_checksum,
        page_size: state.page_size,
        pages: 0,
        time: None,
        app_locks_exclusively: state.app_locks_exclusively,
        torn: state.torn(),
    };
    match state.origin {
        Origin::Following(mark) => Ok((stand, mark)),
        Origin::Continued | Origin::Restored => Ok((stand, FollowMark::default())),
        // It becomes the replica's next position.
        Origin::RolledBack(_) | Origin::V3(_) => Err(none().into()),
    }
}

/// What a local file is, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// No record says that it comes from this replica, or it has what the replica has not.
    Unknown,
    /// An app may have written to it: what it holds may be nowhere else.
    Written,
    /// A copy that follows this replica.
    Copy,
}

/// Decides what may be done with a file from which nothing leads on.
pub fn provenance(db: &DbPath, replica: &str) -> Result<Provenance, FollowError> {
    let state = state_file::load(db).map_err(|source| RestoreError::State { source })?;
    Ok(provenance_of(state.as_ref(), replica))
}

/// Pure.
fn provenance_of(state: Option<&LocalState>, replica: &str) -> Provenance {
    match state {
        Some(state) if state.replica == replica && state.acked == state.sent && state.spilled.is_none() => {
            match state.origin {
                Origin::Following(_) => Provenance::Copy,
                Origin::Continued | Origin::Restored => Provenance::Written,
                Origin::RolledBack(_) | Origin::V3(_) => Provenance::Unknown,
            }
        }
        _ => Provenance::Unknown,
    }
}

/// The state file of one copy.
pub struct Record {
    pub db: DbPath,
    pub replica: String,
    pub node_id: u64,
}

impl Record {
    /// Before the first page is written. In place it must be there after a power failure.
    pub fn begin(
        &self,
        stand: &Stand,
        fields: Option<CommitFields>,
        step: FollowStep,
    ) -> Result<(), RestoreError> {
        let mark = FollowMark { step: Some(step), commit_fields: fields };
        let state = self.state(stand, Origin::Following(mark));
        let stored = if step.in_place { state_file::store_durably } else { state_file::store };
        stored(&self.db, &state).map_err(|source| RestoreError::State { source })
    }

    /// The copy stands there. `fields`: what the replica's first page has, where the copy's differs.
    pub fn end(&self, stand: &Stand, fields: Option<CommitFields>) -> Result<(), RestoreError> {
        let following = |fields| Origin::Following(FollowMark { step: None, commit_fields: Some(fields) });
        let state = self.state(stand, fields.map_or(Origin::Restored, following));
        state_file::store(&self.db, &state).map_err(|source| RestoreError::State { source })
    }

    fn state(&self, stand: &Stand, origin: Origin) -> LocalState {
        LocalState {
            acked: stand.txid,
            sent: stand.txid,
            tip_checksum: stand.file_checksum,
            page_size: stand.page_size,
            db_checksum: Some(stand.db_checksum),
            app_locks_exclusively: stand.app_locks_exclusively,
            // A later file in its place is known by its creation. The file needs no WAL.
            file: file_times(&self.db).map(|file| FileTimes { modified_ns: 0, ..file }),
            ..LocalState::without_position(&self.replica, self.node_id, origin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(fill: u8, fields: u8) -> Scan {
        let mut scan = Scan::default();
        let lock = PageSize::SMALLEST.lock_page();
        for page in 1..=3 {
            let mut data = vec![fill; 512];
            if page == 1 {
                CommitFields { change_counter: [fields; 4], version: [fields; 8] }.put(&mut data);
            }
            scan.add(PageNo(page), &data, lock);
        }
        scan
    }

    #[test]
    fn what_a_record_says_of_its_file() {
        let state = |origin| LocalState::without_position("file:///r", 1, origin);
        let following = || state(Origin::Following(FollowMark::default()));
        let unsent = LocalState { sent: Txid(3), ..state(Origin::Continued) };
        for (state, expected) in [
            (None, Provenance::Unknown),
            (Some(following()), Provenance::Copy),
            (Some(LocalState { replica: "file:///other".into(), ..following() }), Provenance::Unknown),
            (Some(state(Origin::Continued)), Provenance::Written),
            (Some(state(Origin::Restored)), Provenance::Written),
            (Some(unsent), Provenance::Unknown),
        ] {
            assert_eq!(provenance_of(state.as_ref(), "file:///r"), expected, "{state:?}");
        }
    }

    /// What the scan finds, what the record says, and where the copy stands.
    #[test]
    fn where_a_copy_stands() {
        let fields = |fill| CommitFields { change_counter: [fill; 4], version: [fill; 8] };
        let stand = |txid, scan: &Scan| Stand {
            txid: Txid(txid),
            db_checksum: scan.total(None),
            file_checksum: Some(FileChecksum(txid)),
            page_size: PageSize::SMALLEST,
            pages: 3,
            time: None,
            app_locks_exclusively: false,
            torn: None,
        };
        // The replica's states at TXID 4 and at 5.
        let (four, five) = (scan(4, 14), scan(5, 15));
        let recorded = stand(4, &four);
        let step = |in_place| FollowStep {
            txid: 5,
            in_place,
            commit_fields: Some(fields(15)),
            db_checksum: five.total(None).get(),
            file_checksum: 5,
        };
        let mark = |step, commit_fields| FollowMark { step, commit_fields };
        for (found, mark, at) in [
            (scan(4, 14), mark(None, None), Some((4, 14))),
            (scan(4, 99), mark(None, None), None),
            (scan(4, 99), mark(None, Some(fields(14))), Some((4, 14))),
            (scan(4, 99), mark(Some(step(false)), Some(fields(14))), Some((4, 14))),
            (scan(5, 99), mark(Some(step(false)), Some(fields(14))), Some((5, 15))),
            (scan(5, 99), mark(Some(step(false)), None), Some((5, 15))),
            (scan(5, 99), mark(None, Some(fields(14))), None),
            (scan(5, 15), mark(Some(step(true)), None), None),
            (scan(6, 99), mark(Some(step(false)), Some(fields(14))), None),
        ] {
            let located = locate(&found, &recorded, &mark);
            let expected = at.map(|(txid, fill)| {
                let of = if txid == 4 { &four } else { &five };
                (stand(txid, of), Some(fields(fill)))
            });
            assert_eq!(located, expected, "{mark:?}");
        }
    }
}
