//! Texts with units: durations, sizes, permission bits, signals, user specifications. Pure. The error is the
//! rest of a sentence that begins with the key's name.

use super::nearest::hint;
use crate::model::Signal;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const DURATION_FORM: &str = "write for example \"10s\", \"500ms\", \"1m30s\" or \"2h\"";
const SIZE_FORM: &str = "write for example \"256KiB\", \"10MB\" or \"1GiB\"";

/// Between two looks at a replica, or at the owner's records.
pub const POLL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// `"10s"`, `"500ms"`, `"1m30s"`, `"1.5h"`: numbers with units, added up.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("is no duration: {DURATION_FORM}"));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let bad = || format!("is no duration (\"{text}\"): {DURATION_FORM}");
        if number.is_empty() {
            return Err(bad());
        }
        let unit_ms: u64 = match unit {
            "" => return Err(format!("has no unit (\"{text}\"): {DURATION_FORM}")),
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            other => return Err(format!("has the unknown unit \"{other}\": use ms, s, m, h or d")),
        };
        let part = decimal_ms(number, unit_ms).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = next;
    }
    Ok(total)
}

/// `number` may have a fraction; everything is rounded down to whole milliseconds.
fn decimal_ms(number: &str, unit_ms: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_ms) / u128::from(scale);
    let ms = whole.parse::<u64>().ok()?.checked_mul(unit_ms)?.checked_add(u64::try_from(part).ok()?)?;
    Some(Duration::from_millis(ms))
}

/// `"256KiB"`, `"10MB"`, `"4096B"` in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text.trim());
    let factor: u64 = match unit.trim() {
        "" => return Err(format!("has no unit (\"{text}\"): {SIZE_FORM}")),
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        other => return Err(format!("has the unknown unit \"{other}\": use B, KB, MB, GB, KiB, MiB or GiB")),
    };
    let value = number.parse::<u64>().ok().and_then(|value| value.checked_mul(factor));
    value.ok_or_else(|| format!("is no size (\"{text}\"): {SIZE_FORM}"))
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// Writes a duration so that `duration` reads it back.
pub fn show_duration(value: Duration) -> String {
    let ms = value.as_millis();
    match ms {
        0 => "0s".into(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ if ms > 1_000 => format!("{}s{}ms", ms / 1_000, ms % 1_000),
        _ => format!("{ms}ms"),
    }
}

/// Writes a size so that `size` reads it back.
pub fn show_size(bytes: u64) -> String {
    let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match unit.iter().find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift) {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// `"0640"`: permission bits in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match octal.then(|| u32::from_str_radix(text, 8)) {
        Some(Ok(bits)) if bits <= 0o777 => Ok(bits),
        _ => {
            Err(format!("is no file mode (\"{text}\"): write permission bits in octal, for example \"0640\""))
        }
    }
}

/// `"SIGTERM"`, `"TERM"`, `"SIGRTMIN+3"`.
pub fn signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(number) = real_time(&name) {
        return Ok(Signal(number));
    }
    match nix::sys::signal::Signal::from_str(&name) {
        Ok(nix::sys::signal::Signal::SIGKILL | nix::sys::signal::Signal::SIGSTOP) => {
            Err(format!("cannot be {name}: the app could not react to it; use SIGTERM, SIGINT or SIGQUIT"))
        }
        Ok(signal) => Ok(Signal(signal as i32)),
        Err(_) => {
            let known = nix::sys::signal::Signal::iterator().map(nix::sys::signal::Signal::as_str);
            Err(format!("is no signal (\"{text}\"){}", hint(&name, known)))
        }
    }
}

fn real_time(name: &str) -> Option<i32> {
    let low = nix::libc::SIGRTMIN();
    let high = nix::libc::SIGRTMAX();
    let offset =
        |text: &str| if text.is_empty() { Some(0) } else { text.get(1..)?.parse::<u8>().ok().map(i32::from) };
    let number = match name.strip_prefix("SIGRTMIN") {
        Some(rest) if rest.is_empty() || rest.starts_with('+') => low + offset(rest)?,
        _ => match name.strip_prefix("SIGRTMAX")? {
            rest if rest.is_empty() || rest.starts_with('-') => high - offset(rest)?,
            _ => return None,
        },
    };
    (low..=high).contains(&number).then_some(number)
}

/// `name`, `uid`, `uid:gid`, `name:group`: the form only; names are looked up when they are needed.
pub fn user(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let fine =
        parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!("is no user (\"{text}\"): write a name, a uid, or uid:gid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1.5s", 1_500),
            ("0.25m", 15_000),
            ("0s", 0),
            (" 3s ", 3_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, part) in [
            ("", "is no duration"),
            ("10", "has no unit"),
            ("1m30", "has no unit"),
            ("s", "is no duration"),
            ("-1s", "is no duration"),
            ("1..5s", "is no duration"),
            (".5s", "is no duration"),
            ("10 s", "has no unit"),
            ("10sec", "unknown unit \"sec\""),
            ("99999999999999999999s", "is no duration"),
        ] {
            assert!(duration(text).unwrap_err().contains(part), "{text}: {:?}", duration(text));
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("10MB", 10_000_000),
            ("4096B", 4096),
            ("64 KiB", 64 << 10),
            ("2GiB", 2 << 30),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, part) in [
            ("10", "has no unit"),
            ("", "has no unit"),
            ("MiB", "is no size"),
            ("1.5GiB", "is no size"),
            ("-1B", "unknown unit"),
            ("10mb", "unknown unit \"mb\""),
            ("99999999999TiB", "is no size"),
        ] {
            assert!(size(text).unwrap_err().contains(part), "{text}: {:?}", size(text));
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 1, 500, 1_000, 1_500, 59_000, 60_000, 90_000, 3_600_000, 86_400_000] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1023, 1024, 4 << 20, 5_000_000, 3 << 30, u64::MAX] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn modes() {
        for (text, bits) in [("0640", 0o640), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(mode(text), Ok(bits));
        }
        for text in ["", "64", "0o640", "0888", "rw-r-----", "4755", "06400"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals() {
        let low = nix::libc::SIGRTMIN();
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigint", 2),
            ("SIGPWR", 30),
            ("SIGRTMIN+3", low + 3),
            ("RTMAX", 64),
        ] {
            assert_eq!(signal(text), Ok(Signal(number)), "{text}");
        }
        for (text, part) in [
            ("SIGTREM", "did you mean \"SIGTERM\"?"),
            ("SIGKILL", "could not react"),
            ("STOP", "could not react"),
            ("15", "is no signal"),
            ("SIGRTMIN+99", "is no signal"),
            ("SIGRTMIN-1", "is no signal"),
            ("", "is no signal"),
        ] {
            assert!(signal(text).unwrap_err().contains(part), "{text}: {:?}", signal(text));
        }
    }

    #[test]
    fn users() {
        for text in ["grafana", "1000", "1000:1000", "app:app"] {
            assert_eq!(user(text), Ok(text.to_owned()));
        }
        for text in ["", ":", "a:", ":b", "a:b:c", "a b"] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
