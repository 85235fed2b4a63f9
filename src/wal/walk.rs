//! Reads a WAL into the scanner. The reader returns bytes at an offset, and less than requested only at the
//! end of the file.

use super::cursor::Cursor;
use super::format::{WalHeader, frame_size};
use super::scan::{Committed, Fed, Scanner};

/// Bytes read at a time.
const READ_BYTES: u64 = 256 << 10;

/// Feeds frames from the scanner's position on, until the file ends or `more` says no.
pub fn walk<E>(
    header: &WalHeader,
    scanner: &mut Scanner,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    mut more: impl FnMut(&Scanner, Fed) -> bool,
) -> Result<(), E> {
    let frame = frame_size(header.page_size);
    // The first look is small: most often there is nothing, or one small transaction.
    let (mut frames, mut buffer) = (1, Vec::new());
    loop {
        buffer.resize((frames * frame) as usize, 0);
        let got = read(scanner.offset(), &mut buffer)?;
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

/// The transactions from the WAL's beginning up to `end`, if one of the chain that begins with `header` ends
/// there. `commit`: the database's size in pages before them, where it matters.
pub fn up_to<E>(
    header: &WalHeader,
    end: u64,
    commit: u32,
    read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Option<Committed>, E> {
    let mut scanner = Scanner::new(header, Cursor::start(header), commit);
    if scanner.offset() < end {
        walk(header, &mut scanner, read, |scanner, fed| fed != Fed::End && scanner.offset() < end)?;
    }
    Ok(Some(scanner.finish()).filter(|found| found.cursor.offset == end))
}
