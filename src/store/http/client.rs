//! Builds the client: never retries, follows no redirect, trusts what `certs` says. The certificates are read for https
//! alone.

use crate::store::certs;
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A host that drops packets: leave time for another try before the caller's deadline.
const CONNECT: Duration = Duration::from_secs(5);

/// `plain`: nothing but http will be asked for. The error is a text for the user.
pub(in crate::store) async fn client(ca_file: Option<&Path>, plain: bool) -> Result<reqwest::Client, String> {
    let roots = if plain { RootCertStore::empty() } else { certs::load(ca_file).await?.roots };
    builder(roots)?.build().map_err(|error| error.to_string())
}

/// For a service of the machine itself, such as its metadata server: plain http, and through no proxy.
pub(in crate::store) fn local_client() -> Result<reqwest::Client, String> {
    builder(RootCertStore::empty())?.no_proxy().build().map_err(|error| error.to_string())
}

fn builder(roots: RootCertStore) -> Result<reqwest::ClientBuilder, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("litevisor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
        .http1_only())
}
