//! The content of the state file: which position of which replica a local database file has, and where the
//! file comes from. Pure: text in, text out.
//!
//! A statement of this file is never trusted alone: it says which file of the replica to look for, and that
//! file proves the rest. So a file that is lost, old or torn costs a restore, never data.

use super::file_times::FileTimes;
use super::following::FollowMark;
use super::rollback::RollbackMarker;
use super::v3_marker::V3Marker;
use crate::model::{DbChecksum, FileChecksum, PageSize, Txid};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalState {
    /// URL of the replica that this is about.
    pub replica: String,
    /// Random, made anew for each run; stands in the header of every file that the run writes. Not 0, which
    /// is Litestream's.
    pub node_id: u64,
    /// The replica has confirmed everything up to here.
    pub acked: Txid,
    /// An upload up to here was begun; it may have arrived or not.
    pub sent: Txid,
    /// The file whose state this database had at `acked`, where that is known.
    pub tip_checksum: Option<FileChecksum>,
    /// Of the WAL positions below; without meaning where there is none.
    pub page_size: PageSize,
    /// Where in the WAL `acked` ends: salts, offset, and the WAL checksum there. All zero: not at a place in
    /// a WAL.
    pub wal: WalPosition,
    /// The same of `sent`.
    pub wal_sent: WalPosition,
    /// Checksum of the whole database at `acked`, where that is known.
    pub db_checksum: Option<DbChecksum>,
    /// How the database file looked when this was recorded, where that is known.
    pub file: Option<FileTimes>,
    /// The last of the segments that wait on this disk, written there while the replica was away; None: none
    /// waits.
    pub spilled: Option<SpillEnd>,
    pub origin: Origin,
    /// As `ltx::Header` has it, at `acked`.
    pub app_locks_exclusively: bool,
}

/// Where the local file comes from, until a position that was made from it is confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// The replica has a position that was made from this file.
    #[default]
    Continued,
    /// Restored from the replica's newest LTX state.
    Restored,
    /// Restored to an older state on purpose: this file becomes the replica's next position.
    RolledBack(RollbackMarker),
    /// Restored from a Litestream 0.3 replica.
    V3(V3Marker),
    /// Restored from the replica, and kept up with it. A file that is exactly at the recorded position is
    /// `Restored`.
    Following(FollowMark),
}

/// Where the segments in the spill directory end. The WAL may have been started over since: what is behind
/// `acked` is then in those files, and in the database, alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillEnd {
    pub txid: Txid,
    /// All zero: not at a place in a WAL.
    pub wal: WalPosition,
    /// Of the whole database there; stands in the last file's header, too.
    pub db_checksum: DbChecksum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalPosition {
    pub salt1: u32,
    pub salt2: u32,
    pub offset: u64,
    pub checksum: [u32; 2],
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateTextError {
    #[error("it is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its version is {0}, this program knows {VERSION}")]
    Version(u32),
    #[error("its field {0} is not valid")]
    Field(&'static str),
}

type WalText = (u32, u32, u64, u32, u32);

/// The text form: numbers that are compared by eye with object names and logs are hex.
#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    replica: String,
    node_id: String,
    acked: String,
    sent: String,
    tip_checksum: String,
    page_size: u32,
    wal_salt1: u32,
    wal_salt2: u32,
    wal_offset: u64,
    wal_checksum: [u32; 2],
    /// Salts, offset, checksum.
    #[serde(default)]
    wal_sent: WalText,
    db_checksum: String,
    /// TXID (empty: nothing is spilled), place as in `wal_sent`, database checksum.
    #[serde(default)]
    spilled: (String, WalText, String),
    #[serde(default)]
    modified_ns: u64,
    #[serde(default)]
    born_ns: u64,
    /// Earlier versions kept it in files of its own (`legacy`).
    #[serde(default)]
    origin: Option<Origin>,
    #[serde(default)]
    app_locks_exclusively: bool,
}

impl LocalState {
    /// The record of a file that has no LTX position yet, or whose position is not known.
    pub fn without_position(replica: &str, node_id: u64, origin: Origin) -> LocalState {
        LocalState {
            replica: replica.to_owned(),
            node_id,
            acked: Txid::NONE,
            sent: Txid::NONE,
            tip_checksum: None,
            page_size: PageSize::SMALLEST,
            wal: WalPosition::default(),
            wal_sent: WalPosition::default(),
            db_checksum: None,
            file: None,
            spilled: None,
            origin,
            app_locks_exclusively: false,
        }
    }

    /// The position whose pages may be in the file in part (`FollowMark::torn`).
    pub fn torn(&self) -> Option<Txid> {
        match &self.origin {
            Origin::Following(mark) => mark.torn(),
            _ => None,
        }
    }

    pub fn has_position(&self) -> bool {
        self.sent > Txid::NONE
    }

    /// The same, with the origin of `before` while no position of this file is confirmed.
    pub fn with_origin_of(mut self, before: &LocalState) -> LocalState {
        if self.origin == Origin::Continued && self.replica == before.replica && self.acked <= before.acked {
            self.origin = before.origin.clone();
        }
        self
    }

    pub fn to_text(&self) -> Result<String, StateTextError> {
        let checksum = |value: Option<u64>| value.map(hex).unwrap_or_default();
        Ok(serde_json::to_string(&Text {
            version: VERSION,
            replica: self.replica.clone(),
            node_id: hex(self.node_id),
            acked: self.acked.to_string(),
            sent: self.sent.to_string(),
            tip_checksum: checksum(self.tip_checksum.map(|sum| sum.0)),
            page_size: self.page_size.get(),
            wal_salt1: self.wal.salt1,
            wal_salt2: self.wal.salt2,
            wal_offset: self.wal.offset,
            wal_checksum: self.wal.checksum,
            wal_sent: self.wal_sent.to_text(),
            spilled: self.spilled.map_or_else(Default::default, |end| {
                (end.txid.to_string(), end.wal.to_text(), hex(end.db_checksum.get()))
            }),
            db_checksum: checksum(self.db_checksum.map(DbChecksum::get)),
            modified_ns: self.file.map_or(0, |file| file.modified_ns),
            born_ns: self.file.map_or(0, |file| file.born_ns),
            origin: Some(self.origin.clone()),
            app_locks_exclusively: self.app_locks_exclusively,
        })?)
    }

    pub fn parse(text: &[u8]) -> Result<LocalState, StateTextError> {
        LocalState::parse_any(text).map(|(state, _)| state)
    }

    /// Also whether the text says the origin: a file of an earlier version does not.
    pub fn parse_any(text: &[u8]) -> Result<(LocalState, bool), StateTextError> {
        let text: Text = serde_json::from_slice(text)?;
        if text.version != VERSION {
            return Err(StateTextError::Version(text.version));
        }
        let number = |field, value: &str| unhex(value).ok_or(StateTextError::Field(field));
        let checksum =
            |field, value: &str| if value.is_empty() { Ok(None) } else { number(field, value).map(Some) };
        let acked = Txid(number("acked", &text.acked)?);
        let sent = Txid(number("sent", &text.sent)?);
        if sent < acked {
            return Err(StateTextError::Field("sent"));
        }
        let node_id = number("node_id", &text.node_id)?;
        if node_id == 0 {
            return Err(StateTextError::Field("node_id"));
        }
        let spilled = parse_spilled(&text.spilled).ok_or(StateTextError::Field("spilled"))?;
        if spilled.is_some_and(|end| end.txid < sent) {
            return Err(StateTextError::Field("spilled"));
        }
        let says_origin = text.origin.is_some();
        let state = LocalState {
            replica: text.replica,
            node_id,
            acked,
            sent,
            tip_checksum: checksum("tip_checksum", &text.tip_checksum)?.map(FileChecksum),
            page_size: PageSize::new(text.page_size).ok_or(StateTextError::Field("page_size"))?,
            wal: WalPosition {
                salt1: text.wal_salt1,
                salt2: text.wal_salt2,
                offset: text.wal_offset,
                checksum: text.wal_checksum,
            },
            wal_sent: WalPosition::of_text(text.wal_sent),
            spilled,
            db_checksum: checksum("db_checksum", &text.db_checksum)?.and_then(DbChecksum::from_header),
            file: (text.modified_ns != 0 || text.born_ns != 0)
                .then_some(FileTimes { modified_ns: text.modified_ns, born_ns: text.born_ns }),
            origin: text.origin.unwrap_or_default(),
            app_locks_exclusively: text.app_locks_exclusively,
        };
        Ok((state, says_origin))
    }
}

impl WalPosition {
    fn to_text(self) -> WalText {
        let WalPosition { salt1, salt2, offset, checksum: [a, b] } = self;
        (salt1, salt2, offset, a, b)
    }

    fn of_text((salt1, salt2, offset, a, b): WalText) -> WalPosition {
        WalPosition { salt1, salt2, offset, checksum: [a, b] }
    }
}

/// None: it is not valid.
fn parse_spilled((txid, wal, sum): &(String, WalText, String)) -> Option<Option<SpillEnd>> {
    if txid.is_empty() {
        return Some(None);
    }
    let db_checksum = DbChecksum::from_header(unhex(sum)?)?;
    Some(Some(SpillEnd { txid: Txid::from_name(txid)?, wal: WalPosition::of_text(*wal), db_checksum }))
}

fn hex(value: u64) -> String {
    format!("{value:016x}")
}

/// Sixteen hex digits, as `Txid` has them.
fn unhex(text: &str) -> Option<u64> {
    Txid::from_name(text).map(|txid| txid.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::following::{CommitFields, FollowStep};
    use crate::lineage::rollback::Head;

    fn state() -> LocalState {
        LocalState {
            replica: "s3://bucket/app".into(),
            node_id: 0xfeed,
            acked: Txid(0x2a),
            sent: Txid(0x2b),
            tip_checksum: Some(FileChecksum(1 << 63 | 7)),
            page_size: PageSize::new(4096).unwrap(),
            wal: WalPosition { salt1: 1, salt2: u32::MAX, offset: 4152, checksum: [3, 4] },
            wal_sent: WalPosition { salt1: 2, salt2: 9, offset: 8272, checksum: [5, u32::MAX] },
            db_checksum: DbChecksum::from_header(1 << 63 | 9),
            file: Some(FileTimes {
                modified_ns: 1_700_000_000_000_000_001,
                born_ns: 1_600_000_000_000_000_002,
            }),
            spilled: Some(SpillEnd {
                txid: Txid(0x2e),
                wal: WalPosition { salt1: 3, salt2: 8, offset: 4152, checksum: [7, 8] },
                db_checksum: DbChecksum::from_header(1 << 63 | 11).unwrap(),
            }),
            origin: Origin::Restored,
            app_locks_exclusively: true,
        }
    }

    #[test]
    fn round_trips() {
        let unknown = LocalState {
            tip_checksum: None,
            db_checksum: None,
            file: None,
            wal: WalPosition::default(),
            ..state()
        };
        let unknown = LocalState { spilled: None, ..unknown };
        let rollback = RollbackMarker {
            head: Head::Ltx { txid: 9, checksums: vec![u64::MAX, 1] },
            txid: 4,
            time_ms: -1,
            born_ns: u64::MAX,
            modified_ns: 1,
        };
        let v3_rollback = RollbackMarker { head: Head::V3 { key: "k".into() }, ..rollback.clone() };
        let v3 = V3Marker { key: "k".into(), born_ns: u64::MAX };
        let fields = Some(CommitFields { change_counter: [1, 2, 3, 255], version: [9; 8] });
        let step = FollowStep {
            txid: 9,
            in_place: true,
            commit_fields: fields,
            db_checksum: u64::MAX,
            file_checksum: 1,
        };
        let following = Origin::Following(FollowMark { step: Some(step), commit_fields: fields });
        let apart = Origin::Following(FollowMark::default());
        let rolled_back = [Origin::RolledBack(rollback), Origin::RolledBack(v3_rollback)];
        let origins = [Origin::Continued, Origin::V3(v3), following, apart].into_iter().chain(rolled_back);
        let of_origin = |origin| LocalState { origin, ..state() };
        for state in [state(), unknown].into_iter().chain(origins.map(of_origin)) {
            let text = state.to_text().unwrap();
            assert_eq!(LocalState::parse(text.as_bytes()).unwrap(), state);
        }
        let text = state().to_text().unwrap();
        assert!(text.contains(r#""version":1"#) && text.contains(r#""acked":"000000000000002a""#), "{text}");
    }

    #[test]
    fn what_is_torn_or_contradicts_itself_is_refused() {
        let text = state().to_text().unwrap();
        for length in 0..text.len() {
            assert!(LocalState::parse(&text.as_bytes()[..length]).is_err());
        }
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            ("000000000000feed", "0000000000000000"),
            ("000000000000feed", "feed"),
            ("000000000000002b", "0000000000000029"),
            (r#""page_size":4096"#, r#""page_size":4095"#),
            ("8000000000000007", "800000000000000x"),
            ("000000000000002e", "000000000000002a"),
            ("800000000000000b", "000000000000000b"),
        ] {
            let bad = text.replace(from, to);
            assert_ne!(bad, text);
            assert!(LocalState::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    /// As version 0.1.0 wrote it before the record had an origin.
    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let text =
            br#"{"version":1,"replica":"s3://bucket/app","node_id":"000000000000feed","acked":"000000000000002a",
            "sent":"000000000000002b","tip_checksum":"8000000000000007","page_size":4096,"wal_salt1":1,
            "wal_salt2":4294967295,"wal_offset":4152,"wal_checksum":[3,4],"wal_sent":[2,9,8272,5,4294967295],
            "db_checksum":"8000000000000009","spilled":["000000000000002e",[3,8,4152,7,8],"800000000000000b"],
            "modified_ns":1700000000000000001,"born_ns":1600000000000000002}"#;
        let expected = LocalState { origin: Origin::Continued, app_locks_exclusively: false, ..state() };
        assert_eq!(LocalState::parse_any(text).unwrap(), (expected, false));
        assert!(LocalState::parse_any(state().to_text().unwrap().as_bytes()).unwrap().1);
    }

    #[test]
    fn the_origin_is_kept_until_a_position_of_the_file_is_confirmed() {
        let at = |acked, sent, origin| LocalState { acked: Txid(acked), sent: Txid(sent), origin, ..state() };
        let before = at(9, 9, Origin::Restored);
        for (after, origin) in [
            (at(9, 9, Origin::Continued), Origin::Restored),
            (at(9, 10, Origin::Continued), Origin::Restored),
            (at(10, 10, Origin::Continued), Origin::Continued),
            (
                LocalState { replica: "file:///other".into(), ..at(9, 9, Origin::Continued) },
                Origin::Continued,
            ),
            (
                at(9, 9, Origin::V3(V3Marker { key: "k".into(), born_ns: 0 })),
                Origin::V3(V3Marker { key: "k".into(), born_ns: 0 }),
            ),
        ] {
            assert_eq!(after.with_origin_of(&before).origin, origin);
        }
    }
}
