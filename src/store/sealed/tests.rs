//! An encrypted replica in a directory: what is written is read, in every range; what was changed, cut short
//! or encrypted for another is refused; the `age` crate's own decryptor and encryptor agree.

use super::testing::{OTHER, SECRET, sealed, settings};
use super::*;
use crate::store::{AgeSettings, Chunk, Scheme, StoreErrorKind, StoreSettings, open};
use age::x25519::{Identity, Recipient};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

const KEY: &str = "ltx/0/0000000000000001-0000000000000001.ltx";
const V3: &str = "generations/21a5e296c131c7c0/wal/00000001_000060b0.wal.lz4";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

struct Site {
    root: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.path().join(key)
    }

    fn store(&self, age: AgeSettings) -> Arc<dyn Store> {
        let path = self.root.path().to_str().unwrap().to_owned();
        let place = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
        open(&StoreSettings { age, ..place }).unwrap()
    }

    fn own(&self) -> Arc<dyn Store> {
        self.store(settings(SECRET, None))
    }

    fn write(&self, key: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
        std::fs::write(self.path(key), bytes).unwrap();
    }

    fn file(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.path(key)).unwrap()
    }
}

/// No two chunks are alike.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

async fn create(store: &dyn Store, bytes: &[u8]) -> Put {
    store.put_new(KEY, Body::Whole(Bytes::copy_from_slice(bytes)), 0, soon()).await.unwrap()
}

async fn create_in_pieces(
    store: &dyn Store,
    bytes: &[u8],
    piece: usize,
    ended: bool,
) -> Result<Put, StoreError> {
    let (sender, receiver) = mpsc::channel(1);
    let pieces: Vec<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let send = async move {
        for piece in pieces {
            sender.send(Chunk::Data(piece)).await.unwrap();
        }
        if ended {
            sender.send(Chunk::End).await.unwrap();
        }
    };
    tokio::join!(store.put_new(KEY, Body::Stream(receiver), 0, soon()), send).0
}

async fn kind(store: &dyn Store, range: Option<Range<u64>>) -> Option<StoreErrorKind> {
    store.get(KEY, range, soon()).await.err().map(|error| error.kind)
}

fn decrypted(file: &[u8], identity: &str) -> Vec<u8> {
    let identity: Identity = identity.parse().unwrap();
    let decryptor = age::Decryptor::new(file).unwrap();
    let mut bytes = Vec::new();
    decryptor.decrypt(std::iter::once(&identity as _)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn encrypted(content: &[u8], recipient: &Recipient) -> Vec<u8> {
    let mut file = Vec::new();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient as _)).unwrap();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap();
    file
}

fn recipient(identity: &str) -> Recipient {
    identity.parse::<Identity>().unwrap().to_public()
}

const CHUNK: usize = payload::CHUNK as usize;
const LENGTHS: [usize; 9] = [0, 1, 300, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 17, 3 * CHUNK];

#[tokio::test]
async fn the_age_crate_agrees_in_both_directions() {
    for length in LENGTHS {
        let bytes = content(length);
        for pieces in [None, Some(1000), Some(CHUNK), Some(CHUNK + 1)] {
            let (site, store) = {
                let site = Site::new();
                let store = site.own();
                (site, store)
            };
            let put = match pieces {
                None => create(&*store, &bytes).await,
                Some(piece) => create_in_pieces(&*store, &bytes, piece, true).await.unwrap(),
            };
            assert_eq!(put, Put::Created);
            assert_eq!(create(&*store, &bytes).await, Put::Exists);
            assert_eq!(decrypted(&site.file(KEY), SECRET), bytes, "{length} {pieces:?}");
            assert_eq!(store.get(KEY, None, soon()).await.unwrap(), bytes);
            let listed = store.list("", soon()).await.unwrap();
            assert_eq!(listed[0].size, length as u64, "of a file with one recipient the size is known");
        }
        let site = Site::new();
        site.write(KEY, &encrypted(&bytes, &recipient(SECRET)));
        let store = site.own();
        assert_eq!(store.get(KEY, None, soon()).await.unwrap(), bytes, "{length}");
        if length > 0 {
            assert_eq!(
                store.get(KEY, Some(length as u64 - 1..length as u64 + 9), soon()).await.unwrap(),
                bytes[length - 1..]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any ranges of one object in any order, also beyond its end.
    #[test]
    fn every_range_is_that_of_the_content(
        length in prop_oneof![0..4 * CHUNK, Just(CHUNK), Just(2 * CHUNK)],
        ranges in proptest::collection::vec((0..5 * CHUNK as u64, 1..3 * CHUNK as u64), 1..6),
        recipients in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let site = Site::new();
            let bytes = content(length);
            let all: Vec<String> = (0..recipients).map(|_| Identity::generate().to_public().to_string()).collect();
            let store = site.store(settings(SECRET, Some(&format!("{}\n{}", all.join(" "), recipient(SECRET)))));
            create(&*store, &bytes).await;
            for (start, count) in ranges {
                let end = start + count;
                let inside = |at: u64| (at as usize).min(length);
                let got = store.get(KEY, Some(start..end), soon()).await.unwrap();
                assert_eq!(got, bytes[inside(start)..inside(end)]);
            }
            let size = store.list("", soon()).await.unwrap()[0].size;
            assert!((length as u64..length as u64 + crate::store::SIZE_SLACK).contains(&size), "{size} \
                {length}");
        });
    }
}

#[tokio::test]
async fn a_content_that_does_not_end_creates_nothing() {
    let site = Site::new();
    assert!(create_in_pieces(&*site.own(), &content(3 * CHUNK), CHUNK / 2, false).await.is_err());
    assert!(!site.path(KEY).exists());
}

#[tokio::test]
async fn what_is_changed_or_cut_is_refused() {
    let (site, bytes) = (Site::new(), content(2 * CHUNK + 100));
    create(&*site.own(), &bytes).await;
    let whole = site.file(KEY);
    let sealed = CHUNK + 16;
    let start = whole.len() - 100 - 16 - 2 * sealed;
    // In the header's stanza, its checksum, the nonce, each chunk, the last byte.
    let places = [30, 100, start - 30, start - 5, start, start + sealed, start + 2 * sealed, whole.len() - 1];
    for at in places {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        site.write(KEY, &changed);
        let told = kind(&*site.own(), None).await;
        assert!(matches!(told, Some(StoreErrorKind::Damaged | StoreErrorKind::Key)), "{at}: {told:?}");
        if at >= start {
            assert_eq!(told, Some(StoreErrorKind::Damaged), "{at}");
            assert_eq!(
                kind(&*site.own(), Some(((at - start) / sealed * CHUNK) as u64..bytes.len() as u64)).await,
                told
            );
        }
    }
    for length in
        [0, 10, 21, 22, 100, start - 1, start, start + 1, start + sealed, start + 2 * sealed, whole.len() - 1]
    {
        site.write(KEY, &whole[..length]);
        assert_eq!(kind(&*site.own(), None).await, Some(StoreErrorKind::Damaged), "{length}");
    }
    // Two chunks exchanged.
    let exchanged =
        [&whole[..start], &whole[start + sealed..start + 2 * sealed], &whole[start..start + sealed]].concat();
    site.write(KEY, &exchanged);
    assert_eq!(kind(&*site.own(), Some(70_000..70_100)).await, Some(StoreErrorKind::Damaged));
}

#[tokio::test]
async fn what_is_remembered_of_an_object_is_not_used_for_another_one() {
    let (site, bytes) = (Site::new(), content(2 * CHUNK));
    let store = site.own();
    create(&*store, &bytes).await;
    assert_eq!(store.get(KEY, Some(5..9), soon()).await.unwrap(), bytes[5..9]);
    std::fs::remove_file(site.path(KEY)).unwrap();
    create(&*site.own(), &bytes).await;
    assert_eq!(kind(&*store, Some(5..9)).await, Some(StoreErrorKind::Damaged), "once: readers try again");
    assert_eq!(store.get(KEY, Some(5..9), soon()).await.unwrap(), bytes[5..9]);
}

#[tokio::test]
async fn keys_that_do_not_fit_are_told_apart() {
    let (site, bytes) = (Site::new(), content(3 * CHUNK));
    create(&*site.own(), &bytes).await;
    let told = |result: Result<Bytes, StoreError>| result.unwrap_err();
    for range in [None, Some(0..100), Some(70_000..80_000)] {
        let error = told(site.store(settings(OTHER, None)).get(KEY, range.clone(), soon()).await);
        assert_eq!(error.kind, StoreErrorKind::Key);
        let text = error.to_string();
        assert!(text.contains(&recipient(OTHER).to_string()) && text.contains(KEY), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
        // Without keys the first bytes tell.
        let plain = site.store(AgeSettings::default()).get(KEY, range.clone(), soon()).await;
        if range.is_none_or(|range| range.start == 0) {
            let text = told(plain).to_string();
            assert!(text.contains("no age_identities are configured"), "{text}");
        }
    }
    // Several identities, several recipients.
    let both = site.store(settings(&format!("{OTHER}\n{SECRET}"), None));
    assert_eq!(both.get(KEY, Some(9..99), soon()).await.unwrap(), bytes[9..99]);
    // A plain file where keys are configured, and records, which are always plain.
    site.write(KEY, &bytes);
    let text = told(site.own().get(KEY, Some(0..100), soon()).await).to_string();
    assert!(text.contains("not encrypted") && text.contains("litevisor rekey"), "{text}");
    site.own().put("owner/1", Bytes::from_static(b"{}"), soon()).await.unwrap();
    assert_eq!(site.file("owner/1"), b"{}");
    assert_eq!(site.own().get("owner/1", None, soon()).await.unwrap(), "{}");
}

#[tokio::test]
async fn files_of_litestream_03_are_read_encrypted_or_not() {
    let (site, bytes) = (Site::new(), content(CHUNK + 300));
    for file in [bytes.clone(), encrypted(&bytes, &recipient(SECRET))] {
        site.write(V3, &file);
        for (range, part) in
            [(None, &bytes[..]), (Some(0..40), &bytes[..40]), (Some(300..66_000), &bytes[300..])]
        {
            let store = site.own();
            assert_eq!(store.get(V3, range.clone(), soon()).await.unwrap(), part);
            assert_eq!(store.get(V3, range, soon()).await.unwrap(), part);
        }
    }
    let told = site.store(AgeSettings::default()).get(V3, None, soon()).await.unwrap_err();
    assert_eq!(told.kind, StoreErrorKind::Key);
}

/// Bounded work for any header: no passphrase is tried, no header is read beyond 8 KiB.
#[tokio::test]
async fn hostile_headers_cost_little() {
    let site = Site::new();
    let line = |text: &str| [b"age-encryption.org/v1\n", text.as_bytes()].concat();
    let scrypt = "-> scrypt AAAAAAAAAAAAAAAAAAAAAA 62\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- \
                  AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n0123456789012345678901234567890123456789";
    let share = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let many = format!("-> X25519 {share}\n{share}\n").repeat(1 << 15);
    for (file, expected, said) in [
        (line(scrypt), StoreErrorKind::Key, "passphrase"),
        (line(&many), StoreErrorKind::Damaged, "more than 8 KiB"),
        (line(&"-".repeat(4 << 20)), StoreErrorKind::Damaged, "more than 8 KiB"),
        (b"age-encryption.org/v2\n".to_vec(), StoreErrorKind::Damaged, "version 1"),
    ] {
        site.write(KEY, &file);
        for range in [None, Some(0..10), Some(100_000..100_010)] {
            let told = site.own().get(KEY, range, soon()).await.unwrap_err();
            assert_eq!(told.kind, expected, "{told}");
            assert!(told.to_string().contains(said), "{told}");
        }
    }
}

#[test]
fn sealed_stores_wrap_any_store() {
    let site = Site::new();
    let plain = site.store(AgeSettings::default());
    assert_eq!(sealed(plain, &settings(SECRET, None)).url(), site.own().url());
    assert!(Path::new(site.root.path()).is_dir());
}

#[tokio::test]
async fn a_key_is_checked_by_the_first_bytes_alone() {
    let site = Site::new();
    create(&*site.own(), &content(200_000)).await;
    // Only the header is looked at.
    let sealed = site.file(KEY);
    site.write(KEY, &sealed[..1000]);
    let other = site.store(settings(OTHER, None));
    let check =
        async |store: &dyn Store, key| store.check_key(key, soon()).await.err().map(|error| error.kind);
    assert_eq!(check(&*site.own(), KEY).await, None);
    assert_eq!(check(&*other, KEY).await, Some(StoreErrorKind::Key));
    site.write("owner/0000000000000001.json", b"{}");
    assert_eq!(check(&*site.own(), "owner/0000000000000001.json").await, None);
    assert_eq!(
        check(&*site.store(AgeSettings::default()), "ltx/0/none.ltx").await,
        None,
        "nothing is asked for"
    );
}
