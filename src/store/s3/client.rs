//! Builds the SDK's client, once, at the first request. In: the settings and the environment. Out: a client that never
//! retries, asks no metadata service for a region, and trusts what `certs` says. Never: sends a request itself.

use crate::model::Secret;
use crate::store::{StoreSettings, certs};
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::{Builder, tls};
use std::time::Duration;

/// A host that drops packets: leave time for another try before the caller's deadline.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) async fn build(settings: &StoreSettings) -> Result<Client, String> {
    let region = Region::new(region(settings.s3.region.as_deref(), |name| std::env::var(name).ok()));
    let fixed = fixed_credentials(settings);
    let plain = is_plain(settings.endpoint.as_deref());
    // Without fixed keys a token service may be asked, and that is always https.
    let tls = if plain && fixed.is_some() { None } else { Some(tls_client(settings).await?) };
    let credentials = match (&tls, fixed) {
        (Some(client), None) => chain(settings, region.clone(), client.clone()).await,
        (_, fixed) => fixed.ok_or("no credentials")?,
    };
    let http = tls.filter(|_| !plain).unwrap_or_else(|| Builder::new().build_http());
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        .http_client(http)
        .force_path_style(path_style(settings.s3.force_path_style, settings.endpoint.as_deref()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        // Deadlines are the caller's; one rule, not two.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Many stores other than AWS reject the newer checksum headers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

/// What can be seen to be wrong without sending anything.
pub(super) fn check(settings: &StoreSettings) -> Result<(), String> {
    if settings.bucket.is_empty() {
        return Err("the bucket is missing: give s3://BUCKET/PREFIX".to_owned());
    }
    if settings.s3.access_key_id.is_some() != settings.s3.secret_access_key.is_some() {
        return Err("access_key_id and secret_access_key belong together: give both or none".to_owned());
    }
    match settings.endpoint.as_deref() {
        Some(endpoint) if !has_scheme(endpoint, "https://") && !has_scheme(endpoint, "http://") => {
            Err(format!("the endpoint must begin with https:// or http://, as in https://{endpoint}"))
        }
        _ => Ok(()),
    }
}

fn region(configured: Option<&str>, env: impl Fn(&str) -> Option<String>) -> String {
    let given = |text: &String| !text.is_empty();
    configured
        .map(str::to_owned)
        .filter(given)
        .or_else(|| env("AWS_REGION").filter(given))
        .or_else(|| env("AWS_DEFAULT_REGION").filter(given))
        .unwrap_or_else(|| "us-east-1".to_owned())
}

fn path_style(forced: Option<bool>, endpoint: Option<&str>) -> bool {
    forced.unwrap_or(endpoint.is_some())
}

fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| has_scheme(endpoint, "http://"))
}

fn has_scheme(endpoint: &str, scheme: &str) -> bool {
    endpoint.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn fixed_credentials(settings: &StoreSettings) -> Option<SharedCredentialsProvider> {
    let (id, secret) = (settings.s3.access_key_id.as_ref()?, settings.s3.secret_access_key.as_ref()?);
    let token = settings.s3.session_token.as_ref().map(|token| Secret::reveal(token).to_owned());
    let keys = Credentials::new(id, secret.reveal(), token, None, "litevisor's configuration");
    Some(SharedCredentialsProvider::new(keys))
}

/// Environment, profile, web identity, container role, machine role: asked in this order at the first request.
async fn chain(settings: &StoreSettings, region: Region, http: SharedHttpClient) -> SharedCredentialsProvider {
    let config = ProviderConfig::default().with_region(Some(region.clone())).with_http_client(http);
    let mut chain = DefaultCredentialsChain::builder().configure(config).region(region);
    if let Some(profile) = &settings.s3.profile {
        chain = chain.profile_name(profile);
    }
    SharedCredentialsProvider::new(chain.build().await)
}

async fn tls_client(settings: &StoreSettings) -> Result<SharedHttpClient, String> {
    let trust = certs::load(settings.ca_file.as_deref()).await?;
    let store = tls::TrustStore::empty().with_pem_certificate(trust.pem());
    let context = tls::TlsContext::builder().with_trust_store(store).build().map_err(|error| error.to_string())?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    Ok(Builder::new().tls_provider(provider).tls_context(context).build_https())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_comes_from_the_settings_then_the_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let both = env(&[("AWS_REGION", "eu-1"), ("AWS_DEFAULT_REGION", "eu-2")]);
        assert_eq!(region(Some("auto"), both), "auto");
        assert_eq!(region(None, both), "eu-1");
        assert_eq!(region(Some(""), env(&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-2")])), "eu-2");
        assert_eq!(region(None, env(&[])), "us-east-1");
    }

    #[test]
    fn path_style_follows_the_endpoint_unless_forced() {
        assert!(path_style(None, Some("http://x")));
        assert!(!path_style(None, None));
        assert!(path_style(Some(true), None));
        assert!(!path_style(Some(false), Some("http://x")));
    }

    #[test]
    fn only_a_plain_endpoint_needs_no_certificates() {
        assert!(is_plain(Some("http://127.0.0.1:9000")) && is_plain(Some("HTTP://x")));
        assert!(!is_plain(Some("https://x")) && !is_plain(None));
    }
}
