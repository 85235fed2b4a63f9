//! Packets as in the draft, and invalid bytes.

use super::*;
use proptest::prelude::*;

/// One packet that arrives in pieces of `size`.
fn arrive(packet: &[u8], size: usize) -> Bytes {
    let mut incoming = Incoming::default();
    let mut whole = None;
    for piece in packet.chunks(size) {
        assert_eq!(whole, None);
        incoming.push(piece);
        whole = incoming.next().unwrap();
    }
    whole.unwrap()
}

fn packet(kind: u8, id: u32, fields: impl Fn(Packet) -> Packet) -> Bytes {
    arrive(&fields(Packet::new(kind, id)).done(), 3)
}

#[test]
fn requests_are_as_the_draft_has_them() {
    let request = Request::Write { handle: b"h", at: 258, data: b"xyz" };
    assert_eq!(request.packet(7), b"\0\0\0\x19\x06\0\0\0\x07\0\0\0\x01h\0\0\0\0\0\0\x01\x02\0\0\0\x03xyz");
    let request = Request::SetTime { path: "/a", seconds: 9 };
    assert_eq!(request.packet(1), b"\0\0\0\x17\x09\0\0\0\x01\0\0\0\x02/a\0\0\0\x08\0\0\0\x09\0\0\0\x09");
    assert_eq!(hello(), b"\0\0\0\x05\x01\0\0\0\x03");
    let link = Request::Link { from: "a", to: "b" }.packet(2);
    assert!(link.ends_with(b"hardlink@openssh.com\0\0\0\x01a\0\0\0\x01b"), "{link:?}");
}

#[test]
fn the_greeting_tells_what_is_offered() {
    let greeting =
        packet(2, 3, |p| p.text("fsync@openssh.com").text("1").text("x@y").text("").text(LINK).text("1"));
    assert_eq!(extensions(greeting).unwrap(), Extensions { sync: true, link: true, ..Extensions::default() });
    assert_eq!(extensions(packet(2, 3, |p| p)).unwrap(), Extensions::default());
    assert!(extensions(packet(2, 2, |p| p)).unwrap_err().contains("version 2"));
    assert!(extensions(packet(101, 3, |p| p)).unwrap_err().contains("no SFTP"));
}

#[test]
fn replies_are_read() {
    let status = packet(101, 5, |p| p.number(4).text("Failure").text("en"));
    assert_eq!(reply(status), Some((5, Reply::Status { code: 4, message: "Failure".to_owned() })));
    let bare = packet(101, 5, |p| p.number(2));
    assert_eq!(reply(bare), Some((5, Reply::Status { code: 2, message: String::new() })));
    // A handle is any bytes.
    let handle = packet(102, 6, |p| p.bytes(&[0, 200, 255]));
    assert_eq!(reply(handle), Some((6, Reply::Handle(Bytes::from_static(&[0, 200, 255])))));
    let all = |p: Packet| p.number(0x8000_000f).long(77).long(0).number(0o100_600).number(1).number(2);
    let more = packet(105, 7, |p| all(p).number(1).text("a").text("b"));
    let found = Attributes { size: Some(77), mode: Some(0o100_600), modified: Some(2) };
    assert_eq!(reply(more), Some((7, Reply::Attributes(found.clone()))));
    let names = packet(104, 8, |p| all(p.number(1).text("n").text("-rw n")).number(0));
    let entry = DirectoryEntry { name: Bytes::from("n"), line: Bytes::from("-rw n"), attributes: found };
    assert_eq!(reply(names), Some((8, Reply::Names(vec![entry]))));
}

#[test]
fn nonsense_is_no_reply() {
    for bad in [
        packet(104, 1, |p| p.number(u32::MAX)),
        packet(102, 1, |p| p.number(9)),
        packet(105, 1, |p| p.number(0xffff_ffff)),
        packet(99, 1, |p| p),
    ] {
        assert_eq!(reply(bad), None);
    }
    let mut text = Incoming::default();
    text.push(b"Welcome to this machine");
    assert!(text.next().is_err());
}

#[test]
fn a_full_disk_is_seen() {
    let space = |left: u64, files_left: u64| {
        let fields = [4096, 4096, 1000, left, left, 50, files_left, files_left, 0, 0, 255];
        is_full(fields.iter().flat_map(|field: &u64| field.to_be_bytes()).collect())
    };
    assert_eq!(space(10, 10), Some(false));
    assert_eq!((space(0, 10), space(10, 0)), (Some(true), Some(true)));
    assert_eq!(is_full(Bytes::from_static(b"short")), None);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let mut incoming = Incoming::default();
        for piece in bytes.chunks(size) {
            incoming.push(piece);
            while let Ok(Some(packet)) = incoming.next() {
                let _ = reply(packet);
            }
        }
        let _ = (reply(bytes.clone().into()), extensions(bytes.clone().into()), is_full(bytes.into()));
    }
}
