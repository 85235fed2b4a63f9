//! The error of this boundary. `kind` is what callers branch on; the text says what failed on which file, and what to do.

use crate::ltx::{FrameError, LtxError};
use crate::model::{Moment, TxidRange};
use crate::replica::{Doubt, OldPlanError, PlanError};
use crate::sqlite::SqliteError;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreErrorKind {
    /// The replica holds something that cannot or must not be restored as it is.
    Damaged,
    /// The replica cannot be reached, or denies access.
    Unavailable,
    /// There is no replica, or it does not reach the position that was asked for.
    NothingThere,
    /// Something on this machine is in the way.
    Local,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{file} in {replica} is damaged: {damage}")]
    Damaged { replica: String, file: String, damage: Damage },
    #[error("the replica {replica} is damaged: {source}")]
    Incomplete { replica: String, source: PlanError },
    #[error("the Litestream 0.3 replica {replica} is damaged: {source}")]
    OldIncomplete { replica: String, source: OldPlanError },
    #[error("{source}")]
    Unavailable { source: StoreError },
    #[error("the replica {replica} is not what the local file continues: {refusal}")]
    Refused { replica: String, refusal: Refusal },
    #[error("there is nothing to restore in {replica}")]
    NothingThere { replica: String },
    #[error("{replica}: {source}")]
    NoSuchState { replica: String, source: PlanError },
    #[error("files in {replica} kept disappearing while they were read; is its retention too short?")]
    Vanishing { replica: String },
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "no space for {}: the database needs {} MiB, and {} MiB are free; make room, or use a larger disk",
        .path.display(), mib(*.needs), *.has >> 20
    )]
    NoSpace { path: PathBuf, needs: u64, has: u64 },
    #[error("the local file could not be replicated: {source}")]
    Unusable { source: SqliteError },
    #[error("{}: {problem}", .path.display())]
    InTheWay { path: PathBuf, problem: &'static str },
}

/// What is wrong with one file, or with the database that the files make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("{0}")]
    Format(#[from] LtxError),
    #[error("its header says {0}, not what its name says")]
    Name(TxidRange),
    #[error("its page size is {got}, that of the files before it {want}")]
    PageSize { got: u32, want: u32 },
    #[error("it says that the database has {0} pages, more than all files together can hold")]
    Pages(u32),
    #[error("after it page {0} of the database is in no file")]
    Missing(u32),
    #[error("after it the database's checksum is {got:016x} instead of {want:016x}")]
    Checksum { got: u64, want: u64 },
    #[error("it was written at {0}, later than the files behind it: a clock was set back; restore by --txid instead")]
    Later(Moment),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the WAL before it is {want} bytes long, it says {got}: something is missing")]
    Offset { got: u64, want: u64 },
    #[error("{0}")]
    Wal(&'static str),
    #[error("what it completes is no SQLite database: {0}")]
    NotSqlite(&'static str),
}

/// A state in which going on would lose somebody's data silently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "it ends at TXID {tip} with a file of another writer, while the local file had been replicated up to TXID \
         {acked}; keep the one that is right and remove the other (the local database, or the replica)"
    )]
    Forked { tip: crate::model::Txid, acked: crate::model::Txid },
    #[error(
        "{0}. An app may have the file open, so it is not replaced: stop the app and let `litevisor run` or `litevisor \
         restore --force` decide, or move the file, or the replica, away"
    )]
    InUse(Doubt),
}

impl RestoreError {
    pub fn kind(&self) -> RestoreErrorKind {
        match self {
            RestoreError::Damaged { .. }
            | RestoreError::Incomplete { .. }
            | RestoreError::OldIncomplete { .. }
            | RestoreError::Refused { .. } => RestoreErrorKind::Damaged,
            RestoreError::Unavailable { .. } | RestoreError::Vanishing { .. } => RestoreErrorKind::Unavailable,
            RestoreError::NothingThere { .. } | RestoreError::NoSuchState { .. } => RestoreErrorKind::NothingThere,
            RestoreError::Io { .. }
            | RestoreError::NoSpace { .. }
            | RestoreError::Unusable { .. }
            | RestoreError::InTheWay { .. } => RestoreErrorKind::Local,
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn io<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RestoreError + 'a {
        move |source| RestoreError::Io { operation, path: path.to_owned(), source }
    }
}

/// Rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
