//! `sftp://user[:password]@host[:port]/absolute/path`, or `/~/path` for one in the user's home. Pure.

use super::decoded;
use crate::model::Secret;
use crate::store::{Scheme, SftpSettings, StoreSettings};

const PORT: u16 = 22;
const FORM: &str = "write sftp://user@host:port/absolute/path";

/// The error never holds what stands before the `@`.
pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    // A password may hold a slash that should have been written %2F: everything up to the `@` is secret.
    let (login, behind) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (address, path) = behind.split_once('/').unwrap_or((behind, ""));
    let (user, password) =
        login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    if login.contains('/') {
        return Err(
            "has a \"/\" before the \"@\": write %2F for it in a password, and %40 for an \"@\" in the path"
                .into(),
        );
    }
    if user.is_empty() {
        return Err(format!("has no user: {FORM}"));
    }
    let (host, port) = split_address(address)?;
    let user = decoded(user)?;
    let password =
        password.filter(|password| !password.is_empty()).map(decoded).transpose()?.map(Secret::new);
    let path = directory(&decoded(path)?)?;
    let at = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let at = if port == PORT { at } else { format!("{at}:{port}") };
    let shown = path.strip_prefix('/').map_or_else(|| format!("~/{path}"), str::to_owned);
    let sftp = SftpSettings { user, host, port, password, ..SftpSettings::default() };
    let url = format!("sftp://{}@{at}/{}", sftp.user, shown.trim_end_matches("/."));
    Ok(StoreSettings { sftp, ..StoreSettings::new(Scheme::Sftp, url, String::new(), path) })
}

fn split_address(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port = match port {
        None | Some("") => PORT,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("has the impossible port \"{text}\"")),
        },
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'[' | b']' | b'\\');
    match host.bytes().all(plain) {
        _ if host.is_empty() => Err(format!("has no host: {FORM}")),
        false => Err("has an invalid host name".into()),
        true => Ok((host.to_owned(), port)),
    }
}

/// Absolute, or relative to the home behind `~`.
fn directory(path: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("has \".\" or \"..\" in its path".into());
    }
    if parts.is_empty() {
        return Err(format!("has no path: {FORM}"));
    }
    if parts.first() != Some(&"~") {
        return Ok(format!("/{}", parts.join("/")));
    }
    parts.remove(0);
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_host_port_and_path() {
        for (text, user, host, port, path, shown) in [
            ("u@h/a", "u", "h", 22, "/a", "u@h/a"),
            ("u@h:2222/a//b/", "u", "h", 2222, "/a/b", "u@h:2222/a/b"),
            ("u@h:22/a", "u", "h", 22, "/a", "u@h/a"),
            ("u@h:/a", "u", "h", 22, "/a", "u@h/a"),
            ("me%40work@nas.lan/a%20b", "me@work", "nas.lan", 22, "/a b", "me@work@nas.lan/a b"),
            ("u@[::1]:2222/a", "u", "::1", 2222, "/a", "u@[::1]:2222/a"),
            ("u@[::1]/a", "u", "::1", 22, "/a", "u@[::1]/a"),
            ("u@h/~/backup/app", "u", "h", 22, "backup/app", "u@h/~/backup/app"),
            ("u@h/~", "u", "h", 22, ".", "u@h/~"),
        ] {
            let url = parse(text).unwrap();
            let sftp = (url.sftp.user.as_str(), url.sftp.host.as_str(), url.sftp.port);
            assert_eq!((sftp, url.path.as_str()), ((user, host, port), path), "{text}");
            assert_eq!(url.url, format!("sftp://{shown}"));
            assert_eq!(url.sftp.password, None);
        }
    }

    #[test]
    fn a_password_is_taken_and_not_shown() {
        for (text, password) in
            [("u:hunter2@h/a", "hunter2"), ("u:a%2Fb%40c:d@h/a", "a/b@c:d"), ("u:p@ss@h/a", "p@ss")]
        {
            let url = parse(text).unwrap();
            assert_eq!(url.sftp.password.as_ref().map(Secret::reveal), Some(password));
            assert_eq!((url.url.as_str(), url.sftp.host.as_str()), ("sftp://u@h/a", "h"));
            assert!(!format!("{url:?}").contains(password));
        }
        assert_eq!(parse("u:@h/a").unwrap().sftp.password, None);
    }

    #[test]
    fn bad_urls_say_what_to_write() {
        for (text, part) in [
            ("h/a", "has no user"),
            ("@h/a", "has no user"),
            (":hunter2@h/a", "has no user"),
            ("u@/a", "has no host"),
            ("u@:22/a", "has no host"),
            ("u@h", "has no path"),
            ("u@h/", "has no path"),
            ("u@h:x/a", "impossible port \"x\""),
            ("u@h:70000/a", "impossible port"),
            ("u@h:0/a", "impossible port"),
            ("u@h/a/../b", "\"..\""),
            ("u@h /a", "invalid host"),
            ("u:hunter2/x@h/a", "%2F"),
            ("u:%zz@h/a", "two hex digits"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
