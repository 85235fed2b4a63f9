//! Decides which requests over the network may cause work. Pure. A web page in a browser may not, although
//! the browser reaches this address: neither with a cross-origin request nor through a host name that points
//! here (DNS rebinding).

use crate::model::Secret;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedRequest {
    /// The token is missing or wrong.
    Token,
    Origin,
    Host,
}

impl RefusedRequest {
    pub fn message(self) -> &'static str {
        match self {
            RefusedRequest::Token => {
                "the token of [status] is required: send it as `Authorization: Bearer TOKEN`"
            }
            RefusedRequest::Origin => "the request comes from a page of another origin",
            RefusedRequest::Host => {
                "the Host header is a public name, which any web page could point here: use the address or a \
                 local name, or set [status] token"
            }
        }
    }
}

/// Suffixes of names that cannot be registered.
const LOCAL: [&str; 8] =
    [".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".cluster.local", ".localdomain"];

/// None: the request may continue. `token`: the configured one.
pub fn check(headers: &HeaderMap, token: Option<&Secret>) -> Option<RefusedRequest> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST);
    let strange = |origin: &str| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !authority.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    };
    if text(ORIGIN).is_some_and(strange) {
        return Some(RefusedRequest::Origin);
    }
    match token {
        Some(token) => {
            let given =
                text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            (!same(given.trim().as_bytes(), token.reveal().as_bytes())).then_some(RefusedRequest::Token)
        }
        // A browser always sends the header.
        None => host.is_some_and(|host| !is_local(host)).then_some(RefusedRequest::Host),
    }
}

fn is_local(host: &str) -> bool {
    let (name, bracketed) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => (address, true),
        None => (host.split_once(':').map_or(host, |(name, _)| name), false),
    };
    if bracketed {
        return name.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let single = !name.contains('.');
    single || name.parse::<Ipv4Addr>().is_ok() || LOCAL.iter().any(|end| name.ends_with(end))
}

/// Takes the same time wherever the texts differ.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let differs = given.iter().zip(wanted).fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == wanted.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(HeaderName, &str)], token: Option<&str>) -> Option<RefusedRequest> {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        check(&map, token.map(Secret::new).as_ref())
    }

    #[test]
    fn hosts() {
        for host in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "localhost",
            "LOCALHOST:9090",
            "app",
            "app:9090",
            "x.localhost",
            "app.default.svc",
            "app.default.svc.cluster.local:9090",
            "host.docker.internal",
            "nas.local.",
        ] {
            assert_eq!(refused(&[(HOST, host)], None), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "local.evil.com",
            "[evil.example]:1",
            "1.2.3.4.5",
        ] {
            assert_eq!(refused(&[(HOST, host)], None), Some(RefusedRequest::Host), "{host}");
        }
        assert_eq!(refused(&[], None), None);
    }

    #[test]
    fn origins() {
        for (host, origin, found) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090", None),
            ("app:9090", "https://APP:9090", None),
            ("127.0.0.1:9090", "http://127.0.0.1:3000", Some(RefusedRequest::Origin)),
            ("127.0.0.1:9090", "https://evil.example", Some(RefusedRequest::Origin)),
            ("127.0.0.1:9090", "null", Some(RefusedRequest::Origin)),
            ("evil.example:9090", "http://evil.example:9090", Some(RefusedRequest::Host)),
        ] {
            assert_eq!(refused(&[(HOST, host), (ORIGIN, origin)], None), found, "{host} {origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_lets_any_name_in() {
        let token = Some("s3cret");
        for (given, found) in [
            (None, Some(RefusedRequest::Token)),
            (Some("Bearer s3cret"), None),
            (Some("Bearer s3cre"), Some(RefusedRequest::Token)),
            (Some("Bearer s3creu"), Some(RefusedRequest::Token)),
            (Some("Bearer s3cret2"), Some(RefusedRequest::Token)),
            (Some("s3cret"), Some(RefusedRequest::Token)),
            (Some("Bearer "), Some(RefusedRequest::Token)),
        ] {
            let mut headers = vec![(HOST, "backup.example.com")];
            headers.extend(given.map(|given| (AUTHORIZATION, given)));
            assert_eq!(refused(&headers, token), found, "{given:?}");
        }
        let page = [(HOST, "a.b"), (ORIGIN, "https://evil.example"), (AUTHORIZATION, "Bearer s3cret")];
        assert_eq!(refused(&page, token), Some(RefusedRequest::Origin));
    }
}
