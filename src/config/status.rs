//! `[status]`: where the running supervisor answers → `StatusSettings`.

use super::document::Document;
use super::expand::Expanded;
use super::settings::{SocketChoice, StatusSettings};
use super::values::{DAY, Key, SecretText, Span};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct StatusSection {
    socket: Key<String>,
    listen: Key<String>,
    max_lag: Key<Span<1_000, DAY>>,
    token: Key<Expanded>,
    token_file: Key<String>,
}

pub fn read(section: StatusSection, document: &Document<'_>) -> StatusSettings {
    let socket = document.parsed(&section.socket, |text| match text {
        SocketChoice::NONE => Ok(SocketChoice::Off),
        SocketChoice::PATH => Ok(SocketChoice::Default),
        path if path.ends_with('/') => Err("is no file: give the socket's path, or \"none\"".into()),
        path => Ok(SocketChoice::At(document.environment.absolute(path))),
    });
    let SecretText { secret, variables, file } = document.secret(&section.token, &section.token_file);
    if let (Some(token), Some(location)) = (&secret, section.token.location.or(section.token_file.location))
        && token.reveal().trim().is_empty()
    {
        document.complain(&location, "is empty");
    }
    StatusSettings {
        socket: socket.unwrap_or_default(),
        listen: document.parsed(&section.listen, listen),
        max_lag: section.max_lag.value.map(|span| span.0),
        token: secret,
        token_file: file,
        token_variables: variables,
    }
}

pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let form =
        "write an address with its port, for example \"127.0.0.1:9090\", or \":9090\" for all addresses";
    let local = |port: &str, ip: IpAddr| port.parse().map(|port| SocketAddr::new(ip, port)).ok();
    let parsed = match text.split_once(':') {
        Some(("", port)) => local(port, Ipv6Addr::UNSPECIFIED.into()),
        Some(("localhost", port)) => local(port, Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().ok(),
    };
    parsed.filter(|address| address.port() > 0).ok_or_else(|| format!("is no address (\"{text}\"): {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:9090", "[::1]:9090"),
            (":9090", "[::]:9090"),
            ("localhost:9090", "127.0.0.1:9090"),
        ] {
            assert_eq!(listen(text).map(|address| address.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in
            ["9090", "example.com:9090", "127.0.0.1", "127.0.0.1:0", ":", ":99999", "localhost", "::1:9090:"]
        {
            assert!(listen(text).unwrap_err().contains("for example"), "{text}");
        }
    }
}
