//! Builds the SDK's client from the settings and the environment. The client repeats no request (except with
//! new keys), asks no metadata service for a region, and trusts the certificates of `certs`.

use super::http_client::SdkHttpClient;
use super::interceptors::{ReadClock, SpellHeaders};
use super::key_source_reply::LastReply;
use super::keys::{Files, Keys, Loading, Source};
use super::provider::{self, Rules};
use super::renewal::Renewal;
use super::service::Service;
use crate::model::Secret;
use crate::store::http::{Transport, local_client};
use crate::store::{StoreClock, StoreSettings};
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What most stores take.
const GUESS: &str = "us-east-1";

pub(super) async fn build(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Service, String> {
    let rules = provider::rules(settings.endpoint.as_deref(), &settings.bucket);
    let region = Region::new(match known_region(settings, &rules) {
        Some(region) => region,
        None => from_profile(settings).await.unwrap_or_else(|| GUESS.to_owned()),
    });
    let fixed = fixed_credentials(settings);
    let plain = is_plain(settings.endpoint.as_deref());
    let in_settings = settings.s3.access_key_id.is_some();
    // Without keys in the settings a token service may be asked, and that is always https.
    let transport = Arc::new(Transport::new(settings.ca_file.as_deref(), plain && in_settings).await?);
    let refused = Arc::new(AtomicBool::new(false));
    let credentials = match (fixed, Files::of(&settings.s3)) {
        (_, Some(files)) => {
            SharedCredentialsProvider::new(Keys::new(Source::Files(files), Arc::clone(&refused)))
        }
        (Some(fixed), None) => fixed,
        (None, None) => {
            let last_reply = Arc::new(LastReply::default());
            let client = SdkHttpClient::to_credentials(
                Arc::clone(&transport),
                local_client()?,
                Arc::clone(&last_reply),
            );
            let source = chain(settings, region.clone(), client, last_reply);
            SharedCredentialsProvider::new(Keys::new(source, Arc::clone(&refused)))
        }
    };
    let renewable = !in_settings || Files::of(&settings.s3).is_some();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(credentials)
        // `keys` knows better when to ask again.
        .identity_cache(IdentityCache::no_cache())
        .http_client(SdkHttpClient::to_store(transport))
        .force_path_style(settings.s3.force_path_style.unwrap_or(rules.path_style))
        .use_arn_region(true)
        .retry_config(
            RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1)),
        )
        .retry_classifier(Renewal::new(renewable.then_some(refused)))
        .interceptor(SpellHeaders::new(&rules))
        .interceptor(ReadClock(Arc::clone(clock)))
        // Deadlines are the caller's; one rule, not two.
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Many stores other than AWS reject the newer checksum headers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Service::new(Client::from_conf(config.build()), rules))
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

/// Configured, the provider's only one, or of the environment. Never the machine's own metadata: it may be
/// elsewhere.
fn known_region(settings: &StoreSettings, rules: &Rules) -> Option<String> {
    region(settings.s3.region.as_deref(), rules.region.as_deref(), |name| std::env::var(name).ok())
}

fn region(
    configured: Option<&str>,
    of_provider: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let given = |text: &String| !text.is_empty();
    configured
        .map(str::to_owned)
        .filter(given)
        .or_else(|| of_provider.map(str::to_owned))
        .or_else(|| env("AWS_REGION").filter(given))
        .or_else(|| env("AWS_DEFAULT_REGION").filter(given))
}

async fn from_profile(settings: &StoreSettings) -> Option<String> {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &settings.s3.profile {
        profile = profile.profile_name(name);
    }
    profile.build().region().await.map(|region| region.to_string())
}

fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| has_scheme(endpoint, "http://"))
}

fn has_scheme(endpoint: &str, scheme: &str) -> bool {
    endpoint.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn fixed_credentials(settings: &StoreSettings) -> Option<SharedCredentialsProvider> {
    let id = settings.s3.access_key_id.as_ref()?;
    let secret = settings.s3.secret_access_key.as_ref()?;
    let token = settings.s3.session_token.as_ref().map(|token| Secret::reveal(token).to_owned());
    let keys = Credentials::new(id, secret.reveal(), token, None, "litevisor's configuration");
    Some(SharedCredentialsProvider::new(keys))
}

/// Environment, profile, web identity, container role, machine role: asked in this order.
fn chain(
    settings: &StoreSettings,
    region: Region,
    http: SharedHttpClient,
    last_reply: Arc<LastReply>,
) -> Source {
    let profile = settings.s3.profile.clone();
    let make = Box::new(move || {
        let config =
            ProviderConfig::default().with_region(Some(region.clone())).with_http_client(http.clone());
        let mut chain = DefaultCredentialsChain::builder().configure(config).region(region.clone());
        if let Some(profile) = &profile {
            chain = chain.profile_name(profile);
        }
        Box::pin(async move { SharedCredentialsProvider::new(chain.build().await) }) as Loading
    });
    Source::Chain { make, last_reply }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_comes_from_the_settings_then_the_provider_then_the_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let both = env(&[("AWS_REGION", "eu-1"), ("AWS_DEFAULT_REGION", "eu-2")]);
        assert_eq!(region(Some("own"), Some("auto"), both).as_deref(), Some("own"));
        assert_eq!(region(None, Some("auto"), both).as_deref(), Some("auto"));
        assert_eq!(region(None, None, both).as_deref(), Some("eu-1"));
        let empty = env(&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-2")]);
        assert_eq!(region(Some(""), None, empty).as_deref(), Some("eu-2"));
        assert_eq!(region(None, None, env(&[])), None);
    }

    #[test]
    fn only_a_plain_endpoint_needs_no_certificates() {
        assert!(is_plain(Some("http://127.0.0.1:9000")) && is_plain(Some("HTTP://x")));
        assert!(!is_plain(Some("https://x")) && !is_plain(None));
    }
}
