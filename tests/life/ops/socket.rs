//! The socket: whose it is, who may ask, and where it is when it cannot be where it should.

use crate::support::asking::{ask, client, said, status, wait_for_status};
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::{SOON, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn site() -> Site {
    let mut site = Site::in_directory();
    site.settings = format!("[status]\nsocket = {:?}\n", site.path("run/s.sock"));
    site
}

#[test]
fn only_root_and_its_own_user_may_ask() {
    let site = site();
    let mut run = site.run(&["sleep", "600"]);
    wait_for_status("the app", &site.config(), |value| value["phase"] == "running");
    let socket = site.path("run/s.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    if nix::unistd::geteuid().is_root() {
        // A user who reaches the directory, as the app's would, and the program.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let binary = directory.path().join("litevisor");
        std::fs::hard_link(env!("CARGO_BIN_EXE_litevisor"), &binary)
            .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_litevisor"), &binary).map(drop))
            .unwrap();
        for path in [directory.path(), socket.parent().unwrap(), socket.parent().unwrap().parent().unwrap()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for words in [["status", "--socket"], ["sync", "--socket"]] {
            let mut other = Command::new(&binary);
            let said = said(other.args(words).arg(&socket).uid(65534).gid(65534).output().unwrap());
            assert!(said.code == 69 && said.err.contains("not permitted"), "{said:?}");
        }
    }
    assert_eq!(run.stop().code, 143);
}

#[test]
fn a_killed_ones_socket_is_replaced_and_a_living_ones_is_not() {
    let site = site();
    let mut killed = site.run(&["sleep", "600"]);
    wait_for_status("the app", &site.config(), |value| value["phase"] == "running");
    killed.kill_everything();
    assert!(site.path("run/s.sock").exists());
    let mut first = site.run(&["sleep", "600"]);
    let starts = first.wait_for_log("its start", SOON, |line| line.contains("litevisor starts"));
    assert!(starts.contains("s.sock"), "{}", first.log_text());
    wait_for_status("the app", &site.config(), |value| value["phase"] == "running");
    let pid = i64::from(first.pid().as_raw());
    assert_eq!(status(&site.config())["pid"], pid);
    // Another one, of another database, with the same socket: it runs, and says that it cannot be asked.
    let mut other = self::site();
    other.settings = site.settings.clone();
    let mut second = other.run(&["sleep", "600"]);
    second.wait_for_complaint("s.sock belongs to another litevisor", SOON);
    second.wait_for_app();
    assert_eq!(status(&site.config())["pid"], pid);
    let wrong = ask(&other.config(), &["status"]);
    assert!(wrong.code == 69 && wrong.err.contains("other databases"), "{wrong:?}");
    assert_eq!(ask(&other.config(), &["healthcheck"]).code, 1);
    assert_eq!(second.stop().code, 143);
    assert_eq!(status(&site.config())["pid"], pid, "the second took the first one's socket with it");
    assert_eq!(first.stop().code, 143);
    assert!(!site.path("run/s.sock").exists());
}

#[test]
fn with_a_run_that_cannot_be_written_both_sides_meet_elsewhere() {
    let site = Site::in_directory();
    let config = site.config();
    let script = "mount -t tmpfs -o ro none /run && exec \"$0\" run --config \"$1\" -- sleep 600";
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_litevisor")]).arg(&config);
    unshare.env_remove("XDG_RUNTIME_DIR").env_remove("LITEVISOR_CONFIG");
    let mut run = Process::start(unshare);
    let value = wait_for_status("an answer without a file", &config, |value| value["phase"] == "running");
    assert_eq!(value["databases"][0]["database"], site.db().to_str().unwrap());
    let line = run.wait_for_log("where it answers", SOON, |line| line.contains("litevisor starts"));
    assert!(line.contains("@litevisor-"), "{line}");
    assert_eq!(ask(&config, &["healthcheck"]).code, 0);
    nix::sys::signal::kill(run.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(run.wait(SOON).code, 143, "{}", run.log_text());
}

/// As many as like on one machine, with nothing configured: each is found by its own configuration.
#[test]
fn those_that_share_a_machine_are_told_apart() {
    let sites = [Site::in_directory(), Site::in_directory()];
    let mut runs: Vec<_> = sites.iter().map(|site| site.run(&["sleep", "600"])).collect();
    for (site, run) in sites.iter().zip(&runs) {
        let value = wait_for_status("an answer", &site.config(), |value| value["phase"] == "running");
        assert_eq!(value["pid"], i64::from(run.pid().as_raw()), "{value:#}");
        assert_eq!(value["databases"][0]["database"], site.db().to_str().unwrap());
    }
    assert!(runs.iter_mut().all(|run| run.stop().code == 143));
}

#[test]
fn an_address_that_is_taken_is_no_reason_not_to_run() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut site = site();
    site.settings += &format!("listen = \"127.0.0.1:{port}\"\n");
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_complaint(&format!("cannot listen on 127.0.0.1:{port}"), SOON);
    run.wait_for_app();
    drop(taken);
    wait_for("the address after all", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    wait_until("an answer", SOON, || crate::support::asking::http(port, "GET", "/readyz").0 == 200);
    assert_eq!(run.stop().code, 143);
}

/// What is there and is not ours stays; a socket that cannot be had is no reason not to run.
#[test]
fn a_file_in_the_way_stays() {
    let site = site();
    std::fs::create_dir(site.path("run")).unwrap();
    std::fs::write(site.path("run/s.sock"), "mine").unwrap();
    let mut run = site.run(&["sleep", "600"]);
    run.wait_for_complaint("is no socket of ours", SOON);
    run.wait_for_app();
    assert_eq!(run.stop().code, 143);
    assert_eq!(std::fs::read_to_string(site.path("run/s.sock")).unwrap(), "mine");
    assert_eq!(
        said(client(&["healthcheck"]).arg("--socket").arg(site.path("run/s.sock")).output().unwrap()).code,
        1
    );
}
