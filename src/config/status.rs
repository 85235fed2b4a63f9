//! The `[status]` table: where the running supervisor is to be asked. In: its section. Out: `StatusSettings`. Pure.

use super::section::Section;
use super::url;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSettings {
    pub socket: SocketChoice,
    /// HTTP on TCP; None: off.
    pub listen: Option<SocketAddr>,
    /// Commits may be missing from the replica for this long before `/readyz` and `healthcheck` say so; None: for ever.
    pub max_lag: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SocketChoice {
    /// /run/litevisor.sock, or where else it can be.
    #[default]
    Default,
    At(PathBuf),
    Off,
}

/// Written or not, it may be elsewhere where it cannot be there: see `observe/address`.
pub const DEFAULT: &str = "/run/litevisor.sock";
pub const OFF: &str = "none";

pub(super) fn read(section: Option<Section<'_, '_>>, working_dir: &Path) -> StatusSettings {
    let mut settings = StatusSettings::default();
    let Some(mut section) = section else { return settings };
    let choice = section.parsed("socket", |text| match text {
        OFF => Ok(SocketChoice::Off),
        DEFAULT => Ok(SocketChoice::Default),
        path if path.ends_with('/') => Err("is no file: give the socket's path, or \"none\"".into()),
        path => Ok(SocketChoice::At(url::absolute(Path::new(path), working_dir))),
    });
    settings.socket = choice.map_or(SocketChoice::Default, |choice| choice.value);
    settings.listen = section.parsed("listen", listen).map(|at| at.value);
    let day = Duration::from_secs(86_400);
    settings.max_lag = section.duration("max_lag", Duration::from_secs(1)..=day).map(|at| at.value);
    section.finish(&[]);
    settings
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let form = "write an address with its port, for example \"127.0.0.1:9090\", or \":9090\" for all addresses";
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
        for text in ["9090", "example.com:9090", "127.0.0.1", "127.0.0.1:0", ":", ":99999", "localhost", "::1:9090:"] {
            assert!(listen(text).unwrap_err().contains("for example"), "{text}");
        }
    }
}
