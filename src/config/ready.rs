//! `ready` under [app]: `"tcp:3000"`, `"tcp:10.0.0.7:3000"`, `"http://127.0.0.1:3000/health"`, `"notify"` →
//! `ReadyCheck`. Pure. Names are not looked up: the app is on this machine.

use crate::supervise::{HttpTarget, Probe, ReadyCheck};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FORM: &str = "write \"tcp:3000\", \"http://127.0.0.1:3000/health\" or \"notify\"";

pub fn check(text: &str) -> Result<ReadyCheck, String> {
    if text == "notify" {
        return Ok(ReadyCheck::Notify);
    }
    let bad = |why: &str| format!("{why} (\"{text}\"): {FORM}");
    let (addresses, http) = if let Some(rest) = text.strip_prefix("tcp:") {
        // Two slashes as in a URL mean the same.
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        (addresses_of_port(rest).map_err(|why| bad(&why))?, None)
    } else if let Some(rest) = text.strip_prefix("http://") {
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.contains('@') {
            return Err(bad("cannot hold a user or a password"));
        }
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err(bad("has a path with a character that a URL cannot hold"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let address = if ends_with_port(host) { host.to_owned() } else { format!("{host}:80") };
        (addresses(&address).map_err(|why| bad(&why))?, Some(HttpTarget { host: host.to_owned(), path }))
    } else if text.starts_with("https://") {
        return Err(bad("cannot be https: the app is asked on this machine"));
    } else {
        return Err(bad("is no check"));
    };
    Ok(ReadyCheck::Probe(Probe { text: text.to_owned(), addresses, http }))
}

/// Not the colons inside of `[::1]`.
fn ends_with_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

/// Of `3000` (on this machine) or `10.0.0.7:3000`.
pub fn addresses_of_port(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text.contains(':') { addresses(text) } else { addresses(&format!("localhost:{text}")) }
}

fn addresses(address: &str) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("has no port between 1 and 65535")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let hosts = match host {
        "localhost" => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        host => vec![host.parse::<IpAddr>().map_err(|_| "must name an IP address or localhost")?],
    };
    Ok(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_check() {
        for (text, first, count, http) in [
            ("tcp:3000", "127.0.0.1:3000", 2, None),
            ("tcp://localhost:80", "127.0.0.1:80", 2, None),
            ("tcp:10.0.0.7:81", "10.0.0.7:81", 1, None),
            ("tcp:[::1]:81", "[::1]:81", 1, None),
            ("http://127.0.0.1:3000/health", "127.0.0.1:3000", 1, Some(("127.0.0.1:3000", "/health"))),
            ("http://127.0.0.1", "127.0.0.1:80", 1, Some(("127.0.0.1", "/"))),
            ("http://localhost:8080?x=1", "127.0.0.1:8080", 2, Some(("localhost:8080", "/?x=1"))),
            ("http://[::1]/status", "[::1]:80", 1, Some(("[::1]", "/status"))),
        ] {
            let ReadyCheck::Probe(found) = check(text).unwrap() else { panic!("{text}") };
            assert_eq!(
                (found.addresses[0], found.addresses.len()),
                (first.parse().unwrap(), count),
                "{text}"
            );
            let target = found.http.as_ref().map(|http| (http.host.as_str(), http.path.as_str()));
            assert_eq!((target, found.text.as_str()), (http, text));
        }
        assert_eq!(check("notify"), Ok(ReadyCheck::Notify));
        for (text, part) in [
            ("3000", "is no check"),
            ("notify:", "is no check"),
            ("udp:3000", "is no check"),
            ("tcp:", "has no port"),
            ("tcp:0", "has no port"),
            ("tcp:70000", "has no port"),
            ("tcp:app:3000", "must name an IP address"),
            ("https://127.0.0.1/", "cannot be https"),
            ("http://a@127.0.0.1/", "a user or a password"),
            ("http://127.0.0.1/a b", "cannot hold"),
            ("http://127.0.0.1/\r\nHost: x", "cannot hold"),
            ("http://", "must name an IP address"),
        ] {
            assert!(check(text).unwrap_err().contains(part), "{text}: {:?}", check(text));
        }
    }
}
