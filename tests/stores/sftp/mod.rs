//! SFTP: the suite of all stores on a real OpenSSH, with everything that it offers and with plain version 3;
//! and what is special to it. Who may log in, and which host is believed, is in sftp/trust.rs; what breaks in
//! sftp/breaks.rs.

mod breaks;
mod trust;

use crate::suite::{soon, whole};
use crate::support::sshd;
use crate::support::sshd::{KINDS, Sshd};
use bytes::Bytes;
use litevisor::testing::store::{self, Body, Put, Store, StoreErrorKind, StoreSettings};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// Everything that OpenSSH offers.
mod openssh {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                let server = super::Sshd::shared();
                let root = super::fresh(stringify!($check));
                crate::suite::$check(super::open(&server.settings(&root))).await;
                super::nothing_is_left(&server.data(&root)).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

/// Version 3 alone, as small servers have it: no hard links, no rename over, no sync.
mod plain {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $(#[tokio::test]
            async fn $check() {
                // Without hard links the server does not decide between two creates.
                if stringify!($check) == "a_store_that_decides_is_accepted" {
                    return;
                }
                let server = super::plain();
                let root = super::fresh(stringify!($check));
                crate::suite::$check(super::open(&server.settings(&root))).await;
                super::nothing_is_left(&server.data(&root)).await;
            })*
        };
    }
    crate::suite::every_check!(run);
}

#[tokio::test]
async fn a_server_without_hard_links_is_refused_for_a_hand_over() {
    crate::handover::it_is_refused(open(&plain().settings(&fresh("refused")))).await;
}

const PLAIN: &str = "Subsystem sftp internal-sftp -P hardlink,posix-rename,fsync,statvfs,limits\n";

fn plain() -> &'static Sshd {
    static SHARED: OnceLock<Sshd> = OnceLock::new();
    SHARED.get_or_init(|| Sshd::with(PLAIN, &KINDS))
}

pub fn fresh(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}/replica", NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).unwrap()
}

pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            names.extend(self::names(&entry.path()).iter().map(|below| format!("{name}/{below}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// No temporary file. A caller that stopped waiting does not wait for the removal either.
pub async fn nothing_is_left(directory: &Path) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let left: Vec<String> = names(directory).into_iter().filter(|name| name.ends_with(".tmp")).collect();
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "left behind: {left:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn files_are_the_owners_only_and_have_the_given_time() {
    use std::os::unix::fs::MetadataExt;
    let server = Sshd::shared();
    let root = fresh("modes");
    let store = open(&server.settings(&root));
    store.put_new("ltx/0/a.ltx", whole("x"), 1_795_327_279_453, soon()).await.unwrap();
    let file = std::fs::metadata(server.data(&root).join("ltx/0/a.ltx")).unwrap();
    assert_eq!((file.mode() & 0o777, file.mtime(), file.nlink()), (0o600, 1_795_327_279, 1));
    for directory in ["", "ltx", "ltx/0"] {
        assert_eq!(std::fs::metadata(server.data(&root).join(directory)).unwrap().mode() & 0o777, 0o700);
    }
    for (at, (ms, seconds)) in [(-5, 0), (i64::MAX, u32::MAX)].into_iter().enumerate() {
        let key = format!("ltx/1/{at}");
        store.put_new(&key, whole("x"), ms, soon()).await.unwrap();
        let listed = store.list(&key, soon()).await.unwrap();
        assert_eq!(listed[0].modified_ms, i64::from(seconds) * 1000);
    }
}

#[tokio::test]
async fn a_listing_of_two_thousand_files_is_complete_and_fast() {
    let server = Sshd::shared();
    let root = fresh("long");
    let directory = server.data(&root).join("ltx/0");
    std::fs::create_dir_all(&directory).unwrap();
    for number in 0..2000 {
        std::fs::write(directory.join(format!("{number:016x}-{number:016x}.ltx")), "x").unwrap();
    }
    let store = open(&server.settings(&root));
    store.list("", soon()).await.unwrap();
    let started = std::time::Instant::now();
    let listed = store.list("ltx/", soon()).await.unwrap();
    assert_eq!(listed.len(), 2000);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_listing_follows_links_to_files_and_sees_nothing_else() {
    let server = Sshd::shared();
    let root = fresh("links");
    let directory = server.data(&root);
    std::fs::create_dir_all(directory.join("ltx/0")).unwrap();
    std::fs::write(directory.join("ltx/0/a.ltx"), "1234").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, directory.join(name)).unwrap();
    link("a.ltx", "ltx/0/b.ltx");
    link("nowhere", "ltx/0/c.ltx");
    link("..", "ltx/0/up");
    link("ltx", "also");
    nix::unistd::mkfifo(&directory.join("ltx/0/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let store = open(&server.settings(&root));
    let mut listed = store.list("", soon()).await.unwrap();
    listed.sort_by(|a, b| a.key.cmp(&b.key));
    let told: Vec<(&str, u64)> = listed.iter().map(|object| (object.key.as_str(), object.size)).collect();
    assert_eq!(told, [("ltx/0/a.ltx", 4), ("ltx/0/b.ltx", 4)]);
    let mut directories = store.directories(soon()).await.unwrap();
    directories.sort();
    assert_eq!(directories, ["also", "ltx"]);
    let error = store.get("ltx/0", None, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn what_a_killed_upload_left_goes_after_a_day() {
    let server = Sshd::shared();
    let root = fresh("stale");
    let directory = server.data(&root).join("ltx/0");
    std::fs::create_dir_all(&directory).unwrap();
    let (day, file) = (Duration::from_secs(86_400), |name: &str, age: Duration| {
        let file = std::fs::File::create(directory.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    });
    file("a.ltx.0123456789abcdef.tmp", 2 * day);
    file("b.ltx.0123456789abcdef.tmp", day / 2);
    // Litestream's own.
    file("c.ltx.17.1795327279453000000.tmp", 2 * day);
    let store = open(&server.settings(&root));
    assert_eq!(store.list("", soon()).await.unwrap(), []);
    assert_eq!(names(&directory).len(), 3, "who only reads removes nothing");
    store.put_new("ltx/0/d.ltx", whole("x"), 0, soon()).await.unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while directory.join("a.ltx.0123456789abcdef.tmp").exists() {
        assert!(std::time::Instant::now() < end, "it stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = ["b.ltx.0123456789abcdef.tmp", "c.ltx.17.1795327279453000000.tmp", "d.ltx"];
    assert_eq!(names(&directory), left);
}

#[tokio::test]
async fn many_transfers_share_one_connection() {
    let server = Sshd::start();
    let stores = store::Stores::default();
    let count = || server.log().matches("Accepted publickey").count();
    let content: Bytes = (0..3_000_001u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into();
    let mut tasks = Vec::new();
    for number in 0..80 {
        let store = stores.open(&server.settings(&format!("db-{number}"))).unwrap();
        let content = if number % 8 == 0 { content.clone() } else { content.slice(..1000) };
        tasks.push(tokio::spawn(async move {
            let put = store.put_new("ltx/9/a.ltx", Body::Whole(content.clone()), 0, soon()).await.unwrap();
            assert_eq!(put, Put::Created);
            assert!(store.get("ltx/9/a.ltx", None, soon()).await.unwrap() == content);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_path_in_the_users_home_works() {
    let Some(guest) = sshd::Guest::new("home") else { return };
    let server = Sshd::start();
    // Its home is /, so that is where the path begins.
    let root = fresh("home");
    guest.own(server.data(&root).parent().unwrap());
    let mut settings = server.settings(&root);
    settings.path = settings.path.trim_start_matches('/').to_owned();
    (settings.sftp.user, settings.sftp.password) = (guest.name.clone(), Some(guest.password.clone()));
    settings.sftp.key_file = None;
    let store = open(&settings);
    store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap();
    assert_eq!(names(&server.data(&root)), ["ltx/0/a.ltx"]);
    assert_eq!(store.list("", soon()).await.unwrap().len(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    type Spoil = fn(&mut StoreSettings);
    let cases: [(Spoil, &str); 3] = [
        (|s| s.sftp.user.clear(), "sftp://USER@HOST/PATH"),
        (|s| s.path.clear(), "sftp://USER@HOST/PATH"),
        (|s| s.sftp.host_key = Some("what".to_owned()), "ssh-keyscan"),
    ];
    for (spoil, expected) in cases {
        let mut settings = Sshd::shared().settings("x");
        assert!(store::open(&settings).is_ok());
        spoil(&mut settings);
        let error = store::open(&settings).err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// It is read in parts, and a writer adds a file in the order of the names all the time.
#[test]
fn a_listing_beside_a_writer_has_no_gap() {
    const FILES: usize = 6_000;
    let server = Sshd::shared();
    let root = fresh("beside");
    let directory = server.data(&root).join("ltx/0");
    std::fs::create_dir_all(&directory).unwrap();
    let store = open(&server.settings(&root));
    let name = |number: usize| format!("ltx/0/{number:016x}-{number:016x}.ltx");
    let over = std::sync::atomic::AtomicBool::new(false);
    let path = server.data(&root);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1..=FILES {
                std::fs::write(path.join(name(number)), "x").unwrap();
            }
            over.store(true, Ordering::Release);
        });
        let listed = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while !over.load(Ordering::Acquire) {
            let mut names: Vec<_> = listed
                .block_on(store.list("", soon()))
                .unwrap()
                .into_iter()
                .map(|object| object.key)
                .collect();
            names.sort();
            let expected: Vec<_> = (1..=names.len()).map(name).collect();
            assert!(names == expected, "{} names, the last is {:?}", names.len(), names.last());
        }
    });
}
