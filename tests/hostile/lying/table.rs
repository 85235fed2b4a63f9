//! Every lie about every operation of every store: the call either says the truth all the same, or fails in a
//! way that its caller tries again; and when the lies end, so do the failures. Nothing that was not stored
//! ever counts as stored, no listing has a hole, no object is read wrongly.

use crate::support::azurite::Azurite;
use crate::support::fake_gcs::{self, FakeGcs};
use crate::support::gate::{Gate, Mood};
use crate::support::lies::{Lie, Op};
use crate::support::seaweed::Seaweed;
use bytes::Bytes;
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{self, Body, Put, Store, StoreError, StoreErrorKind, retry};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BUCKET: &str = "lying-table";
const KEY: &str = "0000/a.ltx";
const CONTENT: &str = "0123456789";
const WANTED: std::ops::Range<u64> = 4..8;
const MS: i64 = 1_795_327_279_453;
/// Of a call that meets a lie which costs time.
const SPAN: Duration = Duration::from_millis(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Create,
    Replace,
    InParts,
    Get,
    Range,
    List,
    Page,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The call fails, and is tried again by its caller.
    Again,
    /// The call is right all the same.
    Right,
    /// Either: where one service shows the lie, another one need not.
    Either,
    /// Redirects are not followed; whoever configured the address has to look.
    Denied,
}

struct Site {
    gate: Gate,
    store: Arc<dyn Store>,
    /// Without the gate.
    direct: Arc<dyn Store>,
}

impl Site {
    fn new(name: &'static str) -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = format!("{name}/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let direct = match name {
            "s3" => {
                Seaweed::shared().create_bucket(BUCKET);
                Seaweed::shared().settings(BUCKET, &path)
            }
            "gs" => {
                FakeGcs::shared().create_bucket(BUCKET);
                fake_gcs::settings_for(&FakeGcs::shared().endpoint(), BUCKET, &path)
            }
            _ => {
                Azurite::shared().create_container(BUCKET);
                Azurite::shared().settings(BUCKET, &path)
            }
        };
        let endpoint = direct.endpoint.clone().unwrap();
        let rest = endpoint.strip_prefix("http://").unwrap();
        let (server, account) = rest.split_once('/').unwrap_or((rest, ""));
        let gate = Gate::before(server, Mood::Telling);
        let at_gate = format!("{}/{account}", gate.endpoint());
        let behind = store::StoreSettings {
            endpoint: Some(at_gate.trim_end_matches('/').to_owned()),
            ..direct.clone()
        };
        Site { gate, store: store::open(&behind).unwrap(), direct: store::open(&direct).unwrap() }
    }

    async fn call(&self, store: &Arc<dyn Store>, call: Call, by: Deadline) -> Result<String, StoreError> {
        let content = || Bytes::from_static(CONTENT.as_bytes());
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        let keys = |objects: Vec<store::Object>| {
            objects.iter().map(|o| format!("{} {}", o.key, o.size)).collect::<Vec<_>>().join(",")
        };
        Ok(match call {
            Call::Create => {
                format!("{:?}", store.put_new("0000/b.ltx", Body::Whole(content()), MS, by).await?)
            }
            Call::InParts => {
                format!("{:?}", store.put_new("0009/c.ltx", Body::Whole(large()), MS, by).await?)
            }
            Call::Replace => store.put("0000/d.ltx", content(), by).await.map(|()| "replaced".to_owned())?,
            Call::Get => text(store.get(KEY, None, by).await?),
            Call::Range => text(store.get(KEY, Some(WANTED), by).await?),
            Call::List => keys(store.list("0000/", by).await?),
            Call::Page => {
                let page = store.list_page("0000/", "", by).await?;
                // A page may say that there are more; whoever follows it finds out.
                let rest = match page.more {
                    true => store.list_page("0000/", &page.objects.last().unwrap().key, by).await?.objects,
                    false => Vec::new(),
                };
                keys(page.objects.into_iter().chain(rest).collect())
            }
            Call::Delete => store.delete(&[KEY.to_owned()], by).await.map(|()| "deleted".to_owned())?,
        })
    }

    /// What is true once the call has succeeded; "" otherwise.
    async fn truth(&self, call: Call) -> String {
        let soon = || Deadline::after(Duration::from_secs(60));
        let stored = async |key: &str, wanted: &[u8]| {
            let there = self.direct.get(key, None, soon()).await;
            there.is_ok_and(|bytes| bytes == wanted)
        };
        match call {
            Call::Create if stored("0000/b.ltx", CONTENT.as_bytes()).await => "Created".to_owned(),
            Call::InParts if stored("0009/c.ltx", &large()).await => "Created".to_owned(),
            Call::Replace if stored("0000/d.ltx", CONTENT.as_bytes()).await => "replaced".to_owned(),
            Call::Create | Call::InParts | Call::Replace => String::new(),
            Call::Get => CONTENT.to_owned(),
            Call::Range => CONTENT[4..8].to_owned(),
            Call::List | Call::Page => format!("{KEY} {}", CONTENT.len()),
            Call::Delete if stored(KEY, CONTENT.as_bytes()).await => String::new(),
            Call::Delete => "deleted".to_owned(),
        }
    }
}

fn large() -> Bytes {
    (0..9u32 << 20).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

/// Somebody else's machine, which must hear nothing.
fn elsewhere() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

async fn try_one(name: &'static str, call: Call, about: &[Op], lie: Lie, expected: Expected) {
    let site = Site::new(name);
    let soon = || Deadline::after(Duration::from_secs(60));
    site.direct.put_new(KEY, Body::Whole(CONTENT.into()), MS, soon()).await.unwrap();
    let _ = site.store.put_new("0000/b.ltx", Body::Whole("x".into()), MS, soon()).await.unwrap();
    site.direct.delete(&["0000/b.ltx".to_owned()], soon()).await.unwrap();
    site.gate.lie(lie, about, usize::MAX);
    let what = format!("{name}: {lie:?} about {call:?}");
    let costs_time = matches!(lie, Lie::Endless | Lie::Drip);
    let span = if costs_time && call != Call::InParts { SPAN } else { Duration::from_secs(4) };
    let begun = Instant::now();
    let told = site.call(&site.store, call, Deadline::after(span)).await;
    assert!(begun.elapsed() < span + Duration::from_secs(3), "{what}: {:?}", begun.elapsed());
    let truth = site.truth(call).await;
    let lies = site.gate.honest();
    assert!(lies > 0, "{what}: nobody asked");
    match (&told, expected) {
        (Ok(told), Expected::Right | Expected::Either) => assert_eq!(*told, truth, "{what}"),
        (Err(error), Expected::Again | Expected::Either) => assert!(error.may_heal(), "{what}: {error}"),
        (Err(error), Expected::Denied) => assert_eq!(error.kind, StoreErrorKind::Denied, "{what}: {error}"),
        _ => panic!("{what}: {told:?}"),
    }
    // As callers do it, once the truth is told again.
    let healed =
        retry::run(soon(), Duration::from_secs(30), |_, _| {}, |by| site.call(&site.store, call, by)).await;
    let healed = healed.unwrap_or_else(|error| panic!("{what}: afterwards {error}"));
    let truth = site.truth(call).await;
    // Somebody who tries again may meet what the first try has stored.
    let exists = format!("{:?}", Put::Exists);
    assert!(
        healed == truth || healed == exists && truth == "Created",
        "{what}: afterwards {healed}, not {truth}"
    );
}

fn table(foreign: std::net::SocketAddr) -> Vec<(Call, &'static [Op], Lie, Expected)> {
    use Expected::{Again, Denied, Either, Right};
    let mut table = Vec::new();
    let all: [(Call, &'static [Op]); 8] = [
        (Call::Create, &[Op::Put]),
        (Call::Replace, &[Op::Put]),
        (Call::InParts, &[Op::Begin, Op::Part, Op::Finish]),
        (Call::Get, &[Op::Get]),
        (Call::Range, &[Op::Range]),
        (Call::List, &[Op::List]),
        (Call::Page, &[Op::List]),
        (Call::Delete, &[Op::Delete]),
    ];
    for (call, about) in all {
        // Of a deletion only Azure says more than that it is done.
        let bare = if call == Call::Delete { Either } else { Again };
        table.push((call, about, Lie::Html, Again));
        table.push((call, about, Lie::RetryAfter(1), Again));
        table.push((call, about, Lie::LateSuccess, Either));
        table.push((call, about, Lie::Redirect(foreign), Denied));
        table.push((call, about, Lie::Drip, Again));
        if call != Call::Delete {
            table.push((call, about, Lie::Empty, bare));
            table.push((call, about, Lie::Endless, Again));
        }
        if !matches!(call, Call::List | Call::Page | Call::Delete) {
            table.push((call, about, Lie::Untagged, Either));
        }
    }
    for call in [Call::Get, Call::Range] {
        table.push((call, if call == Call::Get { &[Op::Get] } else { &[Op::Range] }, Lie::LongLength, Again));
    }
    for (lie, expected) in [
        (Lie::Whole(CONTENT), Right),
        (Lie::Whole("abc"), Again),
        (Lie::WrongRange, Again),
        (Lie::Refused, Again),
        (Lie::Half, Again),
    ] {
        table.push((Call::Range, &[Op::Range], lie, expected));
    }
    table.push((Call::Get, &[Op::Get], Lie::WrongRange, Again));
    for call in [Call::List, Call::Page] {
        table.push((call, &[Op::List], Lie::SamePage, Either));
        table.push((call, &[Op::List], Lie::SamePageNewToken, Either));
        table.push((call, &[Op::List], Lie::LostToken, Either));
        table.push((call, &[Op::List], Lie::Half, Again));
    }
    table
}

async fn every_lie(name: &'static str) {
    let foreign = elsewhere();
    let cases = table(foreign.local_addr().unwrap());
    for (call, about, lie, expected) in &cases {
        try_one(name, *call, about, *lie, *expected).await;
    }
    assert!(foreign.accept().is_err(), "a redirect was followed");
}

#[tokio::test]
async fn s3_is_not_believed_what_it_cannot_say() {
    every_lie("s3").await;
}

#[tokio::test]
async fn gs_is_not_believed_what_it_cannot_say() {
    every_lie("gs").await;
}

#[tokio::test]
async fn abs_is_not_believed_what_it_cannot_say() {
    every_lie("abs").await;
}

/// The first row of the issue: a listing that says that there is more, but not where, is no empty replica.
#[tokio::test]
async fn a_listing_with_a_lost_token_is_no_listing() {
    for lie in [Lie::LostToken, Lie::SamePage, Lie::SamePageNewToken] {
        let site = Site::new("s3");
        let by = || Deadline::after(Duration::from_secs(20));
        site.direct.put_new(KEY, Body::Whole(CONTENT.into()), MS, by()).await.unwrap();
        site.gate.lie(lie, &[Op::List], usize::MAX);
        let begun = Instant::now();
        for error in
            [site.store.list("", by()).await.unwrap_err(), site.store.directories(by()).await.unwrap_err()]
        {
            assert!(error.may_heal() && error.detail.contains("listing"), "{lie:?}: {error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10) && site.gate.honest() < 10, "{lie:?}");
    }
}

/// What was asked for is bounded: a store that never ends its answer costs no memory.
#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    for (name, call, about) in [
        ("s3", Call::Create, Op::Put),
        ("s3", Call::List, Op::List),
        ("s3", Call::Delete, Op::Delete),
        ("gs", Call::Create, Op::Put),
        ("gs", Call::List, Op::List),
        ("abs", Call::Create, Op::Put),
        ("abs", Call::List, Op::List),
    ] {
        let site = Site::new(name);
        let by = || Deadline::after(Duration::from_secs(20));
        site.direct.put_new(KEY, Body::Whole(CONTENT.into()), MS, by()).await.unwrap();
        site.store.list("", by()).await.unwrap();
        site.gate.lie(Lie::Endless, &[about], usize::MAX);
        let before = resident_kib();
        let _ = site.call(&site.store, call, Deadline::after(Duration::from_secs(3))).await;
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 150 << 10, "{name} {call:?}: {grown} KiB more");
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
