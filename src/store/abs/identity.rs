//! The identities that Azure gives to machines and programs: chosen by the environment; object_store gets
//! their tokens. Explains why there is no token, by status and error type.

use crate::store::StoreErrorKind::{self, Denied, Invalid, TimedOut, Unreachable};
use crate::store::chain::{chain, find};
use crate::store::http::with_hint;
use http_body_util::{BodyExt, Limited};
use object_store::azure::{AzureCredential, MicrosoftAzureBuilder, authority_hosts::AZURE_PUBLIC_CLOUD};
use object_store::client::{
    ClientOptions, CredentialProvider, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, RetryConfig};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A token is a few KiB.
const ANSWER: usize = 64 << 10;
const METADATA: &str = "http://169.254.169.254";
const NONE: &str = "set account_key or sas_token, or give this machine an identity (AZURE_CLIENT_ID, \
    AZURE_TENANT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or a managed one)";

/// In the order in which Azure's own tools choose.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// A program with a secret.
    Secret { client: String, tenant: String, secret: String, authority: String },
    /// A Kubernetes service account.
    Workload { client: String, tenant: String, file: PathBuf, authority: String },
    /// The machine's; `client` chooses one of several.
    Managed { client: Option<String>, endpoint: String },
}

impl Identity {
    /// The error is a text for the user: which variable is wrong.
    pub(super) fn named_by(env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, String> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let client = plain("AZURE_CLIENT_ID", env("AZURE_CLIENT_ID"))?;
        let tenant = plain("AZURE_TENANT_ID", env("AZURE_TENANT_ID"))?;
        // Kubernetes sets it with a slash, which must not be doubled.
        let authority = env("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AZURE_PUBLIC_CLOUD.to_owned());
        let authority = authority.trim_end_matches('/').to_owned();
        let secret = env("AZURE_CLIENT_SECRET");
        let file = env("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        match (client, tenant, secret, file) {
            (Some(client), Some(tenant), Some(secret), _) => {
                let authority = address("AZURE_AUTHORITY_HOST", authority)?;
                Ok(Identity::Secret { client, tenant, secret, authority })
            }
            (Some(client), Some(tenant), None, Some(file)) => {
                let authority = address("AZURE_AUTHORITY_HOST", authority)?;
                Ok(Identity::Workload { client, tenant, file, authority })
            }
            (client, ..) => Identity::managed(client, &env),
        }
    }

    /// App Service and Container Apps name an address and a header, machines have one address, which pods may
    /// have moved.
    fn managed(client: Option<String>, env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, String> {
        if env("IDENTITY_HEADER").is_some_and(|header| http::HeaderValue::try_from(header).is_err()) {
            return Err("$IDENTITY_HEADER holds what cannot stand in a header".to_owned());
        }
        let endpoint = match env("IDENTITY_ENDPOINT") {
            Some(endpoint) => address("IDENTITY_ENDPOINT", endpoint)?,
            None => {
                let host = env("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| METADATA.to_owned());
                let host = address("AZURE_POD_IDENTITY_AUTHORITY_HOST", host)?;
                format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/'))
            }
        };
        Ok(Identity::Managed { client, endpoint })
    }

    /// Whether its tokens come over plain http.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Identity::Secret { authority: at, .. }
            | Identity::Workload { authority: at, .. }
            | Identity::Managed { endpoint: at, .. } => at.starts_with("http://"),
        }
    }

    pub(super) fn provider(
        &self,
        watched: &Watched,
    ) -> Result<Arc<dyn CredentialProvider<Credential = AzureCredential>>, String> {
        // The caller tries again within its own deadline.
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO };
        // Account and container make no difference to the token.
        let builder = MicrosoftAzureBuilder::new()
            .with_account("any")
            .with_container_name("any")
            .with_retry(retry)
            .with_http_connector(watched.clone());
        let builder = match self.clone() {
            Identity::Secret { client, tenant, secret, authority } => {
                let builder = builder.with_client_secret_authorization(client, secret, tenant);
                builder.with_authority_host(authority).with_credential_type("client_secret")
            }
            Identity::Workload { client, tenant, file, authority } => builder
                .with_client_id(client)
                .with_tenant_id(tenant)
                .with_federated_token_file(file.to_string_lossy())
                .with_authority_host(authority)
                .with_credential_type("workload_identity"),
            Identity::Managed { client, endpoint } => {
                let builder = builder.with_msi_endpoint(endpoint).with_credential_type("managed_identity");
                client.into_iter().fold(builder, MicrosoftAzureBuilder::with_client_id)
            }
        };
        builder.build().map(|store| Arc::clone(store.credentials())).map_err(|error| chain(&error))
    }

    /// Why there is no token. `status`: of the last answer, 0 when there was none.
    pub(super) fn explain(&self, error: &object_store::Error, status: u16) -> (StoreErrorKind, String) {
        if let Identity::Workload { file, .. } = self
            && let Err(error) = std::fs::read(file)
        {
            return (
                Denied,
                format!("cannot read $AZURE_FEDERATED_TOKEN_FILE ({}): {error}", file.display()),
            );
        }
        let kind = match (find::<HttpError>(error).map(HttpError::kind), status) {
            (Some(HttpErrorKind::Timeout), _) => TimedOut,
            (Some(HttpErrorKind::Decode), _) => Invalid,
            (Some(_), _) => Unreachable,
            // What the metadata service answers while it is being updated.
            (None, 404 | 408 | 410 | 429 | 500..) => Unreachable,
            (None, _) => Denied,
        };
        (kind, with_hint(format!("no token from {self}: {}", chain(error)), NONE))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Secret { authority, .. } => write!(f, "{authority} (AZURE_CLIENT_SECRET)"),
            Identity::Workload { authority, .. } => write!(f, "{authority} (AZURE_FEDERATED_TOKEN_FILE)"),
            Identity::Managed { endpoint, .. } => write!(f, "{endpoint} (managed identity)"),
        }
    }
}

/// What becomes part of a URL: an id, a domain.
fn plain(name: &str, value: Option<String>) -> Result<Option<String>, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match value {
        Some(value) if !value.bytes().all(fits) => Err(format!("${name} is no id")),
        value => Ok(value),
    }
}

/// The library panics on what is no address.
fn address(name: &str, value: String) -> Result<String, String> {
    let known = value.starts_with("https://") || value.starts_with("http://");
    let fits =
        reqwest::Url::parse(&value).is_ok_and(|url| url.has_host()) && http::Uri::try_from(&value).is_ok();
    if known && fits { Ok(value) } else { Err(format!("${name} must begin with https:// or http://")) }
}

/// Our client, as the library is given it: remembers the status of the last answer, which the library's
/// errors hide.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    client: reqwest::Client,
    status: Arc<AtomicU16>,
}

impl Watched {
    pub(super) fn new(client: reqwest::Client) -> Watched {
        Watched { client, status: Arc::default() }
    }

    pub(super) fn status(&self) -> u16 {
        self.status.load(Ordering::Relaxed)
    }
}

impl HttpConnector for Watched {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = HttpClient::new(self.client.clone());
        Ok(HttpClient::new(Noted { inner, status: Arc::clone(&self.status) }))
    }
}

#[derive(Debug)]
struct Noted {
    inner: HttpClient,
    status: Arc<AtomicU16>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

// The trait is written for a macro; this is what that makes of an `async fn`.
impl HttpService for Noted {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Answer<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.status.store(0, Ordering::Relaxed);
            let answer = self.inner.execute(request).await?;
            self.status.store(answer.status().as_u16(), Ordering::Relaxed);
            let (parts, body) = answer.into_parts();
            let too_long = |error| HttpError::new(HttpErrorKind::Decode, std::io::Error::other(error));
            let body = HttpResponseBody::new(Limited::new(body, ANSWER).map_err(too_long));
            Ok(HttpResponse::from_parts(parts, body))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(variables: &[(&str, &str)]) -> Result<Identity, String> {
        Identity::named_by(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn shown(variables: &[(&str, &str)]) -> String {
        named(variables).unwrap().to_string()
    }

    const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "6f1e-4c");
    const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "acme.onmicrosoft.com");
    const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "hush");
    const FILE: (&str, &str) = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
    const CHINA: (&str, &str) = ("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn/");

    #[test]
    fn the_environment_names_the_identity() {
        let public = "https://login.microsoftonline.com";
        assert_eq!(shown(&[CLIENT, TENANT, SECRET, FILE]), format!("{public} (AZURE_CLIENT_SECRET)"));
        assert_eq!(shown(&[CLIENT, TENANT, FILE]), format!("{public} (AZURE_FEDERATED_TOKEN_FILE)"));
        let china = "https://login.chinacloudapi.cn (AZURE_FEDERATED_TOKEN_FILE)";
        assert_eq!(shown(&[CLIENT, TENANT, FILE, CHINA]), china);
        let machine = "http://169.254.169.254/metadata/identity/oauth2/token (managed identity)";
        for incomplete in
            [&[][..], &[CLIENT], &[CLIENT, TENANT], &[TENANT, SECRET], &[("AZURE_CLIENT_ID", "")]]
        {
            assert_eq!(shown(incomplete), machine);
        }
        let service = ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token");
        assert_eq!(shown(&[service]), "http://localhost:42356/msi/token (managed identity)");
        let pod = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://10.0.0.1:8080/");
        assert_eq!(shown(&[pod]), "http://10.0.0.1:8080/metadata/identity/oauth2/token (managed identity)");
    }

    #[test]
    fn what_would_make_the_library_panic_is_refused() {
        for wrong in [
            &[("AZURE_CLIENT_ID", "a b")][..],
            &[("AZURE_TENANT_ID", "a/../b")],
            &[("IDENTITY_ENDPOINT", "localhost:42356")],
            &[("IDENTITY_ENDPOINT", "http://")],
            &[("IDENTITY_ENDPOINT", "http://a b/")],
            &[("IDENTITY_HEADER", "a\nb")],
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "ftp://x")],
            &[CLIENT, TENANT, SECRET, ("AZURE_AUTHORITY_HOST", "login.microsoftonline.com")],
        ] {
            let message = named(wrong).err().unwrap();
            assert!(message.starts_with('$'), "{message}");
        }
    }

    #[test]
    fn plain_http_is_known() {
        for (variables, plain) in [
            (&[][..], true),
            (&[CLIENT, TENANT, SECRET], false),
            (&[("IDENTITY_ENDPOINT", "https://localhost/token")], false),
        ] {
            assert_eq!(named(variables).unwrap().is_plain(), plain);
        }
    }

    #[test]
    fn failures_map_to_kinds() {
        let identity = named(&[]).unwrap();
        let other = || object_store::Error::Generic { store: "test", source: "refused".into() };
        let http = |kind| {
            let source = HttpError::new(kind, std::io::Error::other("gone"));
            object_store::Error::Generic { store: "test", source: Box::new(source) }
        };
        for (error, status, kind) in [
            (http(HttpErrorKind::Timeout), 0, TimedOut),
            (http(HttpErrorKind::Connect), 0, Unreachable),
            (http(HttpErrorKind::Decode), 200, Invalid),
            (other(), 400, Denied),
            (other(), 401, Denied),
            (other(), 404, Unreachable),
            (other(), 410, Unreachable),
            (other(), 429, Unreachable),
            (other(), 500, Unreachable),
            (other(), 0, Denied),
        ] {
            let (found, detail) = identity.explain(&error, status);
            assert_eq!(found, kind, "{status} {error}");
            assert!(detail.starts_with("no token from http://169.254.169.254"), "{detail}");
        }
        let gone = named(&[CLIENT, TENANT, ("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")]).unwrap();
        let (kind, detail) = gone.explain(&other(), 0);
        assert!(kind == Denied && detail.contains("/nowhere/token"), "{detail}");
    }
}
