//! URLs of an account's containers and blobs: pure. They hold no key and no signature.

use crate::store::StoreSettings;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

/// What may stand in a name as it is.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &NAME.remove(b'/');
/// `$web` and its like keep their sign.
const CONTAINER: &AsciiSet = &NAME.remove(b'$');

/// Where the service of one account is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    /// Without a closing slash.
    pub endpoint: String,
}

impl Account {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn of(settings: &StoreSettings) -> Result<Account, String> {
        let account = Account::unchecked(settings)?;
        // It goes into headers and host names.
        let plain = account.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain {
            Ok(account)
        } else {
            Err("the storage account's name holds more than letters and digits".to_owned())
        }
    }

    fn unchecked(settings: &StoreSettings) -> Result<Account, String> {
        let name = settings.abs.account.as_str();
        let Some(endpoint) = settings.endpoint.as_deref() else {
            return match name {
                "" => Err("the storage account is missing: write abs://ACCOUNT@CONTAINER/PREFIX".to_owned()),
                name => Ok(Account {
                    name: name.to_owned(),
                    endpoint: format!("https://{name}.blob.core.windows.net"),
                }),
            };
        };
        let url = parsed(endpoint)?;
        let name = if name.is_empty() { told_by(&url) } else { name.to_owned() };
        if name.is_empty() {
            return Err(
                "the endpoint does not tell the storage account: write abs://ACCOUNT@CONTAINER/PREFIX"
                    .to_owned(),
            );
        }
        let endpoint = endpoint.trim_end_matches('/');
        // By address there are no host names per account: it stands in the path (Azurite).
        let bare = url.path() == "/" && is_address(&url);
        Ok(Account { endpoint: if bare { format!("{endpoint}/{name}") } else { endpoint.to_owned() }, name })
    }

    pub(super) fn is_plain(&self) -> bool {
        self.endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
    }

    /// URL of one blob.
    pub(super) fn blob(&self, container: &str, name: &str) -> String {
        format!("{}/{}", self.container(container), utf8_percent_encode(name, PATH))
    }

    /// URL that lists a container.
    pub(super) fn listing(&self, container: &str, parameters: &[(&str, &str)]) -> String {
        let mut url = format!("{}?restype=container&comp=list", self.container(container));
        for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
            url.push_str(&format!("&{name}={}", encoded(value)));
        }
        url
    }

    fn container(&self, name: &str) -> String {
        format!("{}/{}", self.endpoint, utf8_percent_encode(name, CONTAINER))
    }
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NAME).to_string()
}

/// What every part of the program that gets it can take apart again.
fn parsed(endpoint: &str) -> Result<Url, String> {
    // Not echoed: it may hold a signature.
    let wrong = || {
        "the endpoint must be an address like https://ACCOUNT.blob.core.windows.net, without a query"
            .to_owned()
    };
    let url = Url::parse(endpoint).map_err(|_| wrong())?;
    let known =
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    let bare = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if known && bare && http::Uri::try_from(endpoint).is_ok() { Ok(url) } else { Err(wrong()) }
}

/// `https://ACCOUNT.blob…`, or `http://host/ACCOUNT`.
fn told_by(url: &Url) -> String {
    match url.path().trim_matches('/') {
        "" if is_address(url) => String::new(),
        "" => url.host_str().and_then(|host| Some(host.split_once('.')?.0)).unwrap_or_default().to_owned(),
        path => path.split('/').next().unwrap_or_default().to_owned(),
    }
}

fn is_address(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || number.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AbsSettings, Scheme};

    fn of(account: &str, endpoint: Option<&str>) -> Result<(String, String), String> {
        let settings = StoreSettings::new(Scheme::Abs, "abs://c/p".into(), "c".into(), "p".into());
        let abs = AbsSettings { account: account.to_owned(), ..AbsSettings::default() };
        let settings = StoreSettings { endpoint: endpoint.map(str::to_owned), abs, ..settings };
        Account::of(&settings).map(|account| (account.name, account.endpoint))
    }

    #[test]
    fn the_account_and_where_it_is() {
        for (account, endpoint, name, at) in [
            ("acme", None, "acme", "https://acme.blob.core.windows.net"),
            (
                "acme",
                Some("https://acme.blob.core.chinacloudapi.cn/"),
                "acme",
                "https://acme.blob.core.chinacloudapi.cn",
            ),
            (
                "",
                Some("https://acme.blob.core.usgovcloudapi.net"),
                "acme",
                "https://acme.blob.core.usgovcloudapi.net",
            ),
            ("", Some("http://127.0.0.1:10000/dev1"), "dev1", "http://127.0.0.1:10000/dev1"),
            ("", Some("http://azurite:10000/dev1/"), "dev1", "http://azurite:10000/dev1"),
            ("dev1", Some("http://127.0.0.1:10000/"), "dev1", "http://127.0.0.1:10000/dev1"),
            ("dev1", Some("http://[::1]:10000"), "dev1", "http://[::1]:10000/dev1"),
            ("dev1", Some("http://localhost:10000"), "dev1", "http://localhost:10000/dev1"),
            ("acme", Some("https://private.example.com"), "acme", "https://private.example.com"),
        ] {
            assert_eq!(
                of(account, endpoint).unwrap(),
                (name.to_owned(), at.to_owned()),
                "{account} {endpoint:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for (account, endpoint) in [
            ("", None),
            ("a\nb", None),
            ("acme.example.com/", None),
            ("", Some("http://127.0.0.1:10000/a%0Ab")),
            ("", Some("http://127.0.0.1:10000")),
            ("", Some("http://azurite:10000")),
            ("acme", Some("acme.blob.core.windows.net")),
            ("acme", Some("ftp://acme.blob.core.windows.net")),
            ("acme", Some("https://")),
            ("acme", Some("https://acme.example.com?sig=x")),
            ("acme", Some("https://u:p@acme.example.com")),
            ("acme", Some("https://a b.example.com")),
        ] {
            assert!(of(account, endpoint).is_err(), "{account} {endpoint:?}");
        }
    }

    #[test]
    fn names_are_encoded_once() {
        let account = Account { name: "acme".into(), endpoint: "https://h".into() };
        assert_eq!(account.blob("c", "a b/ü+?#%&.ltx"), "https://h/c/a%20b/%C3%BC%2B%3F%23%25%26.ltx");
        assert_eq!(account.blob("$web", "x"), "https://h/$web/x");
        assert_eq!(account.blob("c/d?", "x"), "https://h/c%2Fd%3F/x");
        let listing = account.listing("c", &[("prefix", "a b/ltx/"), ("marker", ""), ("delimiter", "/")]);
        assert_eq!(listing, "https://h/c?restype=container&comp=list&prefix=a%20b%2Fltx%2F&delimiter=%2F");
    }
}
