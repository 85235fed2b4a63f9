//! Real programs through the gate: HTTP/1.1, HTTP/2 without TLS, Server-Sent Events, WebSocket and gRPC pass
//! byte for byte, and what each of them acknowledged survives the loss of everything.

use super::Gated;
use crate::support::site::Site;
use crate::support::{SOON, repository};
use std::io::Write;
use std::process::{Command, Stdio};

const MESSAGES: usize = 20;

fn python() -> String {
    repository().join(".cache/peers/gate-programs/bin/python").to_str().unwrap().to_owned()
}

fn script() -> String {
    repository().join("tests/life/gate/programs.py").to_str().unwrap().to_owned()
}

fn run_script(args: &[&str], input: &str) -> String {
    let mut command = Command::new(python());
    command.arg(script()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn acknowledged_messages_survive(protocol: &str, server: &str, expected: usize) {
    let gated = Gated::new(Site::in_directory(), "");
    let db = gated.site.db();
    let db = db.to_str().unwrap();
    let words = [&python(), &script(), "serve", server, db];
    let mut run = gated.site.run(&words);
    drop(gated.client());
    let told = run_script(&[protocol, &gated.port.to_string(), &MESSAGES.to_string()], "");
    run.kill_everything();
    assert_eq!(told.lines().count(), expected, "{protocol}");
    gated.site.wipe();
    let mut run = gated.site.run(&words);
    drop(gated.client());
    assert_eq!(run_script(&["missing", db], &told), "", "{protocol}");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.wait(SOON);
}

/// LITEVISOR_GATE_MIB=1024: larger ones.
#[test]
fn a_large_upload_and_a_large_download() {
    let gated = Gated::new(Site::in_directory(), "");
    let db = gated.site.db();
    let mut run = gated.site.run(&[&python(), &script(), "serve", "http", db.to_str().unwrap()]);
    drop(gated.client());
    let mib = std::env::var("LITEVISOR_GATE_MIB").unwrap_or("16".into());
    for protocol in ["http", "h2c"] {
        run_script(&["large", protocol, &gated.port.to_string(), &mib], "");
    }
    run.stop();
}

#[test]
fn http_1() {
    acknowledged_messages_survive("http", "http", MESSAGES);
}

#[test]
fn http_2_without_tls() {
    acknowledged_messages_survive("h2c", "http", MESSAGES);
}

#[test]
fn server_sent_events() {
    acknowledged_messages_survive("sse", "http", MESSAGES);
}

#[test]
fn web_socket() {
    acknowledged_messages_survive("websocket", "http", MESSAGES);
}

#[test]
fn grpc() {
    acknowledged_messages_survive("grpc", "grpc", 2 * MESSAGES);
}
