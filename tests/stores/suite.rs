//! What every store must do, whatever it is made of. Each check gets a fresh, empty root. A store's tests run
//! all of them: `every_check!(run)` calls the macro `run!` with their names.

use bytes::Bytes;
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{Body, Chunk, Object, Put, Store, StoreErrorKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub type Subject = Arc<dyn Store>;

/// Hands the name of every check to the macro `$run`, which makes a test of each.
macro_rules! every_check {
    ($run:ident) => {
        $run!(
            a_new_root_is_empty,
            what_was_created_can_be_read,
            the_names_under_the_root_are_told,
            create_leaves_an_existing_object_alone,
            one_of_sixteen_creators_wins,
            put_replaces,
            ranges_are_cut_at_the_end,
            pieces_make_the_whole,
            a_missing_object_is_not_found,
            a_prefix_selects,
            unusual_names_survive,
            a_long_listing_is_complete,
            the_pages_of_a_listing_follow_each_other,
            the_time_of_an_object_is_told,
            delete_removes_and_forgives,
            a_stream_becomes_one_object,
            a_stream_leaves_an_existing_object_alone,
            an_abandoned_stream_leaves_nothing,
            a_caller_that_stops_waiting_leaves_nothing,
            a_silent_producer_is_held_to_the_deadline,
            a_deadline_in_the_past_is_refused,
            keys_stay_inside_the_root,
            a_store_that_decides_is_accepted,
            of_sixteen_claims_one_wins,
            an_owner_sees_that_it_is_asked,
            a_release_is_written_once,
            a_claim_whose_reply_was_lost_is_ours,
            heartbeats_are_seen,
            the_newest_claim_is_found,
            old_owner_records_are_deleted,
        );
    };
}
pub(crate) use every_check;

pub use crate::handover::{
    a_claim_whose_reply_was_lost_is_ours, a_release_is_written_once, a_store_that_decides_is_accepted,
    an_owner_sees_that_it_is_asked, heartbeats_are_seen, of_sixteen_claims_one_wins,
    old_owner_records_are_deleted, the_newest_claim_is_found,
};

const MS: i64 = 1_795_327_279_453;

/// Enough for a slow machine.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

pub fn whole(text: &str) -> Body {
    Body::Whole(Bytes::copy_from_slice(text.as_bytes()))
}

async fn create(store: &Subject, key: &str, text: &str) -> Put {
    store.put_new(key, whole(text), MS, soon()).await.unwrap()
}

async fn text(store: &Subject, key: &str) -> String {
    String::from_utf8(store.get(key, None, soon()).await.unwrap().to_vec()).unwrap()
}

async fn keys(store: &Subject, prefix: &str) -> BTreeSet<String> {
    store.list(prefix, soon()).await.unwrap().into_iter().map(|object| object.key).collect()
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(ToString::to_string).collect()
}

pub async fn a_new_root_is_empty(store: Subject) {
    assert_eq!(store.list("", soon()).await.unwrap(), []);
    assert_eq!(store.list("ltx/0/", soon()).await.unwrap(), []);
}

pub async fn what_was_created_can_be_read(store: Subject) {
    assert_eq!(create(&store, "0000/a.ltx", "hello").await, Put::Created);
    assert_eq!(text(&store, "0000/a.ltx").await, "hello");
    assert_eq!(create(&store, "0000/empty.ltx", "").await, Put::Created);
    assert_eq!(text(&store, "0000/empty.ltx").await, "");
    let mut listed = store.list("0000/", soon()).await.unwrap();
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    let sizes: Vec<(&str, u64)> =
        listed.iter().map(|Object { key, size, .. }| (key.as_str(), *size)).collect();
    assert_eq!(sizes, [("0000/a.ltx", 5), ("0000/empty.ltx", 0)]);
}

pub async fn the_names_under_the_root_are_told(store: Subject) {
    assert_eq!(store.directories(soon()).await.unwrap(), Vec::<String>::new());
    for key in ["a.db/0000/1.ltx", "a.db/0009/1.ltx", "b c.db/ltx/0/1.ltx", "plain"] {
        assert_eq!(create(&store, key, "x").await, Put::Created);
    }
    let names: BTreeSet<String> = store.directories(soon()).await.unwrap().into_iter().collect();
    assert_eq!(names, set(&["a.db", "b c.db"]));
}

pub async fn create_leaves_an_existing_object_alone(store: Subject) {
    assert_eq!(create(&store, "0000/a.ltx", "first").await, Put::Created);
    assert_eq!(create(&store, "0000/a.ltx", "second").await, Put::Exists);
    assert_eq!(text(&store, "0000/a.ltx").await, "first");
    assert_eq!(keys(&store, "").await, set(&["0000/a.ltx"]));
}

pub async fn one_of_sixteen_creators_wins(store: Subject) {
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let content = format!("writer {number}");
                // A conflict is no answer; a creator asks again.
                let put = litevisor::testing::store::retry::run(
                    soon(),
                    Duration::from_secs(60),
                    |_, _| {},
                    |by| store.put_new("0000/a.ltx", whole(&content), MS, by),
                );
                (put.await.unwrap(), content)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        let (put, content) = task.await.unwrap();
        if put == Put::Created {
            winners.push(content);
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(text(&store, "0000/a.ltx").await, winners[0]);
}

pub async fn put_replaces(store: Subject) {
    store.put("state.json", Bytes::from_static(b"one"), soon()).await.unwrap();
    store.put("state.json", Bytes::from_static(b"two, longer"), soon()).await.unwrap();
    assert_eq!(text(&store, "state.json").await, "two, longer");
    store.put("state.json", Bytes::from_static(b"3"), soon()).await.unwrap();
    assert_eq!(text(&store, "state.json").await, "3");
    assert_eq!(create(&store, "state.json", "new").await, Put::Exists);
}

pub async fn ranges_are_cut_at_the_end(store: Subject) {
    create(&store, "0000/a.ltx", "0123456789").await;
    for (range, expected) in [
        (0..4, "0123"),
        (3..7, "3456"),
        (8..10, "89"),
        (8..100, "89"),
        (9..10, "9"),
        (10..20, ""),
        (100..200, ""),
    ] {
        let bytes = store.get("0000/a.ltx", Some(range.clone()), soon()).await.unwrap();
        assert_eq!(bytes, expected.as_bytes(), "{range:?}");
    }
    let empty = store.get("0000/a.ltx", Some(3..3), soon()).await.unwrap_err();
    assert_eq!(empty.kind, StoreErrorKind::Invalid, "{empty}");
}

pub async fn a_missing_object_is_not_found(store: Subject) {
    let whole = store.get("0000/a.ltx", None, soon()).await.unwrap_err();
    assert_eq!(whole.kind, StoreErrorKind::NotFound, "{whole}");
    create(&store, "0000/b.ltx", "x").await;
    let ranged = store.get("0000/a.ltx", Some(0..10), soon()).await.unwrap_err();
    assert_eq!(ranged.kind, StoreErrorKind::NotFound, "{ranged}");
    assert!(ranged.subject.ends_with("/0000/a.ltx"), "{ranged}");
}

pub async fn a_prefix_selects(store: Subject) {
    let all = ["0000/a.ltx", "0000/ab.ltx", "0000/b.ltx", "0001/a.ltx", "0009/x/y.ltx", "top"];
    for key in all {
        create(&store, key, "x").await;
    }
    assert_eq!(keys(&store, "").await, set(&all));
    assert_eq!(keys(&store, "0000/").await, set(&all[..3]));
    assert_eq!(keys(&store, "0000/a").await, set(&all[..2]));
    assert_eq!(keys(&store, "000").await, set(&all[..5]));
    assert_eq!(keys(&store, "0009/").await, set(&["0009/x/y.ltx"]));
    assert_eq!(keys(&store, "0002/").await, set(&[]));
}

/// As callers do it: an answer that may heal is no answer yet.
async fn delete_all(store: &Subject, names: &[String]) {
    let delete = |by| store.delete(names, by);
    litevisor::testing::store::retry::run(soon(), Duration::from_secs(60), |_, _| {}, delete).await.unwrap();
}

/// Creates many objects, some at a time.
async fn create_all(store: &Subject, names: &[String]) {
    let tasks: Vec<_> = names
        .chunks(names.len().div_ceil(8))
        .map(|chunk| {
            let (store, chunk) = (Arc::clone(store), chunk.to_vec());
            tokio::spawn(async move {
                for key in chunk {
                    create(&store, &key, "x").await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// More than one page of every store holds, and one batch of deletions.
fn many_names() -> Vec<String> {
    (0..1203).map(|number| format!("0000/{number:016x}.ltx")).collect()
}

pub async fn a_long_listing_is_complete(store: Subject) {
    let names = many_names();
    create_all(&store, &names).await;
    assert_eq!(keys(&store, "0000/").await, names.iter().cloned().collect());
    delete_all(&store, &names).await;
    assert_eq!(keys(&store, "").await, set(&[]));
}

/// From page to page, and from the middle, without a gap or a repetition.
pub async fn the_pages_of_a_listing_follow_each_other(store: Subject) {
    let names = many_names();
    create_all(&store, &names).await;
    for first in [0, 700, 1202] {
        let (mut found, mut after) =
            (Vec::new(), if first == 0 { String::new() } else { names[first - 1].clone() });
        loop {
            let page = store.list_page("0000/", &after, soon()).await.unwrap();
            let mut keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
            keys.sort();
            let Some(last) = keys.last().cloned() else { break };
            assert!(keys[0] > after, "{} came after {after}", keys[0]);
            after = last;
            found.extend(keys);
            if !page.more {
                break;
            }
        }
        assert!(found == names[first..], "{} of {} names from {first} on", found.len(), names.len() - first);
    }
    let behind = store.list_page("0000/", names.last().unwrap(), soon()).await.unwrap();
    assert!(behind.objects.is_empty() && !behind.more, "{behind:?}");
}

/// The time that was given, or (where the store sets it) about now.
pub async fn the_time_of_an_object_is_told(store: Subject) {
    create(&store, "0000/a.ltx", "x").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let listed = store.list("0000/a.ltx", soon()).await.unwrap();
    let told = listed[0].modified_ms;
    // SFTP has whole seconds.
    let given = told / 1000 == MS / 1000;
    assert!(given || (now - told).abs() < 600_000, "{told} is neither {MS} nor about {now}");
}

pub async fn pieces_make_the_whole(store: Subject) {
    let content = piece_of(0, 3 << 20);
    store.put_new("0009/a.ltx", Body::Whole(content.clone()), MS, soon()).await.unwrap();
    for range in [None, Some(0..10), Some(1_000_000..2_500_000), Some(3_000_000..9_000_000)] {
        let pieces = std::sync::Mutex::new(Vec::new());
        let take = |piece: Bytes| pieces.lock().unwrap().extend_from_slice(&piece);
        store.get_into("0009/a.ltx", range.clone(), &take, soon()).await.unwrap();
        let wanted = range.clone().map_or(0..content.len(), |range| range.start as usize..range.end as usize);
        let expected = &content[wanted.start..wanted.end.min(content.len())];
        assert!(pieces.into_inner().unwrap() == expected, "{range:?}");
    }
}

/// A replica's path may hold anything that a file's path may.
pub async fn unusual_names_survive(store: Subject) {
    let all = [
        "a b.db/0000/1.ltx",
        "a+b.db/0000/1.ltx",
        "a%20b.db/0000/1.ltx",
        "\u{fc}\u{4e2d}.db/0000/1.ltx",
        "~=&'.db/1",
    ];
    for key in all {
        assert_eq!(create(&store, key, key).await, Put::Created, "{key}");
        assert_eq!(create(&store, key, "again").await, Put::Exists, "{key}");
    }
    assert_eq!(keys(&store, "").await, set(&all));
    for key in all {
        assert_eq!(text(&store, key).await, key);
        let (directory, _) = key.split_once('/').unwrap();
        assert_eq!(keys(&store, &format!("{directory}/")).await, set(&[key]));
    }
    delete_all(&store, &all.map(String::from)).await;
    assert_eq!(keys(&store, "").await, set(&[]));
}

pub async fn delete_removes_and_forgives(store: Subject) {
    create(&store, "0000/a.ltx", "x").await;
    create(&store, "0000/b.ltx", "x").await;
    let named = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    store.delete(&named(&["0000/a.ltx", "0000/missing.ltx", "0007/missing.ltx"]), soon()).await.unwrap();
    assert_eq!(keys(&store, "").await, set(&["0000/b.ltx"]));
    store.delete(&[], soon()).await.unwrap();
    assert_eq!(create(&store, "0000/a.ltx", "again").await, Put::Created);
    assert_eq!(text(&store, "0000/a.ltx").await, "again");
}

/// Sends `pieces` of `size` bytes each, every byte telling where it is; `End` when `finish`.
fn feed(pieces: usize, size: usize, finish: bool) -> Body {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for piece in 0..pieces {
            if sender.send(Chunk::Data(piece_of(piece, size))).await.is_err() {
                return;
            }
        }
        if finish {
            let _ = sender.send(Chunk::End).await;
        }
    });
    Body::Stream(receiver)
}

fn piece_of(piece: usize, size: usize) -> Bytes {
    (0..size).map(|at| ((piece * size + at) * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

pub async fn a_stream_becomes_one_object(store: Subject) {
    const PIECE: usize = 300_001;
    let put = store.put_new("0009/big.ltx", feed(42, PIECE, true), MS, soon()).await.unwrap();
    assert_eq!(put, Put::Created);
    let expected: Vec<u8> = (0..42).flat_map(|piece| piece_of(piece, PIECE)).collect();
    let bytes = store.get("0009/big.ltx", None, soon()).await.unwrap();
    assert!(bytes == expected, "{} bytes came back of {}", bytes.len(), expected.len());
    let middle = store.get("0009/big.ltx", Some(8_388_600..8_388_620), soon()).await.unwrap();
    assert_eq!(middle, expected[8_388_600..8_388_620]);

    let small = store.put_new("0009/small.ltx", feed(3, 7, true), MS, soon()).await.unwrap();
    assert_eq!(small, Put::Created);
    assert_eq!(store.get("0009/small.ltx", None, soon()).await.unwrap().len(), 21);
    assert_eq!(store.put_new("0009/none.ltx", feed(0, 0, true), MS, soon()).await.unwrap(), Put::Created);
    assert_eq!(store.get("0009/none.ltx", None, soon()).await.unwrap().len(), 0);
}

pub async fn a_stream_leaves_an_existing_object_alone(store: Subject) {
    create(&store, "0009/a.ltx", "first").await;
    for pieces in [1, 13] {
        let put = store.put_new("0009/a.ltx", feed(pieces, 1 << 20, true), MS, soon()).await.unwrap();
        assert_eq!(put, Put::Exists, "{pieces} MiB");
    }
    let whole = Body::Whole(piece_of(0, 9 << 20));
    assert_eq!(store.put_new("0009/a.ltx", whole, MS, soon()).await.unwrap(), Put::Exists);
    assert_eq!(text(&store, "0009/a.ltx").await, "first");
}

pub async fn an_abandoned_stream_leaves_nothing(store: Subject) {
    for pieces in [0, 1, 20] {
        let error = store.put_new("0009/a.ltx", feed(pieces, 1 << 20, false), MS, soon()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
        assert_eq!(keys(&store, "").await, set(&[]), "{pieces} MiB");
    }
    assert_eq!(create(&store, "0009/a.ltx", "x").await, Put::Created);
}

/// Also when it stops in the middle: nothing appears, now or later, and the name is free.
pub async fn a_caller_that_stops_waiting_leaves_nothing(store: Subject) {
    let (sender, receiver) = mpsc::channel(1);
    let mut upload = store.put_new("0009/a.ltx", Body::Stream(receiver), MS, soon());
    // Through a channel of one: most of it has been taken when the last piece is accepted.
    tokio::select! {
        result = &mut upload => panic!("{result:?}"),
        () = async {
            for piece in 0..12 {
                sender.send(Chunk::Data(piece_of(piece, 1 << 20))).await.unwrap();
            }
        } => {}
    }
    drop(upload);
    assert_eq!(keys(&store, "").await, set(&[]));
    assert_eq!(create(&store, "0009/a.ltx", "x").await, Put::Created);
    assert_eq!(text(&store, "0009/a.ltx").await, "x");
}

pub async fn a_silent_producer_is_held_to_the_deadline(store: Subject) {
    let (sender, receiver) = mpsc::channel(2);
    sender.send(Chunk::Data(Bytes::from_static(b"part"))).await.unwrap();
    let span = Duration::from_millis(300);
    let started = std::time::Instant::now();
    let error =
        store.put_new("0009/a.ltx", Body::Stream(receiver), MS, Deadline::after(span)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TimedOut, "{error}");
    assert!(started.elapsed() < span + Duration::from_millis(500), "{:?}", started.elapsed());
    drop(sender);
    assert_eq!(keys(&store, "").await, set(&[]));
}

pub async fn a_deadline_in_the_past_is_refused(store: Subject) {
    let past = Deadline::after(Duration::ZERO);
    assert_eq!(store.list("", past).await.unwrap_err().kind, StoreErrorKind::TimedOut);
    let error = store.put_new("0000/a.ltx", whole("x"), MS, past).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TimedOut, "{error}");
    assert_eq!(keys(&store, "").await, set(&[]));
}

pub async fn keys_stay_inside_the_root(store: Subject) {
    for key in ["../a", "/a", "a/../../b", "", "a/", "a.tmp"] {
        let error = store.put_new(key, whole("x"), MS, soon()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Invalid, "{key}");
        assert_eq!(store.get(key, None, soon()).await.unwrap_err().kind, StoreErrorKind::Invalid, "{key}");
        assert_eq!(
            store.put(key, Bytes::new(), soon()).await.unwrap_err().kind,
            StoreErrorKind::Invalid,
            "{key}"
        );
        assert_eq!(
            store.delete(&[key.to_owned()], soon()).await.unwrap_err().kind,
            StoreErrorKind::Invalid,
            "{key}"
        );
    }
}
