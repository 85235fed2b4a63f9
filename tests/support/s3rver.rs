//! s3rver, a small S3 server: the one that ignores conditional writes. It must know a key's name, but does
//! not check signatures in headers; SeaweedFS's pair is made known to it beside its own.

#![allow(dead_code)]

use super::seaweed::{ACCESS_KEY, SECRET_KEY};
use super::server::{Server, program};
use std::process::Command;
use std::sync::OnceLock;

pub const BUCKET: &str = "bucket";

/// The one server that all tests of a binary may share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(start)
}

pub fn start() -> Server {
    let home = program("s3rver/node_modules/s3rver");
    let home = home.to_str().unwrap();
    let script = format!(
        "require('{home}/lib/models/account').DUMMY_ACCOUNT.createKeyPair('{ACCESS_KEY}', '{SECRET_KEY}'); \
         process.argv.splice(1, 0, 's3rver'); require('{home}/bin/s3rver.js')"
    );
    Server::start("s3rver", |port, directory| {
        let mut command = Command::new("node");
        // Its page tokens are DES, which OpenSSL 3 keeps for those who ask.
        command.args(["--openssl-legacy-provider", "-e", &script, "--", "-d"]).arg(directory.join("data"));
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--configure-bucket", BUCKET]);
        command
    })
}
