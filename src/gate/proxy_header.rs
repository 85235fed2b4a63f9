//! The PROXY protocol's header, version 2: tells the app its client's address. Pure.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION: u8 = 0x20;
/// A connection of the proxy's own.
const LOCAL: u8 = 0;
const PROXIED: u8 = 1;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Of a connection that has a client.
pub fn of_client(client: Option<SocketAddr>, listener: Option<SocketAddr>) -> Vec<u8> {
    let Some((from, to)) = client.zip(listener) else { return header(PROXIED, UNSPECIFIED, &[]) };
    let (family, mut addresses) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (TCP4, [from.octets(), to.octets()].concat()),
        (from, to) => (TCP6, [six(from), six(to)].concat()),
    };
    addresses.extend(from.port().to_be_bytes());
    addresses.extend(to.port().to_be_bytes());
    header(PROXIED, family, &addresses)
}

/// Of a connection that only tries whether the app accepts.
pub fn of_probe() -> Vec<u8> {
    header(LOCAL, UNSPECIFIED, &[])
}

fn six(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap_or(0);
    [SIGNATURE, &[VERSION | command, family], &length.to_be_bytes(), addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let v4 = b"\x21\x11\x00\x0c\x0a\x00\x00\x07\x7f\x00\x00\x01\x9c\x40\x1f\x90";
        let mut v6 = b"\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
        v6.extend(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x9c\x40\x1f\x90");
        for (client, listener, expected) in [
            ("10.0.0.7:40000", "127.0.0.1:8080", &v4[..]),
            ("[::ffff:10.0.0.7]:40000", "[::ffff:127.0.0.1]:8080", v4),
            ("[2001:db8::1]:40000", "[::1]:8080", &v6),
        ] {
            let found = of_client(client.parse().ok(), listener.parse().ok());
            assert_eq!(found.strip_prefix(SIGNATURE), Some(expected), "{client}");
        }
        assert_eq!(
            of_client(None, None).strip_prefix(SIGNATURE),
            Some(&b"\x21\0\0\0"[..]),
            "a Unix socket's client"
        );
        assert_eq!(of_probe().strip_prefix(SIGNATURE), Some(&b"\x20\0\0\0"[..]));
    }
}
