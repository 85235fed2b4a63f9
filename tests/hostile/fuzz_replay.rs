//! The fuzz targets on stable Rust, as far as a few seconds go: a seeded mutator over the samples. The
//! fuzzers themselves are in `tests/fuzz/` (see CONTRIBUTING.md).

#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Cases of each target: `LITEVISOR_FUZZ_CASES` asks for more.
const CASES: u64 = 10_000;
/// Longer seeds are cut: the mutations would be lost in them.
const LONGEST: usize = 6000;

fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

fn files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Real inputs for `target`.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(&root.join("tests/samples"), &mut paths);
    paths.sort();
    let ltx = || {
        paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "ltx"))
            .map(|path| std::fs::read(path).unwrap())
    };
    match target {
        "ltx" => ltx().map(|file| [&[7], &file[..]].concat()).collect(),
        "ltx_head" => ltx().collect(),
        "lz4" => paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "lz4"))
            .map(|path| [&[7], &std::fs::read(path).unwrap()[..]].concat())
            .collect(),
        "config" => {
            ["supervisor.toml.example"].iter().map(|name| std::fs::read(root.join(name)).unwrap()).collect()
        }
        "notify" => NOTIFY.map(|text| text.as_bytes().to_vec()).into(),
        "state" => vec![STATE.as_bytes().to_vec()],
        "owner" => OWNER.map(|text| text.as_bytes().to_vec()).into(),
        "url" => [
            "s3://bucket/a/b?endpoint=https://s3.example.com&region=auto",
            "file:///data/replica",
            "data/replica",
        ]
        .map(|url| url.as_bytes().to_vec())
        .into(),
        "listing" => {
            let names =
                paths.iter().map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            let keys: Vec<_> =
                names.filter_map(|name| Some(name.split_once("/replica/")?.1.to_owned())).collect();
            vec![keys.join("\n").into_bytes(), (0..200).map(|at| (at * 37 % 251) as u8).collect()]
        }
        _ => vec![wal(), (0..130).map(|at| (at * 89 % 253) as u8).collect()],
    }
}

const STATE: &str = r#"{"version":1,"replica":"file:///r","node_id":"000000000000feed","acked":"000000000000002a",
"sent":"000000000000002b","tip_checksum":"8000000000000007","page_size":4096,"wal_salt1":1,"wal_salt2":2,"wal_offset":4152,
"wal_checksum":[3,4],"wal_sent":[2,9,8272,5,6],"db_checksum":"8000000000000009","modified_ns":17,"born_ns":16}"#;

const NOTIFY: [&str; 3] = [
    "READY=1\nSTATUS=accepting connections\nMAINPID=42",
    "WATCHDOG=1",
    "STOPPING=1\nSTATUS=Zähler: 7\n\nEXTEND_TIMEOUT_USEC=1000000\0",
];

const OWNER: [&str; 3] = [
    r#"{"version":1,"epoch":"0000000000000007","instance":{"id":"a","host":"pod-7","revision":"r2"},"reason":"resume",
"failed":{"id":"b","host":"pod-8","revision":"r3"},"gated":true,"litevisor":"0.2.0",
"databases":{"/data/a.db":{"txid":"000000000000002a","checksum":"8000000000000009"}}}"#,
    r#"{"version":1,"epoch":"0000000000000007","instance":{"id":"a","host":"pod-7","revision":null},"how":"failed-start",
"end":"at","from":"0000000000000006","time_ms":1795327279453,"databases":{"b":{"txid":"0000000000000000","checksum":""}}}"#,
    r#"{"version":1,"epoch":"0000000000000007","within_ms":8500}"#,
];

/// A real WAL of a few small transactions.
fn wal() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let app = rusqlite::Connection::open(dir.path().join("a.db")).unwrap();
    app.execute_batch("PRAGMA page_size=512; PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)").unwrap();
    std::fs::read(dir.path().join("a.db-wal")).unwrap()
}

fn mutate(seeds: &[Vec<u8>], dice: &mut u64) -> Vec<u8> {
    let seed = &seeds[next(dice) % seeds.len()];
    let mut data = seed[..seed.len().min(LONGEST)].to_vec();
    for _ in 0..next(dice) % 5 {
        let at = next(dice) % data.len().max(1);
        let odd = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'/', b'-', b'9'][next(dice) % 10];
        match next(dice) % 7 {
            0 if !data.is_empty() => data[at] ^= 1 << (next(dice) % 8),
            1 if !data.is_empty() => data[at] = odd,
            2 => data.truncate(at),
            3 => data.insert(at.min(data.len()), odd),
            4 if !data.is_empty() => drop(data.drain(at..(at + next(dice) % 9).min(data.len()))),
            5 => {
                let other = &seeds[next(dice) % seeds.len()];
                let from = next(dice) % other.len().max(1);
                let piece = other[from..(from + next(dice) % 64).min(other.len())].to_vec();
                let at = at.min(data.len());
                data.splice(at..at, piece);
            }
            _ => {
                let end = (at + 4).min(data.len());
                data[at.min(end)..end].fill(odd);
            }
        }
    }
    data
}

#[test]
fn every_target_holds_for_mutated_samples() {
    let cases = std::env::var("LITEVISOR_FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    for (name, target) in targets::ALL {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let mut dice = 1;
        for case in 0..cases {
            let data = mutate(&seeds, &mut dice);
            if catch_unwind(|| target(&data)).is_err() {
                let path = std::env::temp_dir().join(format!("litevisor-fuzz-{name}"));
                std::fs::write(&path, &data).unwrap();
                panic!("{name}, case {case} of {} bytes: {}", data.len(), path.display());
            }
        }
    }
}
