//! The 100 bytes that open an LTX file. All numbers are big-endian.

use super::LtxError;
use crate::model::{DbChecksum, PageSize, Txid, TxidRange};

pub const BYTES: usize = 100;
const MAGIC: [u8; 4] = *b"LTX1";
/// The file carries no pre- and post-apply checksums. The only flag there is, and always set by us: a chain
/// whose last file has checksums cannot be restored by Litestream 0.5.
const NO_CHECKSUM: u32 = 2;
const CHECKSUM_FLAG: u64 = 1 << 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub page_size: PageSize,
    /// Size of the database in pages once this file is applied; never 0.
    pub commit: u32,
    /// A range that begins at 1 makes the file a snapshot: it holds every page.
    pub range: TxidRange,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// Where the frames of this file began in the WAL, and their bytes. 32 and 0 when not made from a WAL
    /// range; 0 and 0 in merged files.
    pub wal_offset: i64,
    pub wal_size: i64,
    pub salt1: u32,
    pub salt2: u32,
    /// Who wrote the file. Litestream writes 0.
    pub node_id: u64,
    /// Checksum of the whole database after this file, in bytes that other readers skip. None: the writer did
    /// not know.
    pub db_checksum: Option<DbChecksum>,
    /// The app locked the whole database (`PRAGMA locking_mode = EXCLUSIVE`) when this was written, in a byte
    /// that other readers skip.
    pub app_locks_exclusively: bool,
    /// As read from a file that carries LTX's own checksums; None in all others and in every file that we
    /// write.
    pub pre_apply: Option<u64>,
}

impl Header {
    /// A header with everything optional left out, as merged files have it.
    pub fn new(page_size: PageSize, commit: u32, range: TxidRange, timestamp_ms: i64) -> Header {
        Header {
            page_size,
            commit,
            range,
            timestamp_ms,
            wal_offset: 0,
            wal_size: 0,
            salt1: 0,
            salt2: 0,
            node_id: 0,
            db_checksum: None,
            app_locks_exclusively: false,
            pre_apply: None,
        }
    }

    /// Whether the file must hold every page of the database.
    pub fn is_snapshot(&self) -> bool {
        self.range.min == Txid::FIRST
    }

    /// Pages that a file with every page holds: all but the lock page.
    pub fn full_pages(&self) -> u32 {
        let lock = self.page_size.lock_page().0;
        if self.commit >= lock { self.commit.saturating_sub(1) } else { self.commit }
    }

    /// Always without LTX's own checksums (`pre_apply` is not written).
    pub fn encode(&self) -> Result<[u8; BYTES], LtxError> {
        self.check()?;
        let mut out = [0; BYTES];
        let mut fields = Writer(&mut out);
        fields.put(MAGIC);
        fields.put(NO_CHECKSUM.to_be_bytes());
        fields.put(self.page_size.get().to_be_bytes());
        fields.put(self.commit.to_be_bytes());
        fields.put(self.range.min.0.to_be_bytes());
        fields.put(self.range.max.0.to_be_bytes());
        fields.put(self.timestamp_ms.to_be_bytes());
        fields.put([0; 8]);
        fields.put(self.wal_offset.to_be_bytes());
        fields.put(self.wal_size.to_be_bytes());
        fields.put(self.salt1.to_be_bytes());
        fields.put(self.salt2.to_be_bytes());
        fields.put(self.node_id.to_be_bytes());
        fields.put(self.db_checksum.map_or(0, DbChecksum::get).to_be_bytes());
        fields.put([u8::from(self.app_locks_exclusively)]);
        Ok(out)
    }

    /// From the first bytes of a file, however many more follow.
    pub fn from_start(file: &[u8]) -> Result<Header, LtxError> {
        match file.first_chunk() {
            Some(bytes) => Header::decode(bytes),
            None => Err(LtxError::Truncated { bytes: file.len() as u64 }),
        }
    }

    pub fn decode(bytes: &[u8; BYTES]) -> Result<Header, LtxError> {
        let mut fields = Reader(bytes);
        let magic = fields.take();
        if magic != MAGIC {
            return Err(LtxError::Magic(magic));
        }
        let flags = fields.u32();
        if flags & !NO_CHECKSUM != 0 {
            return Err(LtxError::Flags(flags));
        }
        let page_size = fields.u32();
        let page_size = PageSize::new(page_size).ok_or(LtxError::PageSize(page_size))?;
        let commit = fields.u32();
        let min = Txid(fields.u64());
        let max = Txid(fields.u64());
        let range = TxidRange::new(min, max)
            .ok_or(LtxError::Header { field: "TXIDs", why: "must be 1 <= min <= max" })?;
        let timestamp_ms = fields.i64();
        let pre_apply = check_pre_apply(flags, range, fields.u64())?;
        let header = Header {
            page_size,
            commit,
            range,
            timestamp_ms,
            wal_offset: fields.i64(),
            wal_size: fields.i64(),
            salt1: fields.u32(),
            salt2: fields.u32(),
            node_id: fields.u64(),
            db_checksum: DbChecksum::from_header(fields.u64()),
            app_locks_exclusively: fields.take() == [1],
            pre_apply,
        };
        header.check()?;
        Ok(header)
    }

    /// The rules that hold for what is read and for what is written.
    fn check(&self) -> Result<(), LtxError> {
        let wrong = |field, why| Err(LtxError::Header { field, why });
        if self.commit == 0 {
            return wrong("commit", "no database has 0 pages");
        }
        if TxidRange::new(self.range.min, self.range.max).is_none() {
            return wrong("TXIDs", "must be 1 <= min <= max");
        }
        if self.wal_offset < 0 || self.wal_size < 0 {
            return wrong("WAL position", "negative");
        }
        if self.wal_offset == 0 && (self.salt1 != 0 || self.salt2 != 0) {
            return wrong("WAL salts", "set without a WAL offset");
        }
        if self.wal_offset == 0 && self.wal_size != 0 {
            return wrong("WAL size", "set without a WAL offset");
        }
        Ok(())
    }
}

fn check_pre_apply(flags: u32, range: TxidRange, value: u64) -> Result<Option<u64>, LtxError> {
    let wrong = |why| Err(LtxError::Header { field: "pre-apply checksum", why });
    if flags & NO_CHECKSUM != 0 {
        return if value == 0 { Ok(None) } else { wrong("set in a file without checksums") };
    }
    match (range.min == Txid::FIRST, value) {
        (true, 0) => Ok(Some(0)),
        (true, _) => wrong("set in a snapshot"),
        (false, _) if value & CHECKSUM_FLAG == 0 => wrong("missing"),
        (false, _) => Ok(Some(value)),
    }
}

/// Fills an array front to back.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((field, rest)) = std::mem::take(&mut self.0).split_first_chunk_mut() {
            *field = bytes;
            self.0 = rest;
        }
    }
}

/// Takes numbers off the front; zero past the end, which the fixed input size rules out.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
}
