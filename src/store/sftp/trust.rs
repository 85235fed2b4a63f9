//! Verifies a host key against the settings and the known_hosts files: pure. No key is trusted at first
//! sight.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use russh::keys::{Algorithm, HashAlg, PublicKey};

/// What `host_key` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expected {
    /// Off, by the word `any`.
    Any,
    Pinned(Vec<Pin>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pin {
    Fingerprint(String),
    Key(PublicKey),
}

/// A line of a known_hosts file about this host.
#[derive(Clone, Debug)]
struct Line {
    key: PublicKey,
    /// `FILE line N`.
    position: String,
    revoked: bool,
}

/// Everything that is known about one host.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    expected: Option<Expected>,
    host: String,
    port: u16,
    lines: Vec<Line>,
    files: Vec<String>,
    /// A line that names an authority instead of a key.
    authority: Option<String>,
}

impl Expected {
    /// One key or fingerprint a line. The error is a text for the user.
    pub(super) fn parse(text: &str) -> Result<Expected, String> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Ok(Expected::Any);
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pins = lines.map(Pin::parse).collect::<Result<Vec<_>, _>>()?;
        if pins.is_empty() { Err(HOST_KEY.to_owned()) } else { Ok(Expected::Pinned(pins)) }
    }
}

const HOST_KEY: &str = "host_key must be a line of a public key (ssh-ed25519 AAAA…), a fingerprint \
    (SHA256:…), or the word any; ssh-keyscan HOST shows the line";

impl Pin {
    fn parse(line: &str) -> Result<Pin, String> {
        if let Some(digest) = line.strip_prefix("SHA256:") {
            let digest = digest.split_whitespace().next().unwrap_or_default().trim_end_matches('=');
            let sane = digest.len() == 43 && STANDARD.decode(format!("{digest}=")).is_ok();
            return if sane {
                Ok(Pin::Fingerprint(format!("SHA256:{digest}")))
            } else {
                Err(HOST_KEY.to_owned())
            };
        }
        // A line of ssh-keyscan begins with the host.
        let behind_host = || line.split_once(char::is_whitespace).map(|(_, rest)| rest.trim_start());
        let key = PublicKey::from_openssh(line).ok().or_else(|| PublicKey::from_openssh(behind_host()?).ok());
        key.map(Pin::Key).ok_or_else(|| HOST_KEY.to_owned())
    }

    fn is(&self, key: &PublicKey) -> bool {
        match self {
            Pin::Fingerprint(fingerprint) => *fingerprint == self::fingerprint(key),
            Pin::Key(expected) => expected.key_data() == key.key_data(),
        }
    }
}

pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl Trust {
    pub(super) fn new(expected: Option<Expected>, host: &str, port: u16) -> Trust {
        let host = host.to_ascii_lowercase();
        Trust { expected, host, port, lines: Vec::new(), files: Vec::new(), authority: None }
    }

    /// Whether known_hosts files count: `host_key` alone decides where it is given.
    pub(super) fn asks_files(&self) -> bool {
        self.expected.is_none()
    }

    pub(super) fn is_off(&self) -> bool {
        self.expected == Some(Expected::Any)
    }

    /// Adds what a known_hosts file says about this host. Lines that cannot be read are skipped, as ssh does.
    pub(super) fn add_known_hosts(&mut self, file: &str, text: &str) {
        self.files.push(file.to_owned());
        let name = if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) };
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            let (marker, hosts) =
                if first.starts_with('@') { (first, words.next()) } else { ("", Some(first)) };
            let (Some(hosts), Some(kind), Some(key)) = (hosts, words.next(), words.next()) else { continue };
            if first.starts_with('#') || !names(hosts, &name) {
                continue;
            }
            let position = format!("{file} line {}", at + 1);
            match (marker, PublicKey::from_openssh(&format!("{kind} {key}"))) {
                ("@cert-authority", _) => self.authority = Some(position),
                ("" | "@revoked", Ok(key)) => {
                    self.lines.push(Line { key, position, revoked: marker == "@revoked" })
                }
                _ => {}
            }
        }
    }

    /// The algorithms to ask for, those of the known keys first: a host has several keys, and shows one.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let pinned = match &self.expected {
            Some(Expected::Pinned(pins)) => pins.as_slice(),
            _ => &[],
        };
        let pinned = pinned.iter().filter_map(|pin| match pin {
            Pin::Key(key) => Some(key.algorithm()),
            Pin::Fingerprint(_) => None,
        });
        let lines = self.lines.iter().filter(|line| !line.revoked).map(|line| line.key.algorithm());
        let known: Vec<Algorithm> = pinned.chain(lines).collect();
        let same = |a: &Algorithm, b: &Algorithm| a == b || is_rsa(a) && is_rsa(b);
        let mut all = russh::Preferred::DEFAULT.key.to_vec();
        // Signatures with SHA-1 prove nothing any more.
        all.retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
        all.sort_by_key(|algorithm| !known.iter().any(|known| same(known, algorithm)));
        all
    }

    /// The algorithms to offer, one connection after the other: a fingerprint does not show the kind of its
    /// key.
    pub(super) fn rounds(&self) -> Vec<Vec<Algorithm>> {
        let all = self.algorithms();
        let blind = |pin: &Pin| matches!(pin, Pin::Fingerprint(_));
        match &self.expected {
            Some(Expected::Pinned(pins)) if pins.iter().any(blind) => {
                let (rsa, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_rsa);
                let (edwards, curves) =
                    others.into_iter().partition(|algorithm| *algorithm == Algorithm::Ed25519);
                vec![edwards, curves, rsa]
            }
            _ => vec![all],
        }
    }

    /// The error is a text for the user.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), String> {
        let at = format!("{}:{}", self.host, self.port);
        let shown = fingerprint(key);
        let shown = format!("{} {shown}", key.algorithm());
        match &self.expected {
            Some(Expected::Any) => return Ok(()),
            Some(Expected::Pinned(pins)) if pins.iter().any(|pin| pin.is(key)) => return Ok(()),
            Some(Expected::Pinned(_)) => {
                return Err(format!(
                    "THE HOST KEY OF {at} IS NOT THE ONE THAT host_key SAYS: it shows {shown}. Another host \
                     may answer in its place, or the server has got a new key; nothing was sent. If the new \
                     key is right, write it in host_key"
                ));
            }
            None => {}
        }
        let same = |line: &&Line| line.key.key_data() == key.key_data();
        if let Some(line) = self.lines.iter().filter(|line| line.revoked).find(same) {
            return Err(format!(
                "THE HOST KEY OF {at} IS REVOKED in {}: it shows {shown}; nothing was sent",
                line.position
            ));
        }
        let mut known = self.lines.iter().filter(|line| !line.revoked).peekable();
        let Some(first) = known.peek().map(|line| line.position.clone()) else {
            return Err(self.unknown(&at, &shown));
        };
        if known.any(|line| same(&line)) {
            return Ok(());
        }
        Err(format!(
            "THE HOST KEY OF {at} HAS CHANGED: it shows {shown}, and {first} has another. Another host may \
             answer in its place, or the server was installed anew; nothing was sent. If the change is \
             right, replace that line (ssh-keygen -R removes it, ssh-keyscan shows the new one)"
        ))
    }

    fn unknown(&self, at: &str, shown: &str) -> String {
        let fingerprint = shown.rsplit(' ').next().unwrap_or_default();
        let looked =
            if self.files.is_empty() { "no known_hosts file".to_owned() } else { self.files.join(", ") };
        let authority = self.authority.as_ref().map_or(String::new(), |position| {
            format!(
                "; {position} names a certificate authority, which is not supported: add the host's own key"
            )
        });
        format!(
            "the host key of {at} is not known: it shows {shown}. Compare that with what `ssh-keygen -lf` \
             says on the server; if it is right, write host_key = \"{fingerprint}\", or add the line that \
             `ssh-keyscan -p {} {}` shows to a known_hosts file (looked in: {looked}){authority}",
            self.port, self.host
        )
    }
}

/// One kind of key, whatever it signs with.
fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
}

/// Whether the first field of a line means `name`: patterns with `*`, `?` and `!`, or one that is hashed.
fn names(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        let Some((salt, hash)) = hashed.split_once('|') else { return false };
        let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        return hmac::verify(&key, name.as_bytes(), &hash).is_ok();
    }
    let mut meant = false;
    for pattern in hosts.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => meant |= matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    meant
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=name.len()).any(|at| matches(rest, name.get(at..).unwrap_or_default()))
        }
        (Some((b'?', rest)), Some((_, name))) => matches(rest, name),
        (Some((wanted, rest)), Some((char, name))) => wanted == char && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
