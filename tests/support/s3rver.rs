//! s3rver, a small S3 server: the one that ignores conditional writes. It knows one pair of keys.

#![allow(dead_code)]

use crate::server::{Server, program};
use std::process::Command;
use std::sync::OnceLock;

/// Both halves of the only pair.
pub const KEY: &str = "S3RVER";
pub const BUCKET: &str = "bucket";

/// The one server that all tests of a binary may share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(start)
}

pub fn start() -> Server {
    Server::start("s3rver", |port, directory| {
        let mut command = Command::new(program("s3rver/node_modules/.bin/s3rver"));
        command.arg("-d").arg(directory.join("data"));
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--configure-bucket", BUCKET]);
        // Its page tokens are DES, which OpenSSL 3 keeps for those who ask.
        command.env("NODE_OPTIONS", "--openssl-legacy-provider");
        command
    })
}
