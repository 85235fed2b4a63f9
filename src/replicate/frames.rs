//! Reads a database's WAL under its hold and feeds it to the scanner. Decides nothing: what counts is the scanner's.

use crate::sqlite::{ReadHold, SqliteError};
use crate::wal::{Committed, Cursor, Fed, HEADER, Scanner, WalHeader, frame_size};
use std::time::Duration;

/// Bytes of the WAL read at a time.
const READ_BYTES: u64 = 256 << 10;
/// Looks at a header that is no header, and the time between two of them.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The WAL's header; None when it has none (never written since it was made, or emptied).
pub fn header(hold: &ReadHold) -> Result<Option<WalHeader>, SqliteError> {
    let mut bytes = [0; HEADER as usize];
    // A writer that starts the WAL over may be just writing it.
    for _ in 0..LOOKS {
        let got = hold.read_wal(0, &mut bytes)?;
        let header = WalHeader::parse(bytes.get(..got).unwrap_or_default());
        if header.is_some() || got == 0 {
            return Ok(header);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(None)
}

/// Whole transactions from `from` on, up to the first commit that brings more than `limit` pages together.
pub fn scan(
    hold: &ReadHold,
    header: &WalHeader,
    from: Cursor,
    commit: u32,
    limit: usize,
) -> Result<Committed, SqliteError> {
    // A writer may be faster than we read: what comes after this is for the next time.
    let until = hold.wal_len()?;
    let mut scanner = Scanner::new(header, from, commit);
    feed(hold, header, &mut scanner, |scanner, fed| match fed {
        Fed::End => false,
        Fed::Open => true,
        Fed::Commit => scanner.pages() <= limit && scanner.offset() < until,
    })?;
    Ok(scanner.finish())
}

/// Feeds frames from the scanner's position on, until the file ends or `more` says no.
pub fn feed(
    hold: &ReadHold,
    header: &WalHeader,
    scanner: &mut Scanner,
    mut more: impl FnMut(&Scanner, Fed) -> bool,
) -> Result<(), SqliteError> {
    let frame = frame_size(header.page_size);
    // The first look is small: most often there is nothing, or one small transaction.
    let (mut frames, mut buffer) = (1, Vec::new());
    loop {
        buffer.resize((frames * frame) as usize, 0);
        let got = hold.read_wal(scanner.offset(), &mut buffer)?;
        if got < frame as usize {
            return Ok(());
        }
        for bytes in buffer.get(..got).unwrap_or_default().chunks_exact(frame as usize) {
            let fed = scanner.feed(bytes);
            if !more(scanner, fed) {
                return Ok(());
            }
        }
        frames = (frames * 4).min((READ_BYTES / frame).max(1));
    }
}
