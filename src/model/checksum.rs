//! The LTX checksums: CRC-64/GO-ISO (what Go calls `crc64.ISO`), per page, per database and per file. Bit 63
//! of a page, database or file checksum is always set, so that zero can mean "not known".

use super::PageNo;
use std::fmt;

const FLAG: u64 = 1 << 63;

/// Running CRC-64/GO-ISO over a stream.
pub struct Crc64(crc_fast::Digest);

impl Default for Crc64 {
    fn default() -> Self {
        Crc64(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64GoIso))
    }
}

impl Crc64 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything so far, without the flag bit.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// The checksum of everything so far as an LTX file checksum.
    pub fn flagged(&self) -> u64 {
        FLAG | self.value()
    }
}

/// Checksum of a whole LTX file, from its trailer: names one content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileChecksum(pub u64);

impl fmt::Display for FileChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Checksum of one page: its number, big-endian, then its bytes.
pub fn page_checksum(page: PageNo, data: &[u8]) -> u64 {
    let mut crc = Crc64::default();
    crc.update(&page.0.to_be_bytes());
    crc.update(data);
    crc.flagged()
}

/// Rolling checksum of a whole database: the XOR of its pages' checksums. Adding a page and removing it are
/// the same step, so an update costs two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbChecksum(u64);

impl Default for DbChecksum {
    fn default() -> Self {
        DbChecksum(FLAG)
    }
}

impl DbChecksum {
    /// Adds a page that was absent, or removes one that was present.
    pub fn toggle(&mut self, page_checksum: u64) {
        self.0 = FLAG | (self.0 ^ page_checksum);
    }

    pub fn get(self) -> u64 {
        self.0
    }

    /// From eight bytes of a header: zero means that the writer did not know it.
    pub fn from_header(value: u64) -> Option<DbChecksum> {
        (value & FLAG != 0).then_some(DbChecksum(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        let mut crc = Crc64::default();
        crc.update(b"123456789");
        assert_eq!(crc.value(), 0xb909_56c7_75a4_1001);
        assert_eq!(Crc64::default().value(), 0);
        let (one, two) = (page_checksum(PageNo(1), &[0; 512]), page_checksum(PageNo(2), &[0xab; 512]));
        assert_eq!(one, 0xefb1_f44f_ecd9_9000);
        assert_eq!(two, 0xa832_5671_0237_7eee);
        let mut db = DbChecksum::default();
        db.toggle(one);
        db.toggle(two);
        assert_eq!(db.get(), 0xc783_a23e_eeee_eeee);
        db.toggle(two);
        db.toggle(one);
        assert_eq!(db, DbChecksum::default());
    }
}
