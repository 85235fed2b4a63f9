//! Reads the wal-index headers of many databases at once: each first page of a `-shm` is mapped, and one
//! system call copies all headers through a file in memory. 100 databases cost 2 µs so, and 32 µs with a
//! `pread` each; a few are read one by one. The mapping is never read by the program itself: a `-shm` that is
//! truncated is an error of the call, not a SIGBUS. Takes no lock and opens no file.

use super::index_header::{COPIED_AT, IndexHeader};
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Databases in one call: a kernel takes 1024.
const AT_ONCE: usize = 128;
/// Up to so many, a `pread` each takes less time than the two calls for all.
const FEW: usize = 2;

/// The wal-index of one database, mapped.
pub struct IndexMap {
    address: *mut libc::c_void,
    file: Arc<File>,
}

// SAFETY: the address is only handed to the kernel.
unsafe impl Send for IndexMap {}

impl IndexMap {
    /// `index`: the descriptor that `files` keeps.
    pub fn new(index: &Arc<File>) -> io::Result<IndexMap> {
        let null = std::ptr::null_mut();
        let fd = index.as_raw_fd();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address = unsafe { libc::mmap(null, COPIED_AT, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(IndexMap { address, file: Arc::clone(index) })
    }

    fn header(&self) -> Option<IndexHeader> {
        let mut bytes = [0; COPIED_AT];
        let got = super::files::read_full(&self.file, 0, &mut bytes).unwrap_or(0);
        IndexHeader::parse(bytes.get(..got)?)
    }
}

impl Drop for IndexMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.address, COPIED_AT) };
    }
}

/// Reads headers; keeps its memory between two reads.
pub struct HeaderReader {
    /// None: the kernel has no such files; then each header is read by itself.
    memory: Option<File>,
    bytes: Vec<u8>,
}

impl HeaderReader {
    pub fn new() -> HeaderReader {
        // SAFETY: the name ends with a NUL.
        let fd = unsafe { libc::memfd_create(c"wal-index".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: a new descriptor, which no other code knows.
        let memory = (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) });
        HeaderReader { memory, bytes: Vec::new() }
    }

    /// One header for each map, in their order.
    pub fn read<'a>(
        &mut self,
        maps: impl Iterator<Item = &'a IndexMap> + Clone,
        headers: &mut Vec<Option<IndexHeader>>,
    ) {
        headers.clear();
        let Some(memory) = self.memory.as_ref().filter(|_| maps.clone().nth(FEW).is_some()) else {
            return headers.extend(maps.map(IndexMap::header));
        };
        let mut maps = maps.peekable();
        while maps.peek().is_some() {
            read_at_once(memory, &mut self.bytes, maps.by_ref().take(AT_ONCE), headers);
        }
    }
}

fn read_at_once<'a>(
    memory: &File,
    bytes: &mut Vec<u8>,
    maps: impl Iterator<Item = &'a IndexMap>,
    headers: &mut Vec<Option<IndexHeader>>,
) {
    let mut places = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: COPIED_AT }; AT_ONCE];
    let mut count = 0;
    for (place, map) in places.iter_mut().zip(maps) {
        place.iov_base = map.address;
        count += 1;
    }
    bytes.resize(AT_ONCE * COPIED_AT, 0);
    let mut places = places.get(..count).unwrap_or_default();
    while !places.is_empty() {
        let length = libc::c_int::try_from(places.len()).unwrap_or(0);
        // SAFETY: the kernel reads the mappings, which live as long as the maps. One that has lost its file
        // ends the call.
        let copied = unsafe { libc::pwritev(memory.as_raw_fd(), places.as_ptr(), length, 0) };
        let whole = usize::try_from(copied).unwrap_or(0) / COPIED_AT;
        let bytes = bytes.get_mut(..whole * COPIED_AT).unwrap_or_default();
        let read = memory.read_exact_at(bytes, 0).is_ok();
        headers.extend(bytes.chunks(COPIED_AT).map(|bytes| IndexHeader::parse(bytes).filter(|_| read)));
        if whole < places.len() {
            headers.push(None);
        }
        places = places.get(whole + 1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::index_header::INDEX_HEADER;
    use super::*;

    #[test]
    fn a_few_and_many_are_read_alike_and_a_truncated_one_has_no_header() {
        let directory = tempfile::tempdir().unwrap();
        let mut maps = Vec::new();
        let mut expected = Vec::new();
        for number in 0..2 * AT_ONCE + 3 {
            let header = [u8::try_from(number % 200 + 1).unwrap(); INDEX_HEADER];
            let path = directory.path().join(number.to_string());
            std::fs::write(&path, [header, header].concat()).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            maps.push(IndexMap::new(&Arc::new(file.try_clone().unwrap())).unwrap());
            let truncated = number % 7 == 1;
            if truncated {
                file.set_len(0).unwrap();
            }
            expected.push((!truncated).then(|| IndexHeader::parse(&header.repeat(2)).unwrap()));
        }
        let mut reader = HeaderReader::new();
        let mut headers = Vec::new();
        for count in [0, 1, FEW, FEW + 1, 10, AT_ONCE, AT_ONCE + 1, maps.len()] {
            reader.read(maps.iter().take(count), &mut headers);
            assert!(headers.iter().eq(expected.iter().take(count)), "{count}");
        }
    }
}
