//! The provider of a service, by the host of its endpoint, and what follows from it where nothing is
//! configured: region, style of address, how a create is kept from overwriting, what the service does not
//! support. Pure. The table in docs/stores.md says the same.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Aws,
    Backblaze,
    CloudflareR2,
    DigitalOcean,
    Filebase,
    /// Google Cloud Storage through its XML interface; gs:// is its own store.
    Google,
    Hetzner,
    Linode,
    Oracle,
    Ovh,
    Scaleway,
    Supabase,
    Tebi,
    Tigris,
    Wasabi,
    /// MinIO, Ceph, SeaweedFS, Garage, ...: a server of the user's, or an unknown provider.
    Other,
}

/// The header that means "only if there is no such object".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `If-None-Match: *`
    Standard,
    /// `x-goog-if-generation-match: 0`
    Generation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub provider: Provider,
    /// The only one that makes sense there. None: configured, from the environment, or a guess.
    pub region: Option<String>,
    pub path_style: bool,
    pub spelling: Spelling,
    /// Known to honour conditions: not probed.
    pub honours: bool,
    /// Known to honour them when an upload in parts is completed, too.
    pub honours_in_parts: bool,
    /// Takes many keys in one deletion.
    pub deletes_many: bool,
    /// Wants `Content-MD5` with such a deletion, or does not mind it.
    pub takes_md5: bool,
    /// Must be asked for the newest state: its replicas in other regions lag.
    pub asks_leader: bool,
}

/// A host belongs to the first whose name it is, or ends with (after a dot).
const HOSTS: [(&str, Provider); 22] = [
    ("amazonaws.com", Provider::Aws),
    ("amazonaws.com.cn", Provider::Aws),
    ("backblazeb2.com", Provider::Backblaze),
    ("r2.cloudflarestorage.com", Provider::CloudflareR2),
    ("digitaloceanspaces.com", Provider::DigitalOcean),
    ("filebase.com", Provider::Filebase),
    ("filebase.io", Provider::Filebase),
    ("storage.googleapis.com", Provider::Google),
    ("rep.googleapis.com", Provider::Google),
    ("your-objectstorage.com", Provider::Hetzner),
    ("linodeobjects.com", Provider::Linode),
    ("oraclecloud.com", Provider::Oracle),
    ("cloud.ovh.net", Provider::Ovh),
    ("cloud.ovh.us", Provider::Ovh),
    ("scw.cloud", Provider::Scaleway),
    ("supabase.co", Provider::Supabase),
    ("tebi.io", Provider::Tebi),
    ("fly.storage.tigris.dev", Provider::Tigris),
    ("t3.storage.dev", Provider::Tigris),
    ("t3.tigrisfiles.io", Provider::Tigris),
    ("t3.storageapi.dev", Provider::Tigris),
    ("wasabisys.com", Provider::Wasabi),
];

/// `endpoint`: `https://host[:port][/path]`; None is AWS itself.
pub(super) fn rules(endpoint: Option<&str>, bucket: &str) -> Rules {
    let host = endpoint.map(host);
    let provider = host.as_deref().map_or(Provider::Aws, of_host);
    let mut rules = Rules {
        provider,
        region: host.as_deref().and_then(|host| region(provider, host)),
        path_style: endpoint.is_some(),
        spelling: Spelling::Standard,
        honours: false,
        honours_in_parts: false,
        deletes_many: true,
        takes_md5: true,
        asks_leader: false,
    };
    match provider {
        Provider::Aws => (rules.honours, rules.honours_in_parts) = (true, true),
        Provider::CloudflareR2 => rules.honours = true,
        Provider::Google => (rules.spelling, rules.deletes_many) = (Spelling::Generation, false),
        Provider::Tigris => {
            (rules.honours, rules.asks_leader, rules.takes_md5) = (true, true, false);
            // Newer buckets have no other; with a dot in the name no certificate fits.
            rules.path_style = bucket.contains('.');
        }
        _ => {}
    }
    rules
}

fn of_host(host: &str) -> Provider {
    let known = HOSTS.iter().find(|(name, _)| is_or_ends_with(host, name));
    known.map_or(Provider::Other, |(_, provider)| *provider)
}

fn is_or_ends_with(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// In small letters, without port and trailing dot.
fn host(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    host.map_or(authority, |(host, _)| host).trim_end_matches('.').to_ascii_lowercase()
}

/// The provider's only one, or the one that stands in the host.
fn region(provider: Provider, host: &str) -> Option<String> {
    let labels: Vec<&str> = host.split('.').collect();
    let from_end = |back: usize| labels.len().checked_sub(back).and_then(|at| labels.get(at)).copied();
    let after = |name: &str| {
        labels.iter().position(|label| *label == name).and_then(|at| labels.get(at + 1)).copied()
    };
    let found = match provider {
        Provider::CloudflareR2 | Provider::Tigris | Provider::Google => Some("auto"),
        Provider::Aws => aws_region(&labels),
        // s3.REGION.backblazeb2.com
        Provider::Backblaze | Provider::Scaleway | Provider::Wasabi => from_end(3)
            .filter(|label| *label != "s3")
            .or((provider == Provider::Wasabi).then_some("us-east-1")),
        // REGION.digitaloceanspaces.com
        Provider::DigitalOcean | Provider::Hetzner | Provider::Linode => from_end(3),
        Provider::Oracle => after("objectstorage"),
        Provider::Ovh => after("s3"),
        Provider::Filebase | Provider::Supabase | Provider::Tebi | Provider::Other => None,
    };
    found.map(str::to_owned)
}

/// s3.REGION.amazonaws.com, s3-REGION..., s3.dualstack.REGION...,
/// BUCKET.vpce-ID.s3.REGION.vpce.amazonaws.com.
fn aws_region<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let end = labels.iter().position(|label| *label == "amazonaws")?;
    let label = labels.get(..end)?.iter().rev().find(|label| **label != "vpce").copied()?;
    let region = label.strip_prefix("s3-").unwrap_or(label);
    // A region has two dashes at least; "s3", a bucket and "s3-accelerate" are none.
    (region.matches('-').count() >= 2).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_and_its_region_are_known_by_the_host() {
        use Provider::*;
        for (endpoint, provider, region) in [
            ("https://s3.amazonaws.com", Aws, None),
            ("https://s3.eu-west-1.amazonaws.com", Aws, Some("eu-west-1")),
            ("https://s3-eu-west-1.amazonaws.com", Aws, Some("eu-west-1")),
            ("https://s3.dualstack.us-gov-east-1.amazonaws.com", Aws, Some("us-gov-east-1")),
            ("https://s3.cn-north-1.amazonaws.com.cn", Aws, Some("cn-north-1")),
            ("https://bucket.vpce-1a2b-5678.s3.us-east-1.vpce.amazonaws.com", Aws, Some("us-east-1")),
            ("https://s3-accelerate.amazonaws.com", Aws, None),
            ("https://0123abc.r2.cloudflarestorage.com", CloudflareR2, Some("auto")),
            ("https://0123abc.eu.r2.cloudflarestorage.com", CloudflareR2, Some("auto")),
            ("https://s3.eu-central-003.backblazeb2.com", Backblaze, Some("eu-central-003")),
            ("https://fly.storage.tigris.dev", Tigris, Some("auto")),
            ("https://t3.storage.dev/", Tigris, Some("auto")),
            ("https://s3.tebi.io", Tebi, None),
            ("https://fsn1.your-objectstorage.com", Hetzner, Some("fsn1")),
            ("https://nyc3.digitaloceanspaces.com", DigitalOcean, Some("nyc3")),
            ("https://bucket.nyc3.digitaloceanspaces.com", DigitalOcean, Some("nyc3")),
            ("https://s3.fr-par.scw.cloud", Scaleway, Some("fr-par")),
            ("https://s3.eu-central-1.wasabisys.com", Wasabi, Some("eu-central-1")),
            ("https://s3.wasabisys.com", Wasabi, Some("us-east-1")),
            ("https://s3.gra.io.cloud.ovh.net", Ovh, Some("gra")),
            ("https://s3.bhs.perf.cloud.ovh.net/", Ovh, Some("bhs")),
            ("https://us-east-1.linodeobjects.com", Linode, Some("us-east-1")),
            ("https://s3.filebase.com", Filebase, None),
            ("https://abcd.supabase.co/storage/v1/s3", Supabase, None),
            ("https://abcd.storage.supabase.co/storage/v1/s3", Supabase, None),
            ("https://storage.googleapis.com", Google, Some("auto")),
            ("https://storage.europe-west3.rep.googleapis.com", Google, Some("auto")),
            (
                "https://ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com",
                Oracle,
                Some("eu-frankfurt-1"),
            ),
            ("http://minio:9000", Other, None),
            ("http://127.0.0.1:9000", Other, None),
            ("http://[::1]:9000", Other, None),
            ("https://S3.Eu-West-1.AmazonAWS.com.:443/x", Aws, Some("eu-west-1")),
            ("https://not-amazonaws.com", Other, None),
            ("https://amazonaws.com.example.org", Other, None),
            ("https://example.com/storage.googleapis.com", Other, None),
        ] {
            let rules = rules(Some(endpoint), "bucket");
            assert_eq!((rules.provider, rules.region.as_deref()), (provider, region), "{endpoint}");
        }
        assert_eq!((rules(None, "b").provider, rules(None, "b").region), (Aws, None));
    }

    #[test]
    fn path_style_follows_the_endpoint_but_at_tigris() {
        for (endpoint, bucket, path_style) in [
            (None, "b", false),
            (None, "a.b", false),
            (Some("https://s3.eu-west-1.amazonaws.com"), "b", true),
            (Some("http://minio:9000"), "b", true),
            (Some("https://x.r2.cloudflarestorage.com"), "b", true),
            (Some("https://fly.storage.tigris.dev"), "b", false),
            (Some("https://fly.storage.tigris.dev"), "a.b", true),
        ] {
            assert_eq!(rules(endpoint, bucket).path_style, path_style, "{endpoint:?} {bucket}");
        }
    }

    #[test]
    fn only_who_is_known_to_honour_conditions_is_not_probed() {
        for (endpoint, honours, in_parts, spelling) in [
            (None, true, true, Spelling::Standard),
            (Some("https://x.r2.cloudflarestorage.com"), true, false, Spelling::Standard),
            (Some("https://t3.storage.dev"), true, false, Spelling::Standard),
            (Some("https://s3.us-west-004.backblazeb2.com"), false, false, Spelling::Standard),
            (Some("https://storage.googleapis.com"), false, false, Spelling::Generation),
            (Some("http://127.0.0.1:9000"), false, false, Spelling::Standard),
        ] {
            let rules = rules(endpoint, "b");
            let found = (rules.honours, rules.honours_in_parts, rules.spelling);
            assert_eq!(found, (honours, in_parts, spelling), "{endpoint:?}");
        }
    }

    #[test]
    fn what_a_provider_does_not_know_is_not_asked_of_it() {
        for (endpoint, many, md5, leader) in [
            ("https://storage.googleapis.com", false, true, false),
            ("https://fly.storage.tigris.dev", true, false, true),
            ("https://s3.eu-west-1.amazonaws.com", true, true, false),
        ] {
            let rules = rules(Some(endpoint), "b");
            assert_eq!(
                (rules.deletes_many, rules.takes_md5, rules.asks_leader),
                (many, md5, leader),
                "{endpoint}"
            );
        }
    }
}
