//! `sftp://user@host:port/absolute/path`. Pure.

use super::decoded;
use crate::store::{Scheme, SftpSettings, StoreSettings};

const PORT: u16 = 22;

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, address) = location.rsplit_once('@').unwrap_or(("", location));
    if user.contains(':') {
        return Err("holds a password: passwords in a URL end up in logs; use password or password_file".into());
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("has the impossible port \"{port}\""))?)
        }
        _ => (address, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("has no host: write sftp://user@host:port/absolute/path".into());
    }
    let path = format!("/{}", decoded(path)?.trim_matches('/'));
    if path == "/" {
        return Err("has no path: write sftp://user@host:port/absolute/path".into());
    }
    let sftp = SftpSettings { user: decoded(user)?, host: host.to_owned(), port, ..SftpSettings::default() };
    let settings = StoreSettings::new(Scheme::Sftp, format!("sftp://{location}{path}"), String::new(), path);
    Ok(StoreSettings { sftp, ..settings })
}
