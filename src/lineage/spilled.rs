//! Segments that wait on this disk because the replica could not be reached: reading and verifying them, and
//! the rule whether they continue the replica (`continues`, pure). Uploads nothing and sets nothing aside.

use super::record::LocalState;
use crate::local_state::spill;
use crate::ltx::{Decoder, Event, Header, LtxError};
use crate::model::{DbPath, FileChecksum, Txid, TxidRange};
use crate::replica::Tip;
use std::io::Read;
use std::path::PathBuf;

const READ_BYTES: usize = 256 << 10;

/// A verified file of the spill directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spilled {
    pub path: PathBuf,
    pub bytes: u64,
    pub header: Header,
    pub checksum: FileChecksum,
}

impl Spilled {
    pub fn txid(&self) -> Txid {
        self.header.range.max
    }
}

/// The files of a spill directory whose database continues the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// To be uploaded, in this order; they end where the record says.
    pub upload: Vec<Spilled>,
    /// In the replica already; or never recorded, so that the WAL still has what is in them.
    pub needless: Vec<PathBuf>,
}

/// Why none of the files may be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("its files lead up to TXID {reached}, and up to {end} was recorded")]
    Gap { reached: Txid, end: Txid },
    #[error("{} is not what the replica has under its name", .0.display())]
    NotTheTip(PathBuf),
    #[error("{} does not lead to the database that was recorded", .0.display())]
    AnotherEnd(PathBuf),
    #[error("{} was written by another process", .path.display())]
    Foreign { path: PathBuf },
    #[error("nothing was recorded about it")]
    NoRecord,
    #[error("{0}")]
    Disk(String),
}

/// Every file, each verified as a whole. Blocks.
pub fn read(db: &DbPath) -> Result<Vec<Spilled>, Unfit> {
    let found = spill::list(db).map_err(|error| Unfit::Disk(error.to_string()))?;
    found.into_iter().map(verified).collect()
}

fn verified(found: spill::SpilledFile) -> Result<Spilled, Unfit> {
    let spill::SpilledFile { path, txid, bytes } = found;
    let damaged = |problem: String| Unfit::Damaged { path: path.clone(), problem };
    let wrong = |error: LtxError| damaged(error.to_string());
    let mut file = spill::open(&path).map_err(|error| Unfit::Disk(error.to_string()))?;
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut header = None;
    let mut checksum = None;
    loop {
        let read = file.read(&mut buffer).map_err(|error| damaged(error.to_string()))?;
        if read == 0 {
            break;
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        while let Some(event) = decoder.next(&mut rest).map_err(wrong)? {
            match event {
                Event::Header(found) => header = Some(found.clone()),
                Event::Page(..) => {}
                Event::End(trailer) => checksum = Some(trailer.file),
            }
        }
    }
    decoder.finish().map_err(wrong)?;
    match (header, checksum) {
        (Some(header), Some(checksum)) if header.range == TxidRange::single(txid) => {
            Ok(Spilled { path, bytes, header, checksum })
        }
        _ => Err(damaged("its header does not say what its name says".to_owned())),
    }
}

/// For a database that continues the replica, whose newest position is `tip`: the record says which position
/// the files must reach, and they must reach it without a gap.
pub fn continues(state: Option<&LocalState>, tip: &Tip, files: Vec<Spilled>) -> Result<Waiting, Unfit> {
    let Some(state) = state else {
        return if files.is_empty() { Ok(Waiting::default()) } else { Err(Unfit::NoRecord) };
    };
    let end = state.spilled.map_or(tip.txid, |end| end.txid);
    let mut waiting = Waiting::default();
    let mut reached = tip.txid;
    for file in files {
        let txid = file.txid();
        if txid == tip.txid && tip.raw().is_some_and(|raw| raw.header != file.header) {
            return Err(Unfit::NotTheTip(file.path));
        }
        if state.spilled.is_none() && txid > end && file.header.node_id != state.node_id {
            return Err(Unfit::Foreign { path: file.path });
        }
        if txid <= tip.txid || txid > end {
            waiting.needless.push(file.path);
        } else if txid == reached.next() {
            reached = txid;
            waiting.upload.push(file);
        } else {
            return Err(Unfit::Gap { reached, end });
        }
    }
    if reached < end {
        return Err(Unfit::Gap { reached, end });
    }
    let recorded = state.spilled.map(|end| end.db_checksum);
    match waiting.upload.last() {
        Some(last) if last.header.db_checksum != recorded => Err(Unfit::AnotherEnd(last.path.clone())),
        _ => Ok(waiting),
    }
}

#[cfg(test)]
mod tests;
