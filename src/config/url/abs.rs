//! `abs://account@container/prefix?endpoint=…`; the account may come from elsewhere. Pure.

use super::{check_endpoint, parameters, prefix, shown, unknown};
use crate::store::{AbsSettings, Scheme, StoreSettings};

pub fn parse(rest: &str) -> Result<StoreSettings, String> {
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = location.split_once('/').unwrap_or((location, ""));
    let (account, container) = host.rsplit_once('@').unwrap_or(("", host));
    // Base64 has slashes: a key may end in what looks like the path.
    if account.contains(':') || path.contains('@') && host.contains(':') {
        return Err(
            "holds a key: keys in a URL end up in logs; use account_key or sas_token, or the environment"
                .into(),
        );
    }
    if container.contains('.') {
        return Err(
            "has a host in the container's place: write abs://account@container/prefix, and give endpoint \
             where the account is not at Azure's usual place"
                .into(),
        );
    }
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if container.is_empty() || !plain(container) && container != "$web" || !plain(account) {
        return Err("has no container, or an invalid name: write abs://account@container/prefix".into());
    }
    let path = prefix(path)?;
    let authority = if account.is_empty() { container.to_owned() } else { format!("{account}@{container}") };
    let settings =
        StoreSettings::new(Scheme::Abs, shown("abs", &authority, &path), container.to_owned(), path);
    let abs = AbsSettings { account: account.to_owned(), ..AbsSettings::default() };
    let mut settings = StoreSettings { abs, ..settings };
    let parameters = parameters(query)?;
    if parameters.iter().any(|(name, _)| *name == "sig") {
        return Err("holds a signature: give it as sas_token, or through the environment".into());
    }
    for (name, value) in parameters {
        match name {
            "endpoint" => settings.endpoint = Some(check_endpoint(&value)?),
            _ => return Err(unknown(name, &["endpoint"])),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, account, container, path, shown) in [
            ("acme@c", "acme", "c", "", "abs://acme@c"),
            ("acme@c/", "acme", "c", "", "abs://acme@c"),
            ("acme@c/app/db", "acme", "c", "app/db", "abs://acme@c/app/db"),
            ("acme@c//app//db/", "acme", "c", "app/db", "abs://acme@c/app/db"),
            ("my-container/a%20b", "", "my-container", "a b", "abs://my-container/a b"),
            ("acme@$web/x", "acme", "$web", "x", "abs://acme@$web/x"),
        ] {
            let url = parse(text).unwrap();
            let found = (url.abs.account.as_str(), url.bucket.as_str(), url.path.as_str(), url.url.as_str());
            assert_eq!(found, (account, container, path, shown), "{text}");
        }
        let url = parse("acme@c/p?endpoint=http%3A%2F%2F127.0.0.1:10000/acme").unwrap();
        assert_eq!(url.endpoint.as_deref(), Some("http://127.0.0.1:10000/acme"));
        assert_eq!(url.url, "abs://acme@c/p");
    }

    #[test]
    fn bad_urls_say_what_to_write_and_repeat_no_secret() {
        for (text, part) in [
            ("", "has no container"),
            ("acme@", "has no container"),
            ("acme@/p", "has no container"),
            ("acme:hush@c/p", "holds a key"),
            ("acme:hu/sh@c/p", "holds a key"),
            ("acme.blob.core.windows.net/c", "has a host"),
            ("a c@c/p", "invalid name"),
            ("acme@c_d/p", "invalid name"),
            ("acme@c/a/../b", "\"..\""),
            ("acme@c/p?sv=1&sig=hush", "sas_token"),
            ("acme@c/p?sig=hush", "sas_token"),
            ("acme@c/p?endpont=x", "did you mean \"endpoint\"?"),
            ("acme@c/p?endpoint=localhost", "begins with https://"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(part) && !told.contains("hush"), "{text}: {told}");
        }
    }
}
