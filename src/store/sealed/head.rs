//! The header of an age file, version 1 (https://c2sp.org/age): text lines with the file's key, wrapped for
//! each recipient, and a checksum. Pure. A header has at most 8 KiB, so that no object makes a reader work
//! long.

use super::payload::{FileKey, derive};
use super::problem::Problem;
use age_core::format::Stanza;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

const VERSION: &str = "age-encryption.org/v1\n";
/// How every age file begins, of whatever version.
pub const MAGIC: &[u8] = b"age-encryption.org/";
/// Bytes of a header, at most.
pub const MOST_BYTES: usize = 8 << 10;
/// A header with one X25519 recipient, which is the least.
pub const LEAST_BYTES: usize = 168;
/// Bytes of a file's key.
pub const FILE_KEY: usize = 16;
const COLUMNS: usize = 64;

pub struct Head {
    pub stanzas: Vec<Stanza>,
    /// Bytes of the header.
    pub bytes: usize,
    /// The bytes that the checksum covers.
    signed: usize,
    mac: Vec<u8>,
}

pub enum Found {
    Head(Head),
    /// More bytes are needed.
    Short,
    /// This is no age file.
    Plain,
}

/// What `bytes`, the first ones of an object, begin with.
pub fn find(bytes: &[u8]) -> Result<Found, Problem> {
    let same = MAGIC.iter().zip(bytes).all(|(a, b)| a == b);
    if !same {
        return Ok(Found::Plain);
    }
    match parse(bytes.get(..MOST_BYTES).unwrap_or(bytes)) {
        Err(Incomplete) if bytes.len() >= MOST_BYTES => Err(Problem::Head("it has more than 8 KiB")),
        Err(Incomplete) => Ok(Found::Short),
        Ok(head) => head.map(Found::Head),
    }
}

/// The header ends beyond the bytes that are there.
struct Incomplete;

fn parse(bytes: &[u8]) -> Result<Result<Head, Problem>, Incomplete> {
    let mut lines = Lines { bytes, at: 0 };
    if Some(lines.next()?) != VERSION.strip_suffix('\n').map(str::as_bytes) {
        return Ok(Err(Problem::Head("it is not of version 1")));
    }
    let mut stanzas: Vec<Stanza> = Vec::new();
    loop {
        let begin = lines.at;
        let Ok(line) = std::str::from_utf8(lines.next()?) else {
            return Ok(Err(Problem::Head("it is no text")));
        };
        if let Some(mac) = line.strip_prefix("--- ") {
            let Ok(mac) = STANDARD_NO_PAD.decode(mac) else {
                return Ok(Err(Problem::Head("its checksum is no base64")));
            };
            if stanzas.is_empty() {
                return Ok(Err(Problem::Head("it has no recipient")));
            }
            return Ok(Ok(Head { stanzas, bytes: lines.at, signed: begin + 3, mac }));
        }
        let Some(words) = line.strip_prefix("-> ") else {
            return Ok(Err(Problem::Head("a line begins with neither -> nor ---")));
        };
        let mut words = words.split(' ').map(str::to_owned);
        let tag = words.next().unwrap_or_default();
        let args = words.collect();
        match lines.body()? {
            Some(body) => stanzas.push(Stanza { tag, args, body }),
            None => return Ok(Err(Problem::Head("the body of a recipient is no base64"))),
        }
    }
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Incomplete> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Incomplete)?;
        self.at += end + 1;
        rest.get(..end).ok_or(Incomplete)
    }

    /// Lines of 64 columns, and a shorter one.
    fn body(&mut self) -> Result<Option<Vec<u8>>, Incomplete> {
        let mut text = Vec::new();
        loop {
            let line = self.next()?;
            text.extend_from_slice(line);
            match line.len() {
                COLUMNS => {}
                0..COLUMNS => return Ok(STANDARD_NO_PAD.decode(&text).ok()),
                _ => return Ok(None),
            }
        }
    }
}

impl Head {
    /// Whether `bytes`, which the header was read from, are what the owner of the file's key wrote.
    pub fn verify(&self, bytes: &[u8], file_key: &FileKey) -> Result<(), Problem> {
        let signed = bytes.get(..self.signed).unwrap_or_default();
        hmac::verify(&mac_key(file_key)?, signed, &self.mac).map_err(|_| Problem::Mac)
    }
}

/// The header of a new file.
pub fn write(stanzas: &[Stanza], file_key: &FileKey) -> Result<Vec<u8>, Problem> {
    let mut text = VERSION.to_owned();
    for Stanza { tag, args, body } in stanzas {
        text.push_str("-> ");
        text.push_str(tag);
        for arg in args {
            text.push(' ');
            text.push_str(arg);
        }
        text.push('\n');
        let body = STANDARD_NO_PAD.encode(body);
        let mut rest = body.as_str();
        while let Some((line, more)) = rest.split_at_checked(COLUMNS) {
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("---");
    let mac = hmac::sign(&mac_key(file_key)?, text.as_bytes());
    text.push(' ');
    text.push_str(&STANDARD_NO_PAD.encode(mac));
    text.push('\n');
    Ok(text.into_bytes())
}

fn mac_key(file_key: &FileKey) -> Result<hmac::Key, Problem> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &derive(file_key, &[], b"header")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(tag: &str, args: &[&str], body: usize) -> Stanza {
        Stanza {
            tag: tag.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            body: vec![7; body],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let key = FileKey([3; FILE_KEY]);
        for stanzas in [
            vec![stanza("X25519", &["abc"], 32)],
            vec![
                stanza("a", &[], 0),
                stanza("b", &["x", "y"], 48),
                stanza("c", &["z"], 49),
                stanza("d", &[], 200),
            ],
        ] {
            let bytes = write(&stanzas, &key).unwrap();
            for cut in 0..bytes.len() {
                assert!(matches!(find(&bytes[..cut]), Ok(Found::Short)), "{cut}");
            }
            let mut longer = bytes.clone();
            longer.extend([0; 100]);
            let Ok(Found::Head(head)) = find(&longer) else { panic!("no header") };
            assert_eq!((head.stanzas == stanzas, head.bytes), (true, bytes.len()));
            assert_eq!(head.verify(&longer, &key), Ok(()));
            assert_eq!(head.verify(&longer, &FileKey([4; FILE_KEY])), Err(Problem::Mac));
            longer[25] ^= 1;
            assert_eq!(head.verify(&longer, &key), Err(Problem::Mac));
        }
    }

    #[test]
    fn other_beginnings() {
        assert!(matches!(find(b"LTX1"), Ok(Found::Plain)));
        assert!(matches!(find(b"age-encryption.org/v1"), Ok(Found::Short)));
        let endless = [VERSION.as_bytes(), &b"-> X25519 a\n".repeat(1000)].concat();
        let unended = [VERSION.as_bytes(), &vec![b'a'; 1 << 20]].concat();
        for (bytes, said) in [
            (b"age-encryption.org/v2\n".as_slice(), "not of version 1"),
            (b"age-encryption.org/v1\n-> a\n\xff\n", "no base64"),
            (b"age-encryption.org/v1\n--- AAAA\n", "no recipient"),
            (b"age-encryption.org/v1\nx\n", "neither"),
            (b"age-encryption.org/v1\n-> a\n!\n", "no base64"),
            (&endless, "no base64"),
            (&unended, "more than 8 KiB"),
        ] {
            let told = find(bytes).map(|_| ()).unwrap_err();
            assert!(matches!(told, Problem::Head(what) if what.contains(said)), "{told:?}");
        }
    }
}
