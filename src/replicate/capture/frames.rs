//! Reads a database's WAL under its hold and feeds it to the scanner. Decides nothing: what counts is the
//! scanner's.

use crate::sqlite::{ReadHold, SqliteError};
use crate::wal::{
    Committed, Cursor, FRAME_HEADER, Fed, FrameHeader, HEADER, Mark, Open, Scanner, WalHeader, walk,
};
use std::time::Duration;

/// Looks at a header that is no header, and the time between two of them.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// How the WAL begins.
pub enum Beginning {
    /// It was never written since it was made, or was emptied.
    Empty,
    Header(WalHeader),
    /// No header.
    Other,
}

/// One look: a second one may find what a writer has begun meanwhile.
pub fn beginning(hold: &ReadHold) -> Result<Beginning, SqliteError> {
    let mut bytes = [0; HEADER as usize];
    // A writer that starts the WAL over may be just writing it.
    for _ in 0..LOOKS {
        let got = hold.read_wal(0, &mut bytes)?;
        if got == 0 {
            return Ok(Beginning::Empty);
        }
        if let Some(header) = WalHeader::parse(bytes.get(..got).unwrap_or_default()) {
            return Ok(Beginning::Header(header));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(Beginning::Other)
}

/// The WAL's header, if it has one.
pub fn header(hold: &ReadHold) -> Result<Option<WalHeader>, SqliteError> {
    Ok(match beginning(hold)? {
        Beginning::Header(header) => Some(header),
        Beginning::Empty | Beginning::Other => None,
    })
}

/// The header of the frame at `mark`, compared with what was read there before.
pub fn is_there(hold: &ReadHold, mark: &Mark) -> Result<bool, SqliteError> {
    let mut bytes = [0; FRAME_HEADER];
    hold.read_wal(mark.offset, &mut bytes)?;
    Ok(FrameHeader::parse(&bytes).is_some_and(|frame| mark.is(&frame)))
}

/// Whole transactions from `from` on, up to the first commit that brings more than `limit` pages together;
/// and what is there of an open one. `known`: what an earlier look saw of that.
pub fn scan(
    hold: &ReadHold,
    header: &WalHeader,
    from: Cursor,
    commit: u32,
    limit: usize,
    known: Option<Open>,
) -> Result<(Committed, Option<Open>), SqliteError> {
    let known = match known {
        Some(open) if open.begins_at(from) && is_there(hold, &open.first())? => Some(open),
        _ => None,
    };
    if let Some(open) = known {
        let scanner = Scanner::resume(header, open, commit);
        let before = scanner.offset();
        let scanner = fed(hold, header, scanner, limit)?;
        if scanner.offset() != before {
            return Ok(scanner.suspend());
        }
        // It does not grow: it may have been given up, and a shorter one that begins alike may be in its
        // place.
    }
    Ok(fed(hold, header, Scanner::new(header, from, commit), limit)?.suspend())
}

fn fed(
    hold: &ReadHold,
    header: &WalHeader,
    mut scanner: Scanner,
    limit: usize,
) -> Result<Scanner, SqliteError> {
    // A writer may be faster than we read: what comes after this is for the next time.
    let until = hold.wal_len()?;
    let read = |offset, buffer: &mut [u8]| hold.read_wal(offset, buffer);
    walk(header, &mut scanner, read, |scanner, fed| match fed {
        Fed::End => false,
        Fed::Open => true,
        Fed::Commit => scanner.pages() <= limit && scanner.offset() < until,
    })?;
    Ok(scanner)
}
