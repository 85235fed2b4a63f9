//! Writes an LTX file piece by piece into a buffer of the caller, who may drain it between calls: `start`
//! writes the header, `page` one page, `finish` the rest. Memory: the page index (about 9 bytes a page) and
//! one compressed page.

use super::{Header, LtxError, PAGE_HEADER_BYTES, SIZED_BLOCK, index};
use crate::model::{Crc64, FileChecksum, PageNo};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

pub struct Encoder {
    header: Header,
    crc: Crc64,
    /// Bytes of the file so far.
    written: u64,
    last: PageNo,
    pages: u32,
    index: Vec<u8>,
    packed: Vec<u8>,
    table: CompressTable,
}

impl Encoder {
    pub fn start(header: &Header, out: &mut Vec<u8>) -> Result<Encoder, LtxError> {
        let bytes = header.encode()?;
        let mut crc = Crc64::default();
        crc.update(&bytes);
        out.extend_from_slice(&bytes);
        let page_bytes = header.page_size.bytes();
        Ok(Encoder {
            header: header.clone(),
            crc,
            written: bytes.len() as u64,
            last: PageNo(0),
            pages: 0,
            index: Vec::new(),
            packed: vec![0; get_maximum_output_size(page_bytes)],
            table: if page_bytes < usize::from(u16::MAX) {
                CompressTable::small()
            } else {
                CompressTable::large()
            },
        })
    }

    /// Adds one page; pages come in ascending order.
    pub fn page(&mut self, page: PageNo, data: &[u8], out: &mut Vec<u8>) -> Result<(), LtxError> {
        check_page(&self.header, self.last, page)?;
        if data.len() != self.header.page_size.bytes() {
            return Err(LtxError::PageBytes { page, got: data.len() });
        }
        let length = compress_into_with_table(data, &mut self.packed, &mut self.table)
            .map_err(|_| LtxError::PageData(page))?;
        let packed = self.packed.get(..length).ok_or(LtxError::PageData(page))?;
        let head = page_head(page, length as u32);

        self.crc.update(&head);
        self.crc.update(data);
        out.extend_from_slice(&head);
        out.extend_from_slice(packed);

        let frame = (head.len() + length) as u64;
        index::push_entry(&mut self.index, page, self.written, frame);
        self.written += frame;
        self.last = page;
        self.pages += 1;
        Ok(())
    }

    /// Closes the file. A snapshot must have been given every page.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<FileChecksum, LtxError> {
        check_complete(&self.header, self.pages)?;
        self.index.push(index::TERMINATOR);
        let length = (self.index.len() as u64).to_be_bytes();
        let post_apply = [0; 8];
        for piece in [&[0; PAGE_HEADER_BYTES][..], &self.index, &length, &post_apply] {
            self.crc.update(piece);
            out.extend_from_slice(piece);
        }
        let checksum = FileChecksum(self.crc.flagged());
        out.extend_from_slice(&checksum.0.to_be_bytes());
        Ok(checksum)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the file so far, drained or not.
    pub fn written(&self) -> u64 {
        self.written
    }
}

/// The rules for a page's number, the same for writing and reading.
pub(super) fn check_page(header: &Header, last: PageNo, page: PageNo) -> Result<(), LtxError> {
    if page <= last {
        return Err(LtxError::Order { page, after: last });
    }
    if page.0 > header.commit {
        return Err(LtxError::BeyondCommit { page, commit: header.commit });
    }
    if page == header.page_size.lock_page() {
        return Err(LtxError::LockPage(page));
    }
    Ok(())
}

/// A snapshot holds every page. Pages are counted, which is enough: they ascend and none lies beyond commit.
pub(super) fn check_complete(header: &Header, pages: u32) -> Result<(), LtxError> {
    let want = header.full_pages();
    if header.is_snapshot() && pages != want {
        return Err(LtxError::Incomplete { want, got: pages });
    }
    Ok(())
}

fn page_head(page: PageNo, length: u32) -> [u8; 10] {
    let [a, b, c, d] = page.0.to_be_bytes();
    let [e, f] = SIZED_BLOCK.to_be_bytes();
    let [g, h, i, j] = length.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j]
}
