//! `s3://bucket/prefix?endpoint=…&region=…`, `s3://bucket.host/prefix`, `s3://arn:…/prefix`: every form that
//! Litestream's documentation gives. Pure.

use super::{check_endpoint, parameters, prefix, shown, unknown};
use crate::model::Secret;
use crate::store::{Scheme, StoreSettings};

/// Names as we write them; each is accepted in `camelCase` and with dashes, as Litestream does.
const PARAMETERS: [&str; 12] = [
    "endpoint",
    "region",
    "forcePathStyle",
    "skipVerify",
    "signPayload",
    "requireContentMD5",
    "concurrency",
    "partSize",
    "storageClass",
    "sseCustomerAlgorithm",
    "sseCustomerKey",
    "sseKmsKeyId",
];
const MIB: u64 = 1 << 20;

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = split(location)?;
    check_host(host)?;
    let named = bucket_host(host)?;
    let path = prefix(path)?;
    let mut settings = StoreSettings::new(Scheme::S3, shown("s3", host, &path), named.bucket, path);
    (settings.s3.region, settings.endpoint) = (named.region, named.endpoint);
    for (name, value) in parameters(query)? {
        parameter(&mut settings, name, value)?;
    }
    Ok(settings)
}

/// The bucket, or the host with the bucket in it, and the path. An access point's name has a slash in it.
fn split(location: &str) -> Result<(&str, &str), String> {
    const MARK: &str = ":accesspoint/";
    if !location.starts_with("arn:") {
        return Ok(location.split_once('/').unwrap_or((location, "")));
    }
    let name = location.find(MARK).map(|at| at + MARK.len()).ok_or("has an ARN that is no access point's")?;
    let end =
        location.get(name..).and_then(|rest| rest.find('/')).map_or(location.len(), |length| name + length);
    let (arn, path) = location.split_at_checked(end).unwrap_or((location, ""));
    Ok((arn, path.trim_start_matches('/')))
}

struct BucketHost {
    bucket: String,
    region: Option<String>,
    endpoint: Option<String>,
}

/// Providers whose hosts Litestream takes for a bucket and an endpoint: how the part behind the bucket begins
/// and ends, with the region between (or nothing).
const HOSTS: [(&str, &str); 11] = [
    ("s3.", ".amazonaws.com"),
    ("s3-", ".amazonaws.com"),
    ("s3.", ".amazonaws.com.cn"),
    ("s3.", ".backblazeb2.com"),
    ("", ".digitaloceanspaces.com"),
    ("s3.", ".scw.cloud"),
    ("", ".linodeobjects.com"),
    ("s3.", ".wasabisys.com"),
    ("", ".your-objectstorage.com"),
    ("s3", ".amazonaws.com"),
    ("s3", ".filebase.com"),
];

fn bucket_host(host: &str) -> Result<BucketHost, String> {
    let bucket_alone = || BucketHost { bucket: host.to_owned(), region: None, endpoint: None };
    if host.starts_with("arn:") {
        let region = host.split(':').nth(3).filter(|region| !region.is_empty()).map(str::to_owned);
        return Ok(BucketHost { region, ..bucket_alone() });
    }
    if host.contains(':') {
        return with_port(host);
    }
    for (start, end) in HOSTS {
        let Some(front) = host.strip_suffix(end) else { continue };
        // The region is the last label in front of the end; before it stands what the host begins with.
        let (before, region) = match start {
            "s3" => (front.strip_suffix("s3"), None),
            "" => {
                front.rsplit_once('.').map_or((None, None), |(bucket, region)| (Some(bucket), Some(region)))
            }
            _ => match front.rfind(start).map(|at| front.split_at(at)) {
                Some((before, rest)) => (Some(before), rest.strip_prefix(start)),
                None => (None, None),
            },
        };
        let plain = region.is_none_or(|region| !region.is_empty() && !region.contains('.'));
        let bucket =
            before.map(|before| before.trim_end_matches('.')).filter(|bucket| plain && !bucket.is_empty());
        let Some(bucket) = bucket else { continue };
        let of_aws = end.starts_with(".amazonaws");
        let endpoint = format!("https://{start}{}{end}", region.unwrap_or_default());
        return Ok(BucketHost {
            bucket: bucket.to_owned(),
            // Of others the region is known by the endpoint, of AWS it makes the endpoint.
            region: region.filter(|_| of_aws).map(str::to_owned),
            endpoint: (!of_aws).then_some(endpoint),
        });
    }
    let of_provider =
        [".amazonaws.com", ".backblazeb2.com", ".cloudflarestorage.com", "storage.googleapis.com"];
    if of_provider.iter().any(|end| host.ends_with(end)) {
        return Err("has a host without a bucket: write s3://bucket/prefix and give endpoint".into());
    }
    Ok(bucket_alone())
}

/// `bucket.host:port`: one's own server, without TLS.
fn with_port(host: &str) -> Result<BucketHost, String> {
    // Not echoed: before the slash of a secret key this looks like `KEY:SEC`.
    let wrong = || "has a host in the bucket's place: write s3://bucket/prefix and give endpoint".to_owned();
    let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    let (bucket, server) = name.split_once('.').ok_or_else(wrong)?;
    let is_address = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if is_address || bucket.is_empty() || server.is_empty() || !plain(name) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(BucketHost {
        bucket: bucket.to_owned(),
        region: None,
        endpoint: Some(format!("http://{server}:{port}")),
    })
}

fn parameter(settings: &mut StoreSettings, given: &str, value: String) -> Result<(), String> {
    let name = PARAMETERS.iter().find(|name| folded(name) == folded(given));
    let flag = || flag(&value).ok_or_else(|| format!("has {given} without true or false"));
    let s3 = &mut settings.s3;
    match *name.unwrap_or(&"") {
        "endpoint" => settings.endpoint = Some(check_endpoint(&with_scheme(&value))?),
        "region" => s3.region = Some(value),
        "forcePathStyle" => s3.force_path_style = Some(flag()?),
        "skipVerify" if flag()? => {
            return Err(format!(
                "has {given}: certificates are always verified; name your own CA with ca_file"
            ));
        }
        // Every request is signed with its content, and deletions carry an MD5 where the provider takes one.
        "skipVerify" | "signPayload" | "requireContentMD5" => flag().map(drop)?,
        "concurrency" => match value.parse() {
            Ok(count @ 1..=64) => settings.concurrency = Some(count),
            _ => return Err(format!("has {given} without a number from 1 to 64")),
        },
        "partSize" => match value.parse() {
            Ok(bytes) if (5 * MIB..=5120 * MIB).contains(&bytes) => settings.part_size = Some(bytes),
            _ => return Err(format!("has {given} without a number of bytes from 5242880 (5 MiB) to 5 GiB")),
        },
        "storageClass" => s3.storage_class = Some(value),
        "sseCustomerAlgorithm" if value == "AES256" => {}
        "sseCustomerAlgorithm" => return Err(format!("has {given} with another algorithm than AES256")),
        "sseCustomerKey" => s3.sse_c_key = Some(Secret::new(value)),
        "sseKmsKeyId" => s3.sse_kms_key_id = Some(value),
        // Computed from the key.
        _ if folded(given) == "ssecustomerkeymd5" => {}
        _ => return Err(unknown(given, &PARAMETERS)),
    }
    Ok(())
}

fn folded(name: &str) -> String {
    name.replace(['-', '_'], "").to_ascii_lowercase()
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" => Some(true),
        "false" | "0" | "f" | "no" => Some(false),
        _ => None,
    }
}

/// As Litestream has it: https, but http for this machine and private networks.
pub fn with_scheme(endpoint: &str) -> String {
    if endpoint.contains("://") || endpoint.is_empty() {
        return endpoint.to_owned();
    }
    let authority = endpoint.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let private = host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback() || ip.is_private());
    let local = private || host == "localhost" || host.ends_with(".localhost") || host.ends_with(".local");
    format!("{}://{endpoint}", if local { "http" } else { "https" })
}

fn check_host(host: &str) -> Result<(), String> {
    if host.contains('@') {
        return Err(
            "holds user info: keys in a URL end up in logs; use access_key_id and secret_access_key, or the \
                    environment"
                .into(),
        );
    }
    if host.is_empty() {
        return Err("has no bucket: write s3://bucket/prefix".into());
    }
    let arn = host.starts_with("arn:");
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':') || arn && b == b'/';
    if host.bytes().all(plain) { Ok(()) } else { Err(format!("has an invalid bucket name (\"{host}\")")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_a_bucket_in_them() {
        for (text, bucket, endpoint, region) in [
            ("mybkt/db", "mybkt", None, None),
            ("mybkt.litestream.io/db", "mybkt.litestream.io", None, None),
            ("mybkt.s3.amazonaws.com/db", "mybkt", None, None),
            ("my.bkt.s3.eu-west-1.amazonaws.com/db", "my.bkt", None, Some("eu-west-1")),
            ("mybkt.s3-eu-west-1.amazonaws.com/db", "mybkt", None, Some("eu-west-1")),
            (
                "mybkt.s3.us-west-000.backblazeb2.com/db",
                "mybkt",
                Some("https://s3.us-west-000.backblazeb2.com"),
                None,
            ),
            (
                "mybkt.nyc3.digitaloceanspaces.com/db",
                "mybkt",
                Some("https://nyc3.digitaloceanspaces.com"),
                None,
            ),
            ("mybkt.s3.fr-par.scw.cloud/db", "mybkt", Some("https://s3.fr-par.scw.cloud"), None),
            (
                "mybkt.us-east-1.linodeobjects.com/db",
                "mybkt",
                Some("https://us-east-1.linodeobjects.com"),
                None,
            ),
            ("mybkt.s3.filebase.com/db", "mybkt", Some("https://s3.filebase.com"), None),
            ("mybkt.localhost:9000/db", "mybkt", Some("http://localhost:9000"), None),
            ("mybkt.minio.lan:9000/db", "mybkt", Some("http://minio.lan:9000"), None),
            ("s3.bucket/db", "s3.bucket", None, None),
        ] {
            let settings = parse(text).unwrap();
            let found =
                (settings.bucket.as_str(), settings.endpoint.as_deref(), settings.s3.region.as_deref());
            assert_eq!(found, (bucket, endpoint, region), "{text}");
            assert_eq!((settings.path.as_str(), settings.url), ("db", format!("s3://{text}")));
        }
    }

    #[test]
    fn access_points() {
        const ARN: &str = "arn:aws:s3:us-east-1:123456789012:accesspoint/my-access-point";
        for (rest, path) in [("", ""), ("/database", "database"), ("/a/b.db?region=eu-west-1", "a/b.db")] {
            let settings = parse(&format!("{ARN}{rest}")).unwrap();
            assert_eq!((settings.bucket.as_str(), settings.path.as_str()), (ARN, path));
            let region = if rest.contains("region") { "eu-west-1" } else { "us-east-1" };
            assert_eq!(settings.s3.region.as_deref(), Some(region));
        }
        assert!(parse("arn:aws:s3:::bucket/x").unwrap_err().contains("access point"));
    }

    #[test]
    fn every_parameter_of_litestream_is_understood() {
        let settings = parse(
            "b/p?endpoint=s3.us-west-1.wasabisys.com&region=us-west-1&force-path-style=1&skip-verify=false\
             &sign-payload=true&require-content-md5=false&concurrency=3&part-size=10485760&storage-class=STANDARD_IA\
             &sse-customer-algorithm=AES256&sse-customer-key=c2VjcmV0&sse-customer-key-md5=x&sse-kms-key-id=kms",
        )
        .unwrap();
        assert_eq!(settings.endpoint.as_deref(), Some("https://s3.us-west-1.wasabisys.com"));
        assert_eq!((settings.concurrency, settings.part_size), (Some(3), Some(10 << 20)));
        let s3 = &settings.s3;
        assert_eq!((s3.region.as_deref(), s3.force_path_style), (Some("us-west-1"), Some(true)));
        assert_eq!(
            (s3.storage_class.as_deref(), s3.sse_kms_key_id.as_deref()),
            (Some("STANDARD_IA"), Some("kms"))
        );
        assert_eq!(s3.sse_c_key.as_ref().map(Secret::reveal), Some("c2VjcmV0"));
        assert_eq!(settings.url, "s3://b/p");
        assert!(!format!("{settings:?}").contains("c2VjcmV0"));
        let camel =
            parse("b?partSize=5242880&storageClass=X&signPayload=true&requireContentMD5=true").unwrap();
        assert_eq!((camel.part_size, camel.s3.storage_class.as_deref()), (Some(5 << 20), Some("X")));
    }

    #[test]
    fn an_endpoint_without_a_scheme_gets_litestreams() {
        for (given, expected) in [
            ("s3.tebi.io", "https://s3.tebi.io"),
            ("localhost:9000", "http://localhost:9000"),
            ("127.0.0.1:9000/x", "http://127.0.0.1:9000/x"),
            ("192.168.1.5", "http://192.168.1.5"),
            ("172.32.0.1:9000", "https://172.32.0.1:9000"),
            ("nas.local:9000", "http://nas.local:9000"),
            ("minio:9000", "https://minio:9000"),
            ("https://x", "https://x"),
        ] {
            assert_eq!(with_scheme(given), expected);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, part) in [
            ("127.0.0.1:9000/b", "give endpoint"),
            ("localhost:9000/b", "give endpoint"),
            ("AKIA.x:se/sec", "give endpoint"),
            ("s3.eu-west-1.amazonaws.com/b", "without a bucket"),
            ("b?concurrency=0", "from 1 to 64"),
            ("b?partSize=1", "5 MiB"),
            ("b?signPayload=maybe", "true or false"),
            ("b?skip-verify=true", "ca_file"),
            ("b?sseCustomerAlgorithm=DES", "AES256"),
            ("b?regoin=x", "did you mean \"region\"?"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
    }
}
