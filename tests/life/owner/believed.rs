//! A client believes root and its own user only: another user may have the socket's name first.

use super::place::{litevisor, said, site};
use crate::support::{SOON, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = r#"
import os, socket, sys
name, ready = sys.argv[1], open(sys.argv[2], 'w')
os.setgroups([]); os.setgid(4242); os.setuid(4242)
server = socket.socket(socket.AF_UNIX)
server.bind('\0' + name[1:] if name.startswith('@') else name)
server.listen(8)
ready.write('x'); ready.flush()
body = '{"complete":true,"phase":"running","ready":true,"databases":[{"database":"/a","complete":true,"uploaded":"9"}]}'
while True:
    client, _ = server.accept()
    try:
        client.recv(65536)
        client.sendall(('HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body)).encode())
    except OSError:
        pass
    client.close()
"#;

/// User 4242 answers everything with "all is well".
fn liar(name: &str, ready: &Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT, name]).arg(ready).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    wait_until("the other user's socket", SOON, || std::fs::read(ready).is_ok_and(|text| !text.is_empty()));
    child
}

#[test]
fn another_users_socket_is_not_believed() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut site = site();
    // The name without a file, as errors write it.
    site.settings = String::new();
    let (_, told) = said(&litevisor(&site.config(), &["healthcheck"]));
    let start = told.find("@litevisor-").unwrap_or_else(|| panic!("{told}"));
    let name = told[start..].split(':').next().unwrap().to_owned();
    assert_eq!(name.split('-').count(), 4, "it tells containers apart: {name}");
    // A directory of the other user.
    let open = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = open.path().join("s.sock");
    for name in [name.as_str(), path.to_str().unwrap()] {
        let mut liar = liar(name, &site.path("ready"));
        for words in [
            vec!["healthcheck", "--socket", name],
            vec!["status", "--socket", name],
            vec!["sync", "--socket", name],
            vec!["sync", "--timeout", "5s"],
        ] {
            if words.len() == 3 && words[1] == "--timeout" && !name.starts_with('@') {
                continue;
            }
            let (code, told) = said(&litevisor(&site.config(), &words));
            let refused = if words[0] == "healthcheck" { 1 } else { 69 };
            assert_eq!(code, refused, "{words:?}: {told}");
            assert!(told.contains("user 4242") && told.contains("is refused"), "{words:?}: {told}");
        }
        if !name.starts_with('@') {
            let mut other = super::place::site();
            other.settings = format!("[status]\nsocket = {name:?}\n");
            let mut run = other.run(&["true"]);
            assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
            let log = run.log_text();
            assert!(log.contains("is taken by a process of user 4242"), "{log}");
        }
        liar.kill().unwrap();
        liar.wait().unwrap();
        std::fs::remove_file(site.path("ready")).unwrap();
    }
}

/// Two containers on one network (a pod, `--network host`) have different roots, and so different names; a
/// shell beside a service with a mount namespace of its own has the same one.
#[test]
fn containers_on_one_network_do_not_meet() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut site = site();
    site.settings = String::new();
    let (config, room) = (site.config(), site.path("room"));
    std::fs::create_dir(&room).unwrap();
    let name = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(&room)
            .arg(env!("CARGO_BIN_EXE_litevisor"))
            .arg(&config);
        let (_, told) = said(&command.env_remove("XDG_RUNTIME_DIR").output().unwrap());
        told.split(['@', ':']).find(|part| part.starts_with("litevisor-")).map(str::to_owned)
    };
    let beside = name("exec \"$2\" --config \"$3\" healthcheck");
    let (_, told) = said(&litevisor(&config, &["healthcheck"]));
    assert!(beside.as_ref().is_some_and(|name| told.contains(&format!("@{name}:"))), "{beside:?} {told}");
    let container = name(
        "mount -t tmpfs t \"$1\"; mkdir \"$1/u\" \"$1/w\" \"$1/m\"\n\
         mount -t overlay o -o lowerdir=/,upperdir=\"$1/u\",workdir=\"$1/w\" \"$1/m\" || exit 32\n\
         exec chroot \"$1/m\" \"$2\" --config \"$3\" healthcheck",
    );
    // None: this kernel has no overlay here.
    assert_ne!(container, beside);
}
