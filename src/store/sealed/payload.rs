//! The content of an age file: chunks of 64 KiB, each encrypted on its own with ChaCha20-Poly1305 under its
//! number and whether it is the last one. So a range of the content is a range of the file. Bytes in, bytes
//! out: pure but for random keys.

use super::problem::Problem;
use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use std::ops::Range;
use std::sync::Arc;

pub const CHUNK: u64 = 64 << 10;
const TAG: u64 = 16;
/// A chunk in the file.
const SEALED: u64 = CHUNK + TAG;
/// Between the header and the first chunk: what the key of the content is derived with.
pub const NONCE: usize = 16;

/// Of one file, wrapped in its header.
pub struct FileKey(pub [u8; 16]);

/// The key of one file's content.
#[derive(Clone)]
pub struct ContentKey(Arc<LessSafeKey>);

pub fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Problem::Cipher)?;
    Ok(bytes)
}

/// HKDF-SHA-256.
pub fn derive(file_key: &FileKey, salt: &[u8], info: &[u8]) -> Result<[u8; 32], Problem> {
    let info = [info];
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&file_key.0);
    let mut bytes = [0; 32];
    let derived = key.expand(&info, hkdf::HKDF_SHA256).and_then(|key| key.fill(&mut bytes));
    derived.map(|()| bytes).map_err(|_| Problem::Cipher)
}

impl ContentKey {
    pub fn new(file_key: &FileKey, nonce: &[u8]) -> Result<ContentKey, Problem> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derive(file_key, nonce, b"payload")?);
        key.map(|key| ContentKey(Arc::new(LessSafeKey::new(key)))).map_err(|_| Problem::Cipher)
    }
}

/// Eleven bytes of number, and one that says whether the chunk is the last.
fn nonce(index: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let number = index.to_be_bytes();
    bytes.iter_mut().skip(3).zip(number).for_each(|(to, from)| *to = from);
    if let Some(flag) = bytes.last_mut() {
        *flag = u8::from(last);
    }
    Nonce::assume_unique_for_key(bytes)
}

/// The bytes of the file, behind its header and nonce, that hold `want` of the content: whole chunks, and one
/// byte more, by which the last of them is known not to be the file's last.
pub fn sealed_range(want: &Range<u64>) -> Range<u64> {
    let end = want.end.div_ceil(CHUNK).saturating_mul(SEALED).saturating_add(1);
    (want.start / CHUNK).saturating_mul(SEALED)..end
}

/// Bytes of the content of a file with so many, if its header has the least that it can have: never too few.
pub fn content_bytes(file: u64, header: u64) -> u64 {
    let sealed = file.saturating_sub(header + NONCE as u64);
    sealed.saturating_sub(sealed.div_ceil(SEALED) * TAG)
}

/// Decrypts chunks as their bytes arrive.
pub struct Opener {
    key: ContentKey,
    /// The number of the next chunk.
    next: u64,
    first: u64,
    /// Of the next chunk, as far as it has come.
    held: Vec<u8>,
    want: Range<u64>,
    done: bool,
}

impl Opener {
    /// The bytes begin where `sealed_range(want)` does.
    pub fn new(key: ContentKey, want: Range<u64>) -> Opener {
        let first = want.start / CHUNK;
        Opener { key, next: first, first, held: Vec::new(), want, done: false }
    }

    pub fn feed(&mut self, mut bytes: &[u8], take: &dyn Fn(Bytes)) -> Result<(), Problem> {
        while !bytes.is_empty() && !self.done {
            if self.held.len() as u64 == SEALED {
                self.open(false, take)?;
                continue;
            }
            if self.held.capacity() == 0 {
                self.held.reserve_exact(bytes.len().min(SEALED as usize));
            }
            let room = SEALED as usize - self.held.len();
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.held.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    /// There are no more bytes.
    pub fn finish(&mut self, take: &dyn Fn(Bytes)) -> Result<(), Problem> {
        match (self.done, self.held.is_empty()) {
            (true, _) => Ok(()),
            (false, false) => self.open(true, take),
            // The content ends before the range begins.
            (false, true) if self.next == self.first && self.first > 0 => Ok(()),
            (false, true) => Err(Problem::Truncated),
        }
    }

    fn open(&mut self, last: bool, take: &dyn Fn(Bytes)) -> Result<(), Problem> {
        let mut chunk = std::mem::take(&mut self.held);
        let opened = self.key.0.open_in_place(nonce(self.next, last), Aad::empty(), &mut chunk);
        let length = match opened {
            Ok(opened) => opened.len(),
            Err(_) if last => return Err(self.cut_or_changed(&chunk)),
            Err(_) => return Err(Problem::Chunk(self.next)),
        };
        if length == 0 && self.next > 0 {
            return Err(Problem::Chunk(self.next));
        }
        chunk.truncate(length);
        let begin = self.next * CHUNK;
        let within = |at: u64| usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX).min(length);
        let (from, to) = (within(self.want.start), within(self.want.end));
        if from < to {
            take(Bytes::from(chunk).slice(from..to));
        }
        self.next += 1;
        self.done = self.next.saturating_mul(CHUNK) >= self.want.end;
        Ok(())
    }

    /// A file that ends behind a whole chunk that is not its last.
    fn cut_or_changed(&self, chunk: &[u8]) -> Problem {
        if chunk.len() as u64 == SEALED { Problem::Truncated } else { Problem::Chunk(self.next) }
    }
}

/// Encrypts content as it comes.
pub struct Sealer {
    key: ContentKey,
    next: u64,
    held: Vec<u8>,
}

impl Sealer {
    pub fn new(key: ContentKey) -> Sealer {
        Sealer { key, next: 0, held: Vec::new() }
    }

    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
        out.reserve(bytes.len() + bytes.len() / 1024 + TAG as usize);
        while !bytes.is_empty() {
            if self.held.len() as u64 == CHUNK {
                self.seal(false, out)?;
            }
            let room = CHUNK as usize - self.held.len();
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.held.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Problem> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
        let nonce = nonce(self.next, last);
        let tag = self.key.0.seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.held);
        let tag = tag.map_err(|_| Problem::Cipher)?;
        out.extend_from_slice(&self.held);
        out.extend_from_slice(tag.as_ref());
        self.held.clear();
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_chunk_is_a_whole_file_or_none_of_it() {
        let key = || ContentKey::new(&FileKey([7; 16]), &[8; NONCE]).unwrap();
        let read = |file: &[u8]| {
            let mut opener = Opener::new(key(), 0..u64::MAX);
            opener.feed(file, &|_| {}).and_then(|()| opener.finish(&|_| {}))
        };
        let mut empty = Vec::new();
        Sealer::new(key()).finish(&mut empty).unwrap();
        assert_eq!(read(&empty), Ok(()));
        let (mut sealer, mut file) = (Sealer::new(key()), Vec::new());
        sealer.push(&vec![5; CHUNK as usize], &mut file).unwrap();
        sealer.seal(false, &mut file).unwrap();
        sealer.finish(&mut file).unwrap();
        assert_eq!(read(&file), Err(Problem::Chunk(1)));
    }
}
