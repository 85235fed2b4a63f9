//! moto, an implementation of S3 (and more of AWS) for tests: a second opinion beside SeaweedFS. It accepts
//! any keys.

#![allow(dead_code)]

use super::server::{Server, program};
use std::process::Command;
use std::sync::OnceLock;

/// The one server that all tests of a binary may share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(start)
}

pub fn start() -> Server {
    Server::start("moto", |port, _| {
        let mut command = Command::new(program("moto/bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    })
}
