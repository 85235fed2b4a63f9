//! `abs://account@container/prefix`. Pure.

use super::{prefix, shown, unknown};
use crate::store::{AbsSettings, Scheme, StoreSettings};

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = location.split_once('/').unwrap_or((location, ""));
    let (account, container) = host.rsplit_once('@').unwrap_or(("", host));
    if account.contains(':') {
        return Err(
            "holds a key: keys in a URL end up in logs; use account_key or sas_token, or the environment".into()
        );
    }
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if container.is_empty() || !plain(container) && container != "$web" || !plain(account) {
        return Err("has no container, or an invalid name: write abs://account@container/prefix".into());
    }
    if let Some(parameter) = query.split(['&', '=']).find(|name| !name.is_empty()) {
        return Err(unknown(parameter, &[]));
    }
    let path = prefix(path)?;
    let place = if account.is_empty() { container.to_owned() } else { format!("{account}@{container}") };
    let settings = StoreSettings::new(Scheme::Abs, shown("abs", &place, &path), container.to_owned(), path);
    Ok(StoreSettings { abs: AbsSettings { account: account.to_owned(), ..AbsSettings::default() }, ..settings })
}
