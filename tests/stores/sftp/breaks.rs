//! What breaks: connections, servers, disks, permissions.

use super::{fresh, names, nothing_is_left, open};
use crate::suite::{soon, whole};
use crate::support::net::{self, Mode};
use crate::support::sshd::{Guest, KINDS, Sshd};
use bytes::Bytes;
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{self, Body, Chunk, Put, Store, StoreError, StoreErrorKind, StoreSettings};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

async fn again<'a, T>(ask: impl FnMut(Deadline) -> store::StoreFuture<'a, T>) -> T {
    store::retry::run(soon(), Duration::from_secs(10), |_, _| {}, ask).await.unwrap()
}

const CALLS: u32 = 5;

async fn call(number: u32, store: &Arc<dyn Store>, by: Deadline) -> Result<(), StoreError> {
    match number {
        0 => store.list("", by).await.map(drop),
        1 => store.get("a", None, by).await.map(drop),
        2 => store.put_new("a", whole("x"), 0, by).await.map(drop),
        3 => store.put("a", Bytes::new(), by).await,
        _ => store.delete(&["a".to_owned()], by).await,
    }
}

/// Runs every kind of call; each must end by the deadline with this kind.
async fn every_call_fails(store: &Arc<dyn Store>, span: Duration, kind: StoreErrorKind) {
    for number in 0..CALLS {
        let (by, started) = (Deadline::after(span), Instant::now());
        let error = call(number, store, by).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(
            started.elapsed() < span + Duration::from_millis(500),
            "{error} took {:?}",
            started.elapsed()
        );
    }
}

fn at(settings: &StoreSettings, port: u16) -> StoreSettings {
    let mut settings = settings.clone();
    settings.sftp.port = port;
    settings
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let store = open(&at(&Sshd::shared().settings("x"), net::refusing_port()));
    every_call_fails(&store, Duration::from_secs(5), StoreErrorKind::Unreachable).await;
}

#[tokio::test]
async fn a_silent_server_is_held_to_the_deadline() {
    let store = open(&at(&Sshd::shared().settings("x"), net::black_hole().port()));
    every_call_fails(&store, Duration::from_millis(400), StoreErrorKind::TimedOut).await;
}

#[tokio::test]
async fn what_is_no_ssh_server_is_told() {
    let store = open(&at(&Sshd::shared().settings("x"), net::http_500().port()));
    let error = store.list("", soon()).await.unwrap_err();
    assert!(error.detail.contains("127.0.0.1") && error.kind != StoreErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_server_without_sftp_is_told() {
    let server = Sshd::with("", &KINDS);
    let error = open(&server.settings("x")).list("", soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.detail.contains("Subsystem sftp"), "{error}");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_an_upload_leaves_no_object() {
    let server = Sshd::start();
    let store = open(&server.settings("cut"));
    let (sender, receiver) = mpsc::channel(1);
    let feed = async {
        for piece in 0..40 {
            if piece == 20 {
                server.cut();
            }
            if sender.send(Chunk::Data(vec![7; 1 << 18].into())).await.is_err() {
                return;
            }
        }
        let _ = sender.send(Chunk::End).await;
    };
    let (put, ()) = tokio::join!(store.put_new("ltx/9/a.ltx", Body::Stream(receiver), 0, soon()), feed);
    let error = put.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    // The next call connects anew; the left-over is no object.
    assert_eq!(store.list("", soon()).await.unwrap(), []);
    let put = store.put_new("ltx/9/a.ltx", Body::Whole(vec![9; 3 << 20].into()), 0, soon()).await.unwrap();
    assert_eq!(put, Put::Created);
    assert_eq!(store.get("ltx/9/a.ltx", Some(5..8), soon()).await.unwrap(), [9; 3].as_slice());
    let left = names(&server.data("cut"));
    assert_eq!(left.iter().filter(|name| !name.ends_with(".tmp")).count(), 1, "{left:?}");
}

#[tokio::test]
async fn a_server_that_went_away_and_came_back_works_again() {
    let server = Sshd::start();
    let store = open(&server.settings("outage"));
    store.put_new("ltx/0/a.ltx", whole("before"), 0, soon()).await.unwrap();
    server.kill();
    let error = store.get("ltx/0/a.ltx", None, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    server.launch();
    assert_eq!(again(|by| store.get("ltx/0/a.ltx", None, by)).await, "before");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_left() {
    let server = Sshd::start();
    let proxy = net::delaying_proxy(format!("127.0.0.1:{}", server.port()).parse().unwrap(), Duration::ZERO);
    let store = open(&at(&server.settings("silent"), proxy.address.port()));
    store.put_new("ltx/0/a.ltx", whole("before"), 0, soon()).await.unwrap();
    proxy.set(Mode::BlackHole);
    let started = Instant::now();
    let error =
        store.get("ltx/0/a.ltx", None, Deadline::after(Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TimedOut, "{error}");
    // What went into the hole is lost, so this connection stays dead although the network is back.
    proxy.set(Mode::Pass);
    let get = |_| store.get("ltx/0/a.ltx", None, Deadline::after(Duration::from_secs(1)));
    assert_eq!(again(get).await, "before");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(proxy.connections(), 2);
}

/// A connection that ends while it is idle, in the middle of a call, or without a word.
#[tokio::test]
async fn every_call_connects_anew_after_a_break() {
    let server = Sshd::start();
    let proxy = net::delaying_proxy(format!("127.0.0.1:{}", server.port()).parse().unwrap(), Duration::ZERO);
    for number in 0..CALLS {
        let store = open(&at(&server.settings(&format!("anew-{number}")), proxy.address.port()));
        let works = async || {
            let tried = |by| -> store::StoreFuture<'_, ()> { Box::pin(call(number, &store, by)) };
            store::retry::run(soon(), Duration::from_secs(2), |_, _| {}, tried).await.unwrap();
        };
        store.put_new("a", whole("x"), 0, soon()).await.unwrap();
        server.cut();
        works().await;
        store.put("a", Bytes::new(), soon()).await.unwrap();
        server.signal_connections(Signal::SIGSTOP);
        let cut = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.cut();
        };
        let (answer, ()) = tokio::join!(call(number, &store, soon()), cut);
        assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Unreachable, "{number}");
        works().await;
        store.put("a", Bytes::new(), soon()).await.unwrap();
        proxy.set(Mode::BlackHole);
        let error = call(number, &store, Deadline::after(Duration::from_millis(300))).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::TimedOut, "{error}");
        proxy.set(Mode::Pass);
        works().await;
    }
}

/// A gateway whose own connection is lost says so to every request, and keeps ours open.
#[tokio::test]
async fn a_server_that_says_that_its_connection_is_lost_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (script, mark) = (directory.path().join("gateway.py"), directory.path().join("mark"));
    std::fs::write(&script, GATEWAY).unwrap();
    let options = format!("Subsystem sftp /usr/bin/env python3 {} {}\n", script.display(), mark.display());
    let server = Sshd::with(&options, &KINDS);
    for number in 0..CALLS {
        let _ = std::fs::remove_file(&mark);
        let store = open(&server.settings("gateway"));
        std::fs::create_dir_all(server.data("gateway")).unwrap();
        std::fs::write(server.data("gateway/a"), "x").unwrap();
        let error = call(number, &store, soon()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
        call(number, &store, soon()).await.unwrap();
    }
}

/// The first connection has lost what is behind it (`SSH_FX_NO_CONNECTION`), later ones are OpenSSH's.
const GATEWAY: &str = r#"
import os, struct, sys
if os.path.exists(sys.argv[1]):
    for server in ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]:
        if os.path.exists(server):
            os.execv(server, [server])
open(sys.argv[1], "w").close()
read, write = sys.stdin.buffer, sys.stdout.buffer
while True:
    length = read.read(4)
    if len(length) < 4:
        break
    packet = read.read(struct.unpack(">I", length)[0])
    text = struct.pack(">I", 0)
    answer = b"" + struct.pack(">I", 3) if packet[0] == 1 else b"e" + packet[1:5] + struct.pack(">I", 6) + text + text
    write.write(struct.pack(">I", len(answer)) + answer)
    write.flush()
"#;

#[tokio::test]
async fn a_server_that_stops_for_a_while_is_waited_for() {
    let server = Sshd::start();
    let store = open(&server.settings("slow"));
    store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap();
    server.signal_connections(Signal::SIGSTOP);
    let get = store.get("ltx/0/a.ltx", None, soon());
    let go_on = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.signal_connections(Signal::SIGCONT);
    };
    let (bytes, ()) = tokio::join!(get, go_on);
    assert_eq!(bytes.unwrap(), "x");
    assert_eq!(server.log().matches("Accepted publickey").count(), 1);
}

#[tokio::test]
async fn a_directory_without_permission_is_denied_and_named() {
    let server = Sshd::shared();
    let Some(guest) = Guest::new("denied") else { return };
    let root = fresh("denied");
    let directory = server.data(&root);
    std::fs::create_dir_all(directory.join("ltx/0")).unwrap();
    std::fs::set_permissions(directory.join("ltx"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut settings = server.settings(&root);
    (settings.sftp.user, settings.sftp.password) = (guest.name.clone(), Some(guest.password.clone()));
    settings.sftp.key_file = None;
    let store = open(&settings);
    for error in [
        store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap_err(),
        store.put_new("new/a.ltx", whole("x"), 0, soon()).await.unwrap_err(),
        store.list("ltx/", soon()).await.unwrap_err(),
        store.get("ltx/0/a.ltx", None, soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(
            error.subject.contains(directory.to_str().unwrap()) && error.detail.contains("owner and mode"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_read_only_server_serves_reads_and_denies_writes() {
    let server = Sshd::with("Subsystem sftp internal-sftp -R\n", &KINDS);
    std::fs::create_dir_all(server.data("x/ltx/0")).unwrap();
    std::fs::write(server.data("x/ltx/0/a.ltx"), "old").unwrap();
    let store = open(&server.settings("x"));
    assert_eq!(store.get("ltx/0/a.ltx", None, soon()).await.unwrap(), "old");
    for error in [
        store.put_new("ltx/0/b.ltx", whole("x"), 0, soon()).await.unwrap_err(),
        store.put("ltx/0/a.ltx", Bytes::new(), soon()).await.unwrap_err(),
        store.delete(&["ltx/0/a.ltx".to_owned()], soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    }
    assert_eq!(names(&server.data("x")), ["ltx/0/a.ltx"]);
}

#[tokio::test]
async fn a_file_in_the_way_is_told() {
    let server = Sshd::shared();
    let root = fresh("in-the-way");
    std::fs::create_dir_all(server.data(&root)).unwrap();
    std::fs::write(server.data(&root).join("ltx"), "a file").unwrap();
    let store = open(&server.settings(&root));
    let error = store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
    assert!(error.detail.contains("a file stands where a directory is needed"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("a full disk is tested as root only: it is mounted");
    }
    let server = Sshd::shared();
    let root = server.data("full");
    std::fs::create_dir_all(&root).unwrap();
    let disk = Small::mount(&root);
    let store = open(&server.settings("full"));
    store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap();
    let error =
        store.put_new("ltx/9/b.ltx", Body::Whole(vec![7; 3 << 20].into()), 0, soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    assert!(error.detail.contains("no space is left"), "{error}");
    nothing_is_left(&root).await;
    // Once there is room, it goes on.
    store.put_new("ltx/9/b.ltx", Body::Whole(vec![7; 100 << 10].into()), 0, soon()).await.unwrap();
    assert_eq!(names(&root), ["ltx/0/a.ltx", "ltx/9/b.ltx"]);
    drop(disk);
}

/// A file system of 1 MiB, there until it is dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &std::path::Path) -> Small {
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).status().unwrap().success());
        Small(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
