//! The query of a request, `db=/data/app.db&timeout=30s`: pure.

use std::time::Duration;

/// The longest timeout of a sync.
pub const LONGEST: Duration = Duration::from_secs(3600);
const DEFAULT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub db: Option<String>,
    pub timeout: Duration,
}

pub fn parse(query: &str) -> Result<Query, String> {
    let mut parsed = Query { db: None, timeout: DEFAULT };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("{name} is not percent-encoded UTF-8"))?;
        match name {
            "db" => parsed.db = Some(value).filter(|db| !db.is_empty()),
            "timeout" => {
                let timeout = span(&value).filter(|timeout| *timeout <= LONGEST);
                parsed.timeout =
                    timeout.ok_or_else(|| format!("timeout={value}: write 500ms, 30s or 2m, at most 1h"))?;
            }
            other => return Err(format!("{other} is not known here; known are db and timeout")),
        }
    }
    Ok(parsed)
}

/// A whole number with its unit; without one, seconds.
fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
}

pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// So that `decoded` reads it back.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let seconds = Duration::from_secs;
        for (query, db, timeout) in [
            ("", None, DEFAULT),
            ("db=", None, DEFAULT),
            ("db=/data/app.db", Some("/data/app.db"), DEFAULT),
            ("timeout=5&db=%2Fa%20b+c%22", Some("/a b c\""), seconds(5)),
            ("timeout=500ms", None, Duration::from_millis(500)),
            ("timeout=60m&", None, LONGEST),
        ] {
            assert_eq!(parse(query), Ok(Query { db: db.map(String::from), timeout }), "{query}");
        }
        for wrong in [
            "timeout=",
            "timeout=-1s",
            "timeout=2h",
            "timeout=99999999999999999999",
            "db=%2",
            "db=%ff",
            "bd=x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for path in ["/data/app.db", "/a b/ü\"&=+%.db", "\n"] {
            assert_eq!(decoded(&encoded(path)).as_deref(), Some(path));
        }
    }
}
