//! The packets of SFTP version 3: writes requests, reads replies. Pure. Lengths and counts of the other side
//! are checked; handles and names are bytes.

use bytes::{Buf, Bytes, BytesMut};

/// The version that every server speaks; later ones were never finished.
const VERSION: u32 = 3;
/// The longest reply that makes sense is one of 100 names.
const LONGEST: usize = 1 << 20;

pub(super) const READ: u32 = 0x01;
/// Write, create, and refuse what is there.
pub(super) const WRITE_NEW: u32 = 0x02 | 0x08 | 0x20;

/// Codes of a `Status`.
pub(super) const OK: u32 = 0;
pub(super) const END: u32 = 1;
pub(super) const ABSENT: u32 = 2;
pub(super) const FORBIDDEN: u32 = 3;
pub(super) const FAILURE: u32 = 4;
pub(super) const NO_CONNECTION: u32 = 6;
pub(super) const CONNECTION_LOST: u32 = 7;
pub(super) const UNSUPPORTED: u32 = 8;

const HAS_SIZE: u32 = 0x01;
const HAS_OWNER: u32 = 0x02;
const HAS_MODE: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;
const HAS_MORE: u32 = 0x8000_0000;

pub(super) enum Request<'a> {
    Open {
        path: &'a str,
        flags: u32,
        mode: u32,
    },
    Close(&'a [u8]),
    Read {
        handle: &'a [u8],
        at: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        at: u64,
        data: &'a [u8],
    },
    /// Without following a link.
    LinkStat(&'a str),
    HandleStat(&'a [u8]),
    Stat(&'a str),
    SetTime {
        path: &'a str,
        seconds: u32,
    },
    SetHandleTime {
        handle: &'a [u8],
        seconds: u32,
    },
    OpenDirectory(&'a str),
    ReadDirectory(&'a [u8]),
    Remove(&'a str),
    MakeDirectory {
        path: &'a str,
        mode: u32,
    },
    Rename {
        from: &'a str,
        to: &'a str,
    },
    /// A request of OpenSSH's, to be sent only when it was offered.
    RenameOver {
        from: &'a str,
        to: &'a str,
    },
    Link {
        from: &'a str,
        to: &'a str,
    },
    Sync(&'a [u8]),
    Space(&'a str),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub size: Option<u64>,
    pub mode: Option<u32>,
    /// Seconds since the Unix epoch.
    pub modified: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    pub name: Bytes,
    /// As `ls -l` has it: where the attributes lack the mode, the first letter tells the type.
    pub line: Bytes,
    pub attributes: Attributes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<DirectoryEntry>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// What the server can do beyond version 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub rename_over: bool,
    pub link: bool,
    pub sync: bool,
    pub space: bool,
}

impl Request<'_> {
    pub(super) fn packet(&self, id: u32) -> Vec<u8> {
        match *self {
            Request::Open { path, flags, mode } => {
                Packet::new(3, id).text(path).number(flags).number(HAS_MODE).number(mode).done()
            }
            Request::Close(handle) => Packet::new(4, id).bytes(handle).done(),
            Request::Read { handle, at, length } => {
                Packet::new(5, id).bytes(handle).long(at).number(length).done()
            }
            Request::Write { handle, at, data } => {
                Packet::new(6, id).bytes(handle).long(at).bytes(data).done()
            }
            Request::LinkStat(path) => Packet::new(7, id).text(path).done(),
            Request::HandleStat(handle) => Packet::new(8, id).bytes(handle).done(),
            Request::SetTime { path, seconds } => Packet::new(9, id).text(path).times(seconds).done(),
            Request::SetHandleTime { handle, seconds } => {
                Packet::new(10, id).bytes(handle).times(seconds).done()
            }
            Request::OpenDirectory(path) => Packet::new(11, id).text(path).done(),
            Request::ReadDirectory(handle) => Packet::new(12, id).bytes(handle).done(),
            Request::Remove(path) => Packet::new(13, id).text(path).done(),
            Request::MakeDirectory { path, mode } => {
                Packet::new(14, id).text(path).number(HAS_MODE).number(mode).done()
            }
            Request::Stat(path) => Packet::new(17, id).text(path).done(),
            Request::Rename { from, to } => Packet::new(18, id).text(from).text(to).done(),
            Request::RenameOver { from, to } => Packet::extended(id, RENAME_OVER).text(from).text(to).done(),
            Request::Link { from, to } => Packet::extended(id, LINK).text(from).text(to).done(),
            Request::Sync(handle) => Packet::extended(id, SYNC).bytes(handle).done(),
            Request::Space(path) => Packet::extended(id, SPACE).text(path).done(),
        }
    }
}

const RENAME_OVER: &str = "posix-rename@openssh.com";
const LINK: &str = "hardlink@openssh.com";
const SYNC: &str = "fsync@openssh.com";
const SPACE: &str = "statvfs@openssh.com";

/// The first packet of a session.
pub(super) fn hello() -> Vec<u8> {
    // It has the version where all others have their number.
    Packet::new(1, VERSION).done()
}

/// The answer to `hello`. The error is the rest of a sentence about the server.
pub(super) fn extensions(mut packet: Bytes) -> Result<Extensions, String> {
    let (Some(2), Some(version)) = (byte(&mut packet), number(&mut packet)) else {
        return Err("answers with something that is no SFTP".to_owned());
    };
    if version < VERSION {
        return Err(format!("speaks version {version} of SFTP only"));
    }
    let mut extensions = Extensions::default();
    while let (Some(name), Some(_)) = (string(&mut packet), string(&mut packet)) {
        match std::str::from_utf8(&name) {
            Ok(RENAME_OVER) => extensions.rename_over = true,
            Ok(LINK) => extensions.link = true,
            Ok(SYNC) => extensions.sync = true,
            Ok(SPACE) => extensions.space = true,
            _ => {}
        }
    }
    Ok(extensions)
}

/// The number of the request, and the reply to it. None for what makes no sense.
pub(super) fn reply(mut packet: Bytes) -> Option<(u32, Reply)> {
    let kind = byte(&mut packet)?;
    let id = number(&mut packet)?;
    let reply = match kind {
        101 => {
            let code = number(&mut packet)?;
            // Older servers send no text.
            let message = string(&mut packet).unwrap_or_default();
            Reply::Status { code, message: String::from_utf8_lossy(&message).into_owned() }
        }
        102 => Reply::Handle(string(&mut packet)?),
        103 => Reply::Data(string(&mut packet)?),
        104 => Reply::Names(names(packet)?),
        105 => Reply::Attributes(attributes(&mut packet)?),
        201 => Reply::Extended(packet),
        _ => return None,
    };
    Some((id, reply))
}

fn names(mut packet: Bytes) -> Option<Vec<DirectoryEntry>> {
    let count = number(&mut packet)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let name = string(&mut packet)?;
        let line = string(&mut packet)?;
        entries.push(DirectoryEntry { name, line, attributes: attributes(&mut packet)? });
    }
    Some(entries)
}

fn attributes(packet: &mut Bytes) -> Option<Attributes> {
    let flags = number(packet)?;
    let has = |flag| flags & flag != 0;
    let mut found = Attributes::default();
    if has(HAS_SIZE) {
        found.size = Some(packet.try_get_u64().ok()?);
    }
    if has(HAS_OWNER) {
        packet.try_get_u64().ok()?;
    }
    if has(HAS_MODE) {
        found.mode = Some(number(packet)?);
    }
    if has(HAS_TIMES) {
        number(packet)?;
        found.modified = Some(number(packet)?);
    }
    if has(HAS_MORE) {
        for _ in 0..number(packet)? {
            string(packet)?;
            string(packet)?;
        }
    }
    Some(found)
}

/// What an answer to `Space` says: neither a block nor a file is left for the user. None for what makes no
/// sense.
pub(super) fn is_full(mut packet: Bytes) -> Option<bool> {
    let mut fields = [0; 8];
    for field in &mut fields {
        *field = packet.try_get_u64().ok()?;
    }
    let [_, _, blocks, _, blocks_left, files, _, files_left] = fields;
    Some(blocks > 0 && blocks_left == 0 || files > 0 && files_left == 0)
}

/// What has arrived, cut into packets.
#[derive(Default)]
pub(super) struct Incoming(BytesMut);

impl Incoming {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole packet without its length. An error when this cannot be SFTP.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(length) = self.0.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
        else {
            return Ok(None);
        };
        if !(5..=LONGEST).contains(&length) {
            return Err("something that is no SFTP; does a script print text at login?");
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        self.0.advance(4);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

fn byte(packet: &mut Bytes) -> Option<u8> {
    packet.try_get_u8().ok()
}

fn number(packet: &mut Bytes) -> Option<u32> {
    packet.try_get_u32().ok()
}

fn string(packet: &mut Bytes) -> Option<Bytes> {
    let length = number(packet)? as usize;
    (length <= packet.len()).then(|| packet.split_to(length))
}

/// A packet being written, its length in front.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8, id: u32) -> Packet {
        Packet(vec![0, 0, 0, 0, kind]).number(id)
    }

    fn extended(id: u32, name: &str) -> Packet {
        Packet::new(200, id).text(name)
    }

    fn number(mut self, number: u32) -> Packet {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn long(mut self, number: u64) -> Packet {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Packet {
        self.0.reserve(4 + bytes.len());
        self = self.number(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Packet {
        self.bytes(text.as_bytes())
    }

    fn times(self, seconds: u32) -> Packet {
        self.number(HAS_TIMES).number(seconds).number(seconds)
    }

    fn done(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        if let Some(first) = self.0.first_chunk_mut::<4>() {
            *first = length.to_be_bytes();
        }
        self.0
    }
}

#[cfg(test)]
mod tests;
