//! A merge does what its inputs do one after the other; what Litestream merged, we merge to the same; what is
//! not sound is refused.

use super::*;
use crate::model::{DbChecksum, PageSize, Txid};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Pages = BTreeMap<u32, Vec<u8>>;

fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(Txid(min), Txid(max)).unwrap()
}

fn encode(header: &Header, pages: &Pages) -> Bytes {
    let mut out = Vec::new();
    let mut encoder = Encoder::start(header, &mut out).unwrap();
    for (page, data) in pages {
        encoder.page(PageNo(*page), data, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out.into()
}

fn decode(mut file: &[u8]) -> Result<(Header, Pages), LtxError> {
    let (mut decoder, mut pages) = (Decoder::default(), Pages::new());
    while let Some(event) = decoder.next(&mut file)? {
        if let Event::Page(page, data) = event {
            pages.insert(page.0, data.to_vec());
        }
    }
    decoder.finish().map(|(header, _)| (header, pages))
}

/// Merges files, fed and drained in small parts.
fn merge(files: &[(TxidRange, Bytes)], chunk: usize) -> Result<(Header, Bytes), MergeError> {
    let ranges: Vec<_> = files.iter().map(|(range, _)| *range).collect();
    let mut rest: Vec<Bytes> = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    let mut merge = Merge::new(&ranges, 700)?;
    let (mut head, mut out) = (None, Vec::new());
    loop {
        match merge.step()? {
            Step::Feed(input) => {
                let rest = &mut rest[input];
                let part = rest.split_to(chunk.min(rest.len()));
                let last = rest.is_empty();
                merge.feed(input, part, last);
            }
            Step::Head(header) => assert!(head.replace(header).is_none(), "one header"),
            Step::Piece(piece) => out.extend_from_slice(&piece),
            Step::End(checksum) => {
                let (header, _) = decode(&out).expect("the merged file is sound");
                assert_eq!(super::super::Trailer::from_end(&out).unwrap().file, checksum);
                assert_eq!(Some(&header), head.as_ref(), "what was announced is what was written");
                return Ok((header, out.into()));
            }
        }
    }
}

/// One transaction of a made-up history: the database's new size, and pages that it writes below that, with a
/// seed.
type Write = (u32, Vec<u32>, u8);

fn histories() -> impl Strategy<Value = (Vec<Write>, Vec<usize>, usize)> {
    let write = (1..12u32, prop::collection::vec(1..12u32, 0..5), any::<u8>());
    (prop::collection::vec(write, 1..10), prop::collection::vec(1..4usize, 1..10), 1..600usize)
}

/// A file per transaction, and the database after each. Pages that a growing database gains are written, as
/// SQLite does.
fn files_of(history: &[Write], first: u64) -> (Vec<(TxidRange, Bytes)>, Vec<Pages>) {
    let (mut database, mut files, mut states) = (Pages::new(), Vec::new(), Vec::new());
    for (index, (commit, written, seed)) in history.iter().enumerate() {
        let before = database.len() as u32;
        let grown = before + 1..=*commit;
        let pages: Pages = written
            .iter()
            .copied()
            .chain(grown)
            .filter(|page| page <= commit)
            .map(|page| (page, vec![seed.wrapping_add(page as u8); 512]))
            .collect();
        let txid = Txid(first + index as u64);
        let mut header =
            Header::new(PageSize::new(512).unwrap(), *commit, TxidRange::single(txid), txid.0 as i64);
        (header.node_id, header.wal_offset, header.salt1) = (u64::from(*seed), 32, 9);
        header.db_checksum = DbChecksum::from_header(1 << 63 | txid.0);
        database.extend(pages.clone());
        database.retain(|page, _| page <= commit);
        files.push((header.range, encode(&header, &pages)));
        states.push(database.clone());
    }
    (files, states)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Any files of a history, merged in groups, and the groups merged again: the same database in the end,
    /// and the header of its last file.
    #[test]
    fn a_merge_is_its_inputs_in_order((history, groups, chunk) in histories(), first in 1..3u64) {
        let (files, states) = files_of(&history, first);
        let (mut merged, mut rest) = (Vec::new(), &files[..]);
        for size in groups.iter().cycle() {
            let (group, others) = rest.split_at((*size).min(rest.len()));
            if group.is_empty() {
                break;
            }
            let (header, file) = merge(group, chunk).unwrap();
            merged.push((header.range, file));
            rest = others;
        }
        let (header, all) = merge(&merged, chunk).unwrap();
        let (last, _) = decode(&files.last().unwrap().1).unwrap();
        let expected = Header { range: range(first, first + history.len() as u64 - 1), wal_offset: 0, salt1: 0, ..last };
        prop_assert_eq!(header, expected);
        let (_, pages) = decode(&all).unwrap();
        prop_assert_eq!(&pages, states.last().unwrap(), "from nothing on, the merged file is the whole \
            database");
        // The second half on top of the state before it.
        let (_, half) = merge(&files[files.len() / 2..], chunk).unwrap();
        let mut database = (files.len() / 2).checked_sub(1).map_or(Pages::new(), |before| states[before].clone());
        let (header, pages) = decode(&half).unwrap();
        database.extend(pages);
        database.retain(|page, _| *page <= header.commit);
        prop_assert_eq!(&database, states.last().unwrap());
    }

    #[test]
    fn no_damage_of_an_input_goes_through(
        (history, _, chunk) in histories(), at in any::<prop::sample::Index>(), bit in 0..8u32,
    ) {
        let (mut files, _) = files_of(&history, 2);
        let sound = merge(&files, chunk).unwrap();
        let victim = at.index(files.len());
        let mut bytes = files[victim].1.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        files[victim].1 = bytes.into();
        match merge(&files, chunk) {
            // A block that packs the same page in another way is no damage.
            Ok(merged) => prop_assert_eq!(merged, sound),
            Err(MergeError::Order { .. } | MergeError::Nothing) => prop_assert!(false, "the ranges are as \
                they were"),
            Err(error) => prop_assert_eq!(error.damaged(), Some(files[victim].0), "{}", error),
        }
        files[victim].1 = files[victim].1.slice(..at);
        prop_assert_eq!(merge(&files, chunk).unwrap_err().damaged(), Some(files[victim].0));
    }
}

#[test]
fn a_gap_is_refused_and_an_overlap_is_not() {
    let order = |ranges: &[(u64, u64)]| {
        let ranges: Vec<_> = ranges.iter().map(|(min, max)| range(*min, *max)).collect();
        Merge::new(&ranges, 1).map(|_| ())
    };
    assert_eq!(order(&[(2, 2), (3, 5), (5, 9), (4, 10)]), Ok(()));
    assert_eq!(order(&[]), Err(MergeError::Nothing));
    for wrong in [&[(2, 2), (4, 4)][..], &[(3, 5), (3, 5)], &[(2, 5), (3, 4)], &[(5, 5), (2, 2)]] {
        assert!(matches!(order(wrong), Err(MergeError::Order { .. })), "{wrong:?}");
    }
}

#[test]
fn the_merge_ends_before_another_page_size() {
    let (mut files, _) = files_of(&[(2, vec![1], 1), (2, vec![2], 2), (2, vec![1, 2], 3)], 4);
    let header = Header::new(PageSize::new(1024).unwrap(), 1, range(6, 6), 6);
    files[2].1 = encode(&header, &Pages::from([(1, vec![1; 1024])]));
    assert_eq!(merge(&files, 99).unwrap().0.range, range(4, 5));
    assert_eq!(merge(&files[2..], 99).unwrap().0.range, range(6, 6));
}

#[test]
fn a_file_with_another_name_and_an_incomplete_snapshot_are_refused() {
    let (mut files, _) = files_of(&[(3, vec![], 1), (3, vec![2], 2)], 1);
    files[1].0 = range(2, 3);
    assert!(matches!(merge(&files, 50), Err(MergeError::Name { says, .. }) if says == range(2, 2)));
    // Claims to be an increment, so that it decodes; merged behind nothing it would have to hold every page.
    let header = Header::new(PageSize::new(512).unwrap(), 4, range(2, 2), 1);
    files[1] = (range(2, 2), encode(&header, &Pages::from([(2, vec![0; 512])])));
    assert!(matches!(merge(&files, 50), Err(MergeError::Output(LtxError::Incomplete { want: 4, got: 3 }))));
}

fn sample(name: &str, level: u8) -> BTreeMap<TxidRange, Bytes> {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name)
        .join(format!("replica/ltx/{level}"));
    let read = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.split_once('-')?;
        let range = TxidRange::new(Txid::from_name(name.0)?, Txid::from_name(name.1)?)?;
        Some((range, std::fs::read(&path).unwrap().into()))
    };
    std::fs::read_dir(directory).unwrap().filter_map(|entry| read(entry.unwrap().path())).collect()
}

/// Every file of Litestream's levels whose inputs are there too.
#[test]
fn litestreams_own_merges_come_out_the_same() {
    let mut compared = 0;
    for (name, level) in [("s2-v05-levels-ps512", 1), ("s2-v05-levels-ps512", 2), ("s4-v05-restarts", 1)] {
        let below = sample(name, level - 1);
        for (range, theirs) in sample(name, level) {
            let part: Vec<_> = below
                .iter()
                .filter(|(input, _)| input.min >= range.min && input.max <= range.max)
                .map(|(range, bytes)| (*range, bytes.clone()))
                .collect();
            if part.first().map(|(first, _)| first.min) != Some(range.min) {
                continue;
            }
            let ours = merge(&part, 999).unwrap();
            assert_eq!(decode(&ours.1).unwrap(), decode(&theirs).unwrap(), "{name} level {level}: {range}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}
