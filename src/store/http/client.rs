//! Builds HTTP clients: they repeat nothing, follow no redirect, trust the certificates of `certs`, and use
//! the proxies that the environment names. The certificates are read for https alone.

use crate::store::certs;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A host that drops packets: leave time for another try before the caller's deadline.
const CONNECT: Duration = Duration::from_secs(5);
/// Services and what stands before them close what idles longer, some of them without a word.
const IDLE: Duration = Duration::from_secs(30);
/// The kernel ends a connection on which nothing that was sent has been acknowledged for so long.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// `plain`: nothing but http will be asked for. The error is a text for the user.
pub(super) async fn tls(ca_file: Option<&Path>, plain: bool) -> Result<ClientConfig, String> {
    let roots = if plain { RootCertStore::empty() } else { certs::load(ca_file).await?.roots };
    with_roots(roots)
}

/// For a service of the machine itself, such as its metadata server: plain http, and through no proxy.
pub(in crate::store) fn local_client() -> Result<reqwest::Client, String> {
    let tls = with_roots(RootCertStore::empty())?;
    builder(tls).no_proxy().build().map_err(|error| error.to_string())
}

/// For URLs that are no store's.
pub(in crate::store) async fn web_client() -> Result<reqwest::Client, String> {
    client(tls(None, false).await?)
}

pub(super) fn client(tls: ClientConfig) -> Result<reqwest::Client, String> {
    builder(tls).build().map_err(|error| error.to_string())
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("litevisor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .redirect(Policy::none())
        .http1_only()
}
