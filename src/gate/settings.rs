//! What the configuration says about a gate; filled in by `config`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSettings {
    pub listen: ListenAddress,
    pub app: AppAddress,
    pub accept: Accept,
    /// How long a byte is held at most.
    pub timeout: Duration,
    pub on_failure: OnFailure,
    /// Between two uploads that the gate requests.
    pub min_interval: Duration,
    pub max_connections: usize,
    /// Sends the client's address to the app as a PROXY header, version 2.
    pub proxy_protocol: bool,
    /// The app's `PORT` is the port of `app`. None: if the environment has a `PORT`.
    pub set_port: Option<bool>,
}

impl GateSettings {
    /// With the default of each setting.
    pub fn new(listen: ListenAddress, app: AppAddress) -> GateSettings {
        GateSettings {
            listen,
            app,
            accept: Accept::Ready,
            timeout: Duration::from_secs(30),
            on_failure: OnFailure::Close,
            min_interval: Duration::ZERO,
            max_connections: 10_000,
            proxy_protocol: false,
            set_port: None,
        }
    }
}

/// When the gate accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// From the first moment at which the app accepts connections.
    Ready,
    /// At once; the connections wait for the app.
    Early,
}

/// What happens to bytes of which the gate cannot prove that what they acknowledge is in the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The connection is reset, and the bytes are never sent.
    Close,
    /// They are sent; the log and the metrics report it.
    Pass,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// In the order in which they are tried: `localhost` has two.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl AppAddress {
    pub fn port(&self) -> Option<u16> {
        match self {
            AppAddress::Tcp(addresses) => addresses.first().map(SocketAddr::port),
            AppAddress::Unix(_) => None,
        }
    }
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            AppAddress::Tcp(addresses) => match addresses.as_slice() {
                [address] => write!(f, "{address}"),
                [address, ..] => write!(f, "localhost:{}", address.port()),
                [] => Ok(()),
            },
        }
    }
}
