//! The page index: three unsigned LEB128 numbers a page, a zero byte, then the length of all that as a u64.

use crate::model::PageNo;

/// Closes the list of pages (no page has number 0).
pub(super) const TERMINATOR: u8 = 0;

/// Appends a page's entry: its number, where its frame begins in the file, and the frame's length.
pub(super) fn push_entry(out: &mut Vec<u8>, page: PageNo, offset: u64, length: u64) {
    for value in [u64::from(page.0), offset, length] {
        push_varint(out, value);
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
