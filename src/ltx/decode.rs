//! Reads an LTX file from chunks of any size, as they arrive, and verifies all of it: order and size of the
//! pages, the index, the file checksum, the database checksum of a snapshot that carries one, and that
//! nothing follows. Memory is limited to a few pages for any input; no input makes it panic.
//!
//! No output is verified before `finish` has succeeded.

use super::encode::{check_complete, check_page};
use super::lz4_frame::{self, Extent};
use super::{HEADER_BYTES, Header, LtxError, PAGE_HEADER_BYTES, SIZED_BLOCK, TRAILER_BYTES, Trailer, index};
use crate::model::{Crc64, DbChecksum, PageNo, page_checksum};

/// What the next bytes of the file were.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Header(&'a Header),
    Page(PageNo, &'a [u8]),
    /// The end; the file is verified.
    End(Trailer),
}

/// Reads one file: `next` until it wants more bytes, `finish` when there are none.
pub struct Decoder {
    expect: Expect,
    header: Option<Header>,
    trailer: Option<Trailer>,
    input: Input,
    page: Vec<u8>,
    crc: Crc64,
    last: PageNo,
    pages: u32,
    /// What the index must say, as checksum and length: it is compared without being kept.
    index: IndexProof,
    /// Rolling checksum of the pages of a snapshot that carries LTX's own checksums.
    database: Option<DbChecksum>,
}

/// The part of the file that comes next.
#[derive(Clone, Copy)]
enum Expect {
    Header,
    PageHeader,
    BlockLength(PageNo),
    Block(PageNo, usize),
    Frame(PageNo, usize),
    Index(u64),
    IndexLength,
    Trailer,
    Nothing,
}

/// What `advance` has completed.
enum Part {
    Header,
    Page(PageNo),
    End(Trailer),
}

#[derive(Default)]
struct IndexProof {
    want: Crc64,
    length: u64,
    got: Crc64,
    entry: Vec<u8>,
}

/// Collects a part that is spread over several chunks; a part within one chunk is not copied.
#[derive(Default)]
struct Input {
    partial: Vec<u8>,
    taken: u64,
    /// `partial` was handed out whole and is to be emptied.
    used: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            expect: Expect::Header,
            header: None,
            trailer: None,
            input: Input::default(),
            page: Vec::new(),
            crc: Crc64::default(),
            last: PageNo(0),
            pages: 0,
            index: IndexProof::default(),
            database: None,
        }
    }
}

impl Decoder {
    /// Takes bytes off the front of `chunk` until a part of the file is complete. None: the chunk is used up,
    /// feed more.
    pub fn next<'a>(&'a mut self, chunk: &mut &[u8]) -> Result<Option<Event<'a>>, LtxError> {
        loop {
            match self.advance(chunk)? {
                Advance::Starved => return Ok(None),
                Advance::Quiet => {}
                Advance::Part(Part::Header) => return Ok(self.header.as_ref().map(Event::Header)),
                Advance::Part(Part::Page(page)) => return Ok(Some(Event::Page(page, &self.page))),
                Advance::Part(Part::End(trailer)) => return Ok(Some(Event::End(trailer))),
            }
        }
    }

    /// To be called when the file's bytes are over.
    pub fn finish(self) -> Result<(Header, Trailer), LtxError> {
        match (self.header, self.trailer) {
            (Some(header), Some(trailer)) => Ok((header, trailer)),
            _ => Err(LtxError::Truncated { bytes: self.input.taken }),
        }
    }

    fn advance(&mut self, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        match self.expect {
            Expect::Header => self.read_header(chunk),
            Expect::PageHeader => self.read_page_header(chunk),
            Expect::BlockLength(page) => self.read_block_length(page, chunk),
            Expect::Block(page, length) => self.read_block(page, length, chunk),
            Expect::Frame(page, need) => self.read_frame(page, need, chunk),
            Expect::Index(left) => self.read_index(left, chunk),
            Expect::IndexLength => self.read_index_length(chunk),
            Expect::Trailer => self.read_trailer(chunk),
            Expect::Nothing if chunk.is_empty() => Ok(Advance::Starved),
            Expect::Nothing => Err(LtxError::TrailingData),
        }
    }

    fn header(&self) -> Result<&Header, LtxError> {
        self.header.as_ref().ok_or(LtxError::Truncated { bytes: self.input.taken })
    }

    fn read_header(&mut self, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.take(HEADER_BYTES, chunk) else { return Ok(Advance::Starved) };
        let header = Header::from_start(bytes)?;
        self.crc.update(bytes);
        self.page = vec![0; header.page_size.bytes()];
        self.database = (header.pre_apply.is_some() && header.is_snapshot()).then(DbChecksum::default);
        self.header = Some(header);
        self.expect = Expect::PageHeader;
        Ok(Advance::Part(Part::Header))
    }

    fn read_page_header(&mut self, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.take(PAGE_HEADER_BYTES, chunk) else { return Ok(Advance::Starved) };
        self.crc.update(bytes);
        let (number, flags) = split_page_header(bytes);
        let page = PageNo(number);
        if (number, flags) == (0, 0) {
            check_complete(self.header()?, self.pages)?;
            let length = self.index.close();
            self.expect = Expect::Index(length);
            return Ok(Advance::Quiet);
        }
        check_page(self.header()?, self.last, page)?;
        self.expect = match flags {
            SIZED_BLOCK => Expect::BlockLength(page),
            0 => Expect::Frame(page, 0),
            _ => return Err(LtxError::PageFlags { page, flags }),
        };
        Ok(Advance::Quiet)
    }

    fn read_block_length(&mut self, page: PageNo, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.take(4, chunk) else { return Ok(Advance::Starved) };
        self.crc.update(bytes);
        let length = bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) as usize;
        // A block that cannot be packed grows by 1 in 255: twice the page is far beyond any encoder.
        if length == 0 || length > 2 * self.page.len() {
            return Err(LtxError::PageData(page));
        }
        self.expect = Expect::Block(page, length);
        Ok(Advance::Quiet)
    }

    fn read_block(&mut self, page: PageNo, length: usize, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(packed) = self.input.take(length, chunk) else { return Ok(Advance::Starved) };
        let unpacked = lz4_flex::block::decompress_into(packed, &mut self.page);
        if unpacked.ok() != Some(self.page.len()) {
            return Err(LtxError::PageData(page));
        }
        Ok(self.page_done(page, PAGE_HEADER_BYTES + 4 + length))
    }

    /// The frame's length is found on the way: `need` bytes are known to be part of it.
    fn read_frame(&mut self, page: PageNo, need: usize, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.gather(need, chunk) else { return Ok(Advance::Starved) };
        match lz4_frame::extent(bytes, self.page.len()) {
            Extent::Need(more) => {
                self.expect = Expect::Frame(page, more);
                Ok(Advance::Quiet)
            }
            Extent::Whole(length) => {
                if !lz4_frame::unpack(bytes, &mut self.page) {
                    return Err(LtxError::PageData(page));
                }
                self.input.used = true;
                Ok(self.page_done(page, PAGE_HEADER_BYTES + length))
            }
            Extent::Invalid => Err(LtxError::PageData(page)),
        }
    }

    fn page_done(&mut self, page: PageNo, frame: usize) -> Advance {
        self.crc.update(&self.page);
        if let Some(database) = &mut self.database {
            database.toggle(page_checksum(page, &self.page));
        }
        let frame = frame as u64;
        self.index.add(page, self.input.taken.saturating_sub(frame), frame);
        self.last = page;
        self.pages += 1;
        self.expect = Expect::PageHeader;
        Advance::Part(Part::Page(page))
    }

    fn read_index(&mut self, left: u64, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        if some == 0 {
            return Ok(Advance::Starved);
        }
        let Some(bytes) = self.input.take(some, chunk) else { return Ok(Advance::Starved) };
        self.crc.update(bytes);
        self.index.got.update(bytes);
        let left = left - some as u64;
        self.expect = if left == 0 { Expect::IndexLength } else { Expect::Index(left) };
        Ok(Advance::Quiet)
    }

    fn read_index_length(&mut self, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.take(8, chunk) else { return Ok(Advance::Starved) };
        self.crc.update(bytes);
        let length = bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if length != self.index.length || self.index.want.value() != self.index.got.value() {
            return Err(LtxError::Index);
        }
        self.expect = Expect::Trailer;
        Ok(Advance::Quiet)
    }

    fn read_trailer(&mut self, chunk: &mut &[u8]) -> Result<Advance, LtxError> {
        let Some(bytes) = self.input.take(TRAILER_BYTES, chunk) else { return Ok(Advance::Starved) };
        let trailer = Trailer::from_end(bytes)?;
        self.crc.update(bytes.get(..8).unwrap_or_default());
        let got = self.crc.flagged();
        if got != trailer.file.0 {
            return Err(LtxError::FileChecksum { got, want: trailer.file.0 });
        }
        trailer.check(self.header()?.pre_apply.is_some())?;
        if let Some(database) = self.database
            && database.get() != trailer.post_apply
        {
            return Err(LtxError::PostApply { got: database.get(), want: trailer.post_apply });
        }
        self.trailer = Some(trailer);
        self.expect = Expect::Nothing;
        Ok(Advance::Part(Part::End(trailer)))
    }
}

enum Advance {
    /// The chunk is used up.
    Starved,
    /// Something the caller need not see.
    Quiet,
    Part(Part),
}

impl IndexProof {
    fn add(&mut self, page: PageNo, offset: u64, length: u64) {
        self.entry.clear();
        index::push_entry(&mut self.entry, page, offset, length);
        self.want.update(&self.entry);
        self.length += self.entry.len() as u64;
    }

    /// No more pages; the length of the index.
    fn close(&mut self) -> u64 {
        self.want.update(&[index::TERMINATOR]);
        self.length += 1;
        self.length
    }
}

impl Input {
    /// Exactly `length` bytes, once they have all arrived.
    fn take<'a, 'c: 'a>(&'a mut self, length: usize, chunk: &mut &'c [u8]) -> Option<&'a [u8]> {
        self.forget_used();
        if self.partial.is_empty()
            && let Some((bytes, rest)) = chunk.split_at_checked(length)
        {
            *chunk = rest;
            self.taken += length as u64;
            return Some(bytes);
        }
        self.gather(length, chunk)?;
        self.used = true;
        Some(&self.partial)
    }

    /// Everything gathered so far, once it is `length` bytes; stays gathered.
    fn gather(&mut self, length: usize, chunk: &mut &[u8]) -> Option<&[u8]> {
        self.forget_used();
        let missing = length.saturating_sub(self.partial.len());
        let (bytes, rest) = chunk.split_at_checked(missing).unwrap_or((chunk, &[]));
        self.partial.extend_from_slice(bytes);
        self.taken += bytes.len() as u64;
        *chunk = rest;
        (self.partial.len() >= length).then_some(&self.partial)
    }

    fn forget_used(&mut self) {
        if std::mem::take(&mut self.used) {
            self.partial.clear();
        }
    }
}

fn split_page_header(bytes: &[u8]) -> (u32, u16) {
    match bytes {
        [a, b, c, d, e, f] => (u32::from_be_bytes([*a, *b, *c, *d]), u16::from_be_bytes([*e, *f])),
        _ => (0, u16::MAX),
    }
}
