//! Why a copy cannot be brought further.

use crate::model::Txid;
use crate::restore::RestoreError;

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Nothing leads on from what the local file holds: the caller restores anew. The file is as it was, or
    /// its record says that it is torn, so that no start uses it.
    #[error("the local file cannot follow its replica any more: {0}; it has to be restored anew")]
    RestoreAnew(#[from] Anew),
    /// The same may succeed later; the copy is as it was.
    #[error(transparent)]
    Failed(#[from] RestoreError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Anew {
    #[error("its state file does not say that it was restored from {replica}, or at which position")]
    NoPosition { replica: String },
    #[error("its state file says that it stands at TXID {txid}, and it holds another content")]
    Content { txid: Txid },
    #[error("another program has written to it, or beside it, since TXID {txid}")]
    Touched { txid: Txid },
    #[error("no file leads on from TXID {from}; the next one is {beyond}")]
    Gap { from: Txid, beyond: String },
    #[error(
        "the replica ends at TXID {end}, and the local file stands at {txid}: it lost its end, or began anew"
    )]
    Behind { end: Txid, txid: Txid },
    #[error("the replica's newest data is in Litestream 0.3's format")]
    OlderFormat,
    #[error("{file} continues another history than that of TXID {txid}")]
    OtherHistory { file: String, txid: Txid },
    #[error(
        "{file} carries no checksum, and the file of TXID {txid}, which would prove that it continues it, is \
         gone"
    )]
    Unproven { file: String, txid: Txid },
    #[error("{file} has another page size")]
    PageSize { file: String },
    #[error("the first page in {file} does not say how many pages the database has: SQLite cannot write it")]
    OldHeader { file: String },
    #[error("after {file} the database is damaged: {problem}")]
    Damaged { file: String, problem: String },
}
