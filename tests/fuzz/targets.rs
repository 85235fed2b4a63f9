//! What must hold for any bytes from outside, parser by parser. Used by the fuzzers of this directory and,
//! with a seeded mutator over the samples, by `tests/hostile/fuzz_replay.rs`. Each takes bytes and panics
//! when something does not hold.

use litevisor::testing::config::show::show;
use litevisor::testing::config::{Additions, Environment, Purpose, parse, replica_from_url};
use litevisor::testing::handover::{Answer, Claim, Epoch, Release};
use litevisor::testing::lineage::record::LocalState;
use litevisor::testing::ltx::{
    Decoder, Encoder, Event, FrameDecoder, FrameError, Header, LtxError, TRAILER_BYTES, Trailer,
};
use litevisor::testing::model::{PageNo, Txid, TxidRange};
use litevisor::testing::replica::{Listing, Target, plan};
use litevisor::testing::store::Object;
use litevisor::testing::store::layout::{Layout, Level};
use litevisor::testing::supervise::NotifyMessage;
use litevisor::testing::wal::format::Sums;
use litevisor::testing::wal::{Committed, Cursor, FRAME_HEADER, Fed, HEADER, Scanner, WalHeader, frame_size};
use std::ffi::OsString;
use std::path::Path;

pub type TargetFn = fn(&[u8]);

pub const ALL: [(&str, TargetFn); 11] = [
    ("wal", wal),
    ("wal_built", wal_built),
    ("ltx", ltx),
    ("ltx_head", ltx_head),
    ("lz4", lz4),
    ("state", state),
    ("owner", owner),
    ("config", config),
    ("url", url),
    ("listing", listing),
    ("notify", notify),
];

fn scan(bytes: &[u8], header: &WalHeader, from: Cursor) -> Committed {
    let mut scanner = Scanner::new(header, from, 0);
    let frame = frame_size(header.page_size) as usize;
    let mut rest = bytes.get(from.offset as usize..).unwrap_or_default().chunks_exact(frame);
    while rest.next().is_some_and(|frame| scanner.feed(frame) != Fed::End) {}
    scanner.finish()
}

/// A WAL: whatever is cut off or damaged behind a commit does not change what was committed before it, and a
/// scan that stops and goes on sees what one scan sees.
pub fn wal(data: &[u8]) {
    let Some(header) = WalHeader::parse(data) else { return };
    let start = Cursor::start(&header);
    let whole = scan(data, &header, start);
    let frame = frame_size(header.page_size);
    assert!(whole.cursor.offset <= data.len().max(HEADER as usize) as u64);
    assert_eq!((whole.cursor.offset - HEADER) % frame, 0, "a cursor stands between two frames");
    for (page, version) in &whole.pages {
        assert!(page.0 >= 1 && page.0 <= whole.commit, "page {} of {}", page.0, whole.commit);
        let end = version.at + u64::from(header.page_size.get());
        assert!(version.at >= HEADER + FRAME_HEADER as u64 && end <= whole.cursor.offset);
    }
    let committed = whole.cursor.offset as usize;
    assert_eq!(
        scan(&data[..committed.min(data.len())], &header, start),
        whole,
        "what is behind the last commit"
    );
    let cut = data.len() - data.len() / 3;
    let first = scan(&data[..cut], &header, start);
    assert!(first.cursor.offset <= whole.cursor.offset);
    assert_eq!(scan(data, &header, first.cursor).cursor, whole.cursor, "a scan that goes on");
}

/// The same, on a WAL whose frames carry the right checksums: the data says which pages and commits, and one
/// damage.
pub fn wal_built(data: &[u8]) {
    const PAGE: usize = 512;
    let [damage_low, damage_high, salt, rest @ ..] = data else { return };
    let word = |value: u32| value.to_be_bytes();
    let mut bytes = [0x377f_0682, 3_007_000, PAGE as u32, 0, u32::from(*salt), 7].map(word).concat();
    let mut sums = Sums(0, 0).over(&bytes, false);
    bytes.extend([sums.0, sums.1].map(word).concat());
    let mut commits = vec![HEADER];
    for pair in rest.chunks_exact(2).take(64) {
        let commit = if pair[0] & 0x80 != 0 { u32::from(pair[0] >> 3 & 7) + 1 } else { 0 };
        let head = [u32::from(pair[0] & 7) + 1, commit].map(word).concat();
        let page = [pair[1]; PAGE];
        sums = sums.over(&head, false).over(&page, false);
        bytes.extend(head);
        bytes.extend([u32::from(*salt), 7, sums.0, sums.1].map(word).concat());
        bytes.extend(page);
        if commit != 0 {
            commits.push(bytes.len() as u64);
        }
    }
    let header = WalHeader::parse(&bytes).expect("a sound header");
    let sound = scan(&bytes, &header, Cursor::start(&header));
    assert_eq!(commits.last(), Some(&sound.cursor.offset), "every commit is found");
    wal(&bytes);
    let at = usize::from(u16::from_be_bytes([*damage_high, *damage_low])) % bytes.len();
    bytes[at] ^= 0x20;
    wal(&bytes);
    if at >= HEADER as usize {
        let after = scan(&bytes, &header, Cursor::start(&header)).cursor.offset;
        let want = commits.iter().rev().find(|end| **end <= at as u64).copied().unwrap_or(HEADER);
        assert_eq!(after, want, "exactly the transactions before the damage at {at}");
    }
}

type Decoded = Result<(Header, Vec<(PageNo, Vec<u8>)>, Trailer), LtxError>;

fn decode(file: &[u8], step: usize) -> Decoded {
    let (mut decoder, mut pages) = (Decoder::default(), Vec::new());
    for mut chunk in file.chunks(step.max(1)) {
        while let Some(event) = decoder.next(&mut chunk)? {
            if let Event::Page(page, data) = event {
                pages.push((page, data.to_vec()));
            }
        }
    }
    let (header, trailer) = decoder.finish()?;
    Ok((header, pages, trailer))
}

/// An LTX file (with pages as blocks or as frames): the same for any chunking; what is accepted can be
/// written again and is then the same; it says of itself what its head and tail say alone.
pub fn ltx(data: &[u8]) {
    let Some((step, file)) = data.split_first() else { return };
    let whole = decode(file, file.len());
    assert_eq!(decode(file, usize::from(*step) + 1), whole, "in chunks of {}", usize::from(*step) + 1);
    let repaired;
    let (file, whole) = match whole {
        // Only the last field is wrong: what a fuzzer cannot guess is put right.
        Err(LtxError::FileChecksum { got, .. }) => {
            let body = file.len() - 8;
            repaired = [&file[..body], &got.to_be_bytes()].concat();
            (&repaired[..], decode(&repaired, repaired.len()))
        }
        whole => (file, whole),
    };
    let Ok((header, pages, trailer)) = whole else { return };
    assert_eq!(Header::from_start(file).as_ref(), Ok(&header));
    assert_eq!(Trailer::from_end(file), Ok(trailer));
    assert!(pages.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
    assert!(
        pages.iter().all(|(page, data)| page.0 <= header.commit && data.len() == header.page_size.bytes())
    );
    let plain = Header { pre_apply: None, ..header };
    let mut again = Vec::new();
    let mut encoder = Encoder::start(&plain, &mut again).expect("an accepted header can be written");
    for (page, data) in &pages {
        encoder.page(*page, data, &mut again).expect("an accepted page can be written");
    }
    encoder.finish(&mut again).expect("an accepted file is complete");
    let (header, same, _) = decode(&again, 4096).expect("ours");
    assert_eq!((header, same), (plain, pages));
}

/// An LZ4 frame of a Litestream 0.3 replica: the same for any chunking; it expands to no more than LZ4 can,
/// and no more than a block at a time.
pub fn lz4(data: &[u8]) {
    let Some((step, file)) = data.split_first() else { return };
    let unpack = |step: usize| {
        let (mut decoder, mut out, mut largest) = (FrameDecoder::default(), 0, 0);
        let mut sum = 0u64;
        for chunk in file.chunks(step.max(1)) {
            let taken = decoder.push(chunk, |bytes: &[u8]| {
                (out, largest) = (out + bytes.len(), largest.max(bytes.len()));
                sum = bytes.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                Ok::<(), FrameError>(())
            });
            if let Err(error) = taken {
                return (Err(error), out, largest, sum);
            }
        }
        (decoder.finish(), out, largest, sum)
    };
    let whole = unpack(file.len());
    let (done, out, largest, sum) = unpack(usize::from(*step) + 1);
    assert_eq!(
        (&done, out, largest, sum),
        (&whole.0, whole.1, whole.2, whole.3),
        "in chunks of {}",
        usize::from(*step) + 1
    );
    assert!(out <= file.len() * 255 + (4 << 20), "{} bytes became {out}", file.len());
    assert!(largest <= 4 << 20, "a block of {largest}");
}

/// Header and trailer alone: parse ∘ print = id.
pub fn ltx_head(data: &[u8]) {
    if let Ok(header) = Header::from_start(data)
        && header.pre_apply.is_none()
    {
        let bytes = header.encode().expect("an accepted header can be written");
        assert_eq!(Header::from_start(&bytes), Ok(header));
    }
    if let Ok(trailer) = Trailer::from_end(data) {
        assert_eq!(trailer.file.0.to_be_bytes(), data[data.len() - 8..]);
        assert_eq!(trailer.post_apply.to_be_bytes(), data[data.len() - TRAILER_BYTES..data.len() - 8]);
    }
}

/// The record beside a database: parse ∘ print = id.
pub fn state(data: &[u8]) {
    let Ok(state) = LocalState::parse(data) else { return };
    assert!(state.acked <= state.sent && state.node_id != 0);
    let text = state.to_text().expect("an accepted record can be written");
    assert_eq!(LocalState::parse(text.as_bytes()).expect("ours"), state);
}

/// The owner records of a hand-over: parse ∘ print = id, and a walk back over releases ends.
pub fn owner(data: &[u8]) {
    let epoch = Epoch::new(7).unwrap();
    if let Ok(claim) = Claim::parse(data, epoch) {
        let text = claim.to_text().expect("an accepted claim can be written");
        assert_eq!(Claim::parse(text.as_bytes(), epoch).expect("ours"), claim);
    }
    if let Ok(release) = Release::parse(data, epoch) {
        assert!(release.from.is_none_or(|from| from < epoch));
        // A later version's word for how it ended is not written by this one.
        let text = release.to_text().expect("an accepted release can be written");
        assert_eq!(Release::parse(text.as_bytes(), epoch).expect("ours").end, release.end);
    }
    if let Ok(answer) = Answer::parse(data, epoch) {
        let text = answer.to_text().expect("an accepted answer can be written");
        assert_eq!(Answer::parse(text.as_bytes(), epoch).expect("ours"), answer);
    }
}

const SECRET: &str = "Wr7kQz0Secret9x";

fn with_environment<T>(run: impl FnOnce(Environment<'_>) -> T) -> T {
    let env = |name: &str| match name {
        "KEY" | "AWS_SECRET_ACCESS_KEY" | "AWS_ACCESS_KEY_ID" => Some(OsString::from(SECRET)),
        "HOME" => Some(OsString::from("/root")),
        name if name.starts_with('A') => Some(OsString::from("a")),
        _ => None,
    };
    let read = |_: &Path| Ok(SECRET.as_bytes().to_vec());
    run(Environment { variable: &env, read: &read, working_dir: Path::new("/app") })
}

/// A configuration: accepted or refused with problems that name their place; no secret in what is printed.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.lines().count() + 1;
    for purpose in [Purpose::Check, Purpose::Databases] {
        let parsed = with_environment(|environment| {
            parse(
                Some((text, Path::new("/app/supervisor.toml"))),
                &Additions::default(),
                purpose,
                environment,
            )
        });
        match parsed {
            Ok(checked) => {
                let shown = show(&checked.config);
                // A value that is no secret's may hold whatever the text put there.
                assert!(
                    text.contains("${KEY") || text.contains(SECRET) || !shown.contains(SECRET),
                    "{shown}"
                );
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.is_empty());
                assert!(error.problems.iter().all(|problem| problem.location.line <= lines), "{told}");
                assert!(text.contains(SECRET) || !told.contains(SECRET), "{told}");
            }
        }
    }
}

/// A replica's URL: what is shown of it holds no user info, and an accepted one is accepted again as it is
/// shown.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    with_environment(|environment| {
        if let Ok(settings) = replica_from_url(text, environment) {
            assert!(!settings.url.is_empty());
            if settings.path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte)) {
                let again = replica_from_url(&settings.url, environment).expect("accepted as it is shown");
                assert_eq!(
                    (again.url, again.path, again.bucket),
                    (settings.url, settings.path, settings.bucket)
                );
            }
        }
        let with_secret = format!("s3://user:{SECRET}@{text}");
        match replica_from_url(&with_secret, environment) {
            Ok(settings) => assert!(!settings.url.contains(SECRET), "{}", settings.url),
            Err(error) => assert!(text.contains(SECRET) || !error.to_string().contains(SECRET), "{error}"),
        }
    });
}

/// A listing: keys are parsed as they are printed, and whatever is listed, a plan is one chain without gap or
/// detour.
pub fn listing(data: &[u8]) {
    for layout in [Layout::S3, Layout::Directory] {
        for key in String::from_utf8_lossy(data).lines() {
            if let Some((level, range)) = layout.parse(key) {
                assert_eq!(layout.key(level, range), key);
            }
        }
        let objects: Vec<Object> = data
            .chunks_exact(4)
            .take(64)
            .filter_map(|item| {
                let min = if item[0] & 0x80 != 0 { 1 } else { u64::from(item[1] % 32) + 1 };
                let range = TxidRange::new(Txid(min), Txid(min + u64::from(item[2] % 16)))?;
                let key = layout.key(Level(item[0] % 10), range);
                Some(Object { key, size: 200, modified_ms: i64::from(item[3]) })
            })
            .collect();
        let files = Listing::of(layout, &objects).files;
        assert_eq!(files.len(), objects.len());
        let newest = files.iter().map(|file| file.range.max).max().unwrap_or(Txid::NONE);
        for target in std::iter::once(Target::Latest).chain((1..50).map(|txid| Target::Txid(Txid(txid)))) {
            let Ok(plan) = plan(&files, target) else { continue };
            assert_eq!(plan.files.first().map(|file| file.range.min), Some(Txid::FIRST), "{plan:?}");
            for pair in plan.files.windows(2) {
                let (before, after) = (pair[0].range, pair[1].range);
                assert!(
                    after.min <= before.max.next() && after.max > before.max,
                    "a gap or a detour: {plan:?}"
                );
            }
            assert_eq!(plan.files.last().map(|file| file.range.max), Some(plan.end));
            match target {
                Target::Txid(txid) => assert_eq!(plan.end, txid),
                _ => assert_eq!(plan.end, newest, "the latest is the newest that is listed"),
            }
        }
    }
}

/// What an app says by sd_notify(3): a status is one bounded line, so it can be passed on; what is said twice
/// is said; and an assignment counts only as a whole line.
pub fn notify(data: &[u8]) {
    let message = NotifyMessage::parse(data);
    if let Some(status) = &message.status {
        assert!(status.len() <= 200 && !status.contains(char::is_control), "{status:?}");
        let again = NotifyMessage::parse(format!("STATUS={status}").as_bytes());
        let passed_on = NotifyMessage { status: again.status.clone(), ..NotifyMessage::default() };
        assert_eq!(again, passed_on, "a status assigns nothing else");
    }
    assert_eq!(NotifyMessage::parse(&[data, b"\n", data].concat()), message);
    let whole = |word: &[u8]| data.split(|byte| matches!(byte, b'\n' | 0)).any(|line| line == word);
    assert_eq!((message.ready, message.watchdog), (whole(b"READY=1"), whole(b"WATCHDOG=1")));
}
