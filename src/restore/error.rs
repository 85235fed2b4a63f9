//! The errors of a restore. Callers branch on `kind`; the text says what failed on which file, and what to
//! do.

use crate::lineage::Refusal;
use crate::lineage::state_file::StateFileError;
use crate::local_state::LocalStateError;
use crate::ltx::{FrameError, LtxError};
use crate::model::{Moment, TxidRange};
use crate::replica::PlanError;
use crate::sqlite::SqliteError;
use crate::store::{StoreError, StoreErrorKind};
use crate::v3::V3PlanError;
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
    V3Incomplete { replica: String, source: V3PlanError },
    #[error("{source}")]
    Unavailable { source: StoreError },
    #[error("the replica {replica} is not what the local file continues: {refusal}")]
    Refused { replica: String, refusal: Refusal },
    #[error(
        "{file} in {replica} leaves no TXID for what the app would write: it cannot be added to. Nothing was \
         started. `litevisor restore -o FILE` restores what is there; delete that file if it is not yours, \
         or begin a new replica under another path"
    )]
    Exhausted { replica: String, file: String },
    #[error("there is nothing to restore in {replica}")]
    NothingThere { replica: String },
    #[error("{replica}: {source}")]
    NoSuchState { replica: String, source: PlanError },
    #[error("files in {replica} kept disappearing while they were read; is its retention too short?")]
    Vanishing { replica: String },
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "no space for {}: the database needs {}, and {} are free; make room, or use a larger disk",
        .path.display(), size(*.needs), size(*.has)
    )]
    NoSpace { path: PathBuf, needs: u64, has: u64 },
    #[error(
        "not enough memory for the checksums of the {pages} pages that {file} in {replica} says the database \
         has"
    )]
    Memory { replica: String, file: String, pages: u32 },
    #[error(transparent)]
    State { source: StateFileError },
    #[error(transparent)]
    LocalState { source: LocalStateError },
    #[error("{source}")]
    Copy { source: SqliteError },
    #[error("the local file could not be replicated: {source}")]
    Unusable { source: SqliteError },
    #[error(
        "{} is open in another process ({users}), which would go on in the old file: it is not replaced. \
         Stop that process first",
        .path.display()
    )]
    InUse { path: PathBuf, users: String },
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
    #[error(
        "it was written at {0}, later than the files behind it: a clock was set back; restore by --txid \
         instead"
    )]
    Later(Moment),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the WAL before it is {want} bytes long, it says {got}: something is missing")]
    Offset { got: u64, want: u64 },
    /// Of an encrypted file, before its content is known.
    #[error("{0}")]
    Sealed(String),
    #[error("{0}")]
    Wal(&'static str),
    #[error("what it completes is no SQLite database: {0}")]
    NotSqlite(&'static str),
}

impl RestoreError {
    pub fn kind(&self) -> RestoreErrorKind {
        match self {
            RestoreError::Unavailable { source } if source.kind == StoreErrorKind::Key => {
                RestoreErrorKind::Local
            }
            RestoreError::Damaged { .. }
            | RestoreError::Incomplete { .. }
            | RestoreError::V3Incomplete { .. }
            | RestoreError::Exhausted { .. }
            | RestoreError::Refused { .. } => RestoreErrorKind::Damaged,
            RestoreError::Unavailable { .. } | RestoreError::Vanishing { .. } => {
                RestoreErrorKind::Unavailable
            }
            RestoreError::NothingThere { .. } | RestoreError::NoSuchState { .. } => {
                RestoreErrorKind::NothingThere
            }
            RestoreError::Io { .. }
            | RestoreError::NoSpace { .. }
            | RestoreError::Memory { .. }
            | RestoreError::State { .. }
            | RestoreError::LocalState { .. }
            | RestoreError::Copy { .. }
            | RestoreError::Unusable { .. }
            | RestoreError::InUse { .. }
            | RestoreError::InTheWay { .. } => RestoreErrorKind::Local,
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn io<'a>(
        operation: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> RestoreError + 'a {
        move |source| RestoreError::Io { operation, path: path.to_owned(), source }
    }
}

/// In the unit that fits, with one decimal.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x2800 => return format!("{bytes} bytes"),
        0x2800..0xa0_0000 => (10, "KiB"),
        _ => (20, "MiB"),
    };
    let tenths = (u128::from(bytes) * 10) >> unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (4096, "4096 bytes"),
            (200 << 10, "200.0 KiB"),
            ((1 << 20) + (1 << 19), "1536.0 KiB"),
            ((10 << 20) + (1 << 19), "10.5 MiB"),
            (5 << 30, "5120.0 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
