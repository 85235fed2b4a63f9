//! Names of the objects that say who owns a replica: pure. Under the replica's root, beside the LTX files:
//!
//! * `owner/<epoch>.json`: the claim. Creating epoch E+1 is the request to the owner of E to hand over.
//! * `owner/<epoch>.answer.json`: the owner of the epoch has seen the request and stops its app.
//! * `owner/<epoch>.released.json`: the owner of the epoch writes no more.
//! * `owner/<epoch>.<number>.alive.json`: a heartbeat of the owner of the epoch; the newest two are kept.

use crate::store::Object;
use serde::{Deserialize, Serialize};
use std::fmt;

pub const PREFIX: &str = "owner/";
/// Epochs behind an owner's own whose answers and releases stay.
const KEPT: u64 = 16;
/// Objects that one owner deletes.
const MOST_DELETED: usize = 1000;
/// Epochs beyond this were not counted by litevisor, and the number space would end behind them.
const LAST: u64 = i64::MAX.cast_unsigned();

/// Counts the owners of a replica; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Epoch(u64);

impl Epoch {
    pub const FIRST: Epoch = Epoch(1);

    /// None: no epoch has this number.
    pub fn new(number: u64) -> Option<Epoch> {
        (1..=LAST).contains(&number).then_some(Epoch(number))
    }

    pub fn get(self) -> u64 {
        self.0
    }

    /// Stays at the last one: a claim of it then fails because it exists.
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1).min(LAST))
    }

    /// Parses exactly 16 lowercase hex digits, not all zero.
    pub fn from_name(text: &str) -> Option<Epoch> {
        let hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex { Epoch::new(u64::from_str_radix(text, 16).ok()?) } else { None }
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> String {
        epoch.to_string()
    }
}

impl TryFrom<String> for Epoch {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Epoch, &'static str> {
        Epoch::from_name(&text).ok_or("an epoch has 16 hex digits")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Claim,
    Answer,
    Release,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Kind::Claim => ".json",
            Kind::Answer => ".answer.json",
            Kind::Release => ".released.json",
        }
    }
}

pub fn key(epoch: Epoch, kind: Kind) -> String {
    format!("{PREFIX}{epoch}{}", kind.suffix())
}

/// The inverse of `key`; None for every other name.
pub fn parse(key: &str) -> Option<(Epoch, Kind)> {
    let name = key.strip_prefix(PREFIX)?;
    let (digits, suffix) = name.split_once('.')?;
    let kind = [Kind::Claim, Kind::Answer, Kind::Release]
        .into_iter()
        .find(|kind| kind.suffix().strip_prefix('.') == Some(suffix))?;
    Some((Epoch::from_name(digits)?, kind))
}

const ALIVE: &str = ".alive.json";

/// The numbers of an epoch's heartbeats follow each other from 1 on.
pub fn beat_key(epoch: Epoch, number: u64) -> String {
    format!("{PREFIX}{epoch}.{number:016x}{ALIVE}")
}

/// In the order of names, what is behind this one begins with the heartbeats of the epoch.
pub fn before_beats(epoch: Epoch) -> String {
    format!("{PREFIX}{epoch}.")
}

/// The inverse of `beat_key`; None for every other name.
fn parse_beat(key: &str) -> Option<(Epoch, u64)> {
    let (epoch, number) = key.strip_prefix(PREFIX)?.strip_suffix(ALIVE)?.split_once('.')?;
    Some((Epoch::from_name(epoch)?, Epoch::from_name(number)?.get()))
}

/// The newest heartbeat of an epoch, from a listing.
pub fn newest_beat(objects: &[Object], epoch: Epoch) -> Option<u64> {
    let beats = objects.iter().filter_map(|object| parse_beat(&object.key));
    beats.filter(|(of, _)| *of == epoch).map(|(_, number)| number).max()
}

/// The newest epoch that was claimed, from a listing of `PREFIX`. Other names are ignored, and so is a
/// release without a claim: only a claim is a request that the owner before it has seen.
pub fn newest(objects: &[Object]) -> Option<Epoch> {
    let named = objects.iter().filter_map(|object| parse(&object.key));
    named.filter(|(_, kind)| *kind == Kind::Claim).map(|(epoch, _)| epoch).max()
}

/// What an owner may delete once its app has served longer than the trial, from a listing of `PREFIX`:
/// heartbeats of earlier epochs, and the answers and releases of old ones. Every walk back over releases ends
/// at the last epoch that has started its app, and a release that is not there means the same as a crash.
/// Claims stay: they are how an instance that was frozen learns that it was asked, and what keeps it from
/// claiming an old epoch once more.
pub fn outdated(objects: &[Object], own: Epoch) -> Vec<String> {
    let is_outdated = |key: &str| match (parse(key), parse_beat(key)) {
        (Some((epoch, kind)), _) => kind != Kind::Claim && epoch.0.saturating_add(KEPT) < own.0,
        (None, Some((epoch, _))) => epoch < own,
        (None, None) => false,
    };
    let mut keys: Vec<String> =
        objects.iter().filter(|object| is_outdated(&object.key)).map(|object| object.key.clone()).collect();
    keys.sort();
    keys.truncate(MOST_DELETED);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let epoch = Epoch::new(0x1f).unwrap();
        for (kind, name) in [
            (Kind::Claim, "owner/000000000000001f.json"),
            (Kind::Answer, "owner/000000000000001f.answer.json"),
            (Kind::Release, "owner/000000000000001f.released.json"),
        ] {
            assert_eq!(key(epoch, kind), name);
            assert_eq!(parse(name), Some((epoch, kind)));
        }
    }

    #[test]
    fn foreign_names_are_ignored() {
        for key in [
            "owner/README",
            "owner/1f.json",
            "owner/000000000000001F.json",
            "owner/0000000000000000.json",
            "owner/ffffffffffffffff.json",
            "owner/8000000000000000.json",
            "owner/000000000000001f.json.bak",
            "owner/000000000000001f..json",
            "owner/000000000000001f.release.json",
            "owner/x/000000000000001f.json",
            "x/owner/000000000000001f.json",
            "owner/+00000000000001f.json",
            "000000000000001f.json",
        ] {
            assert_eq!(parse(key), None, "{key}");
        }
    }

    fn listing(keys: &[&str]) -> Vec<Object> {
        keys.iter().map(|key| Object { key: (*key).to_owned(), size: 9, modified_ms: 0 }).collect()
    }

    #[test]
    fn only_old_answers_and_releases_are_outdated() {
        let all = listing(&[
            "owner/README",
            "owner/0000000000000001.json",
            "owner/0000000000000003.released.json",
            "owner/0000000000000003.answer.json",
            "owner/0000000000000004.released.json",
            "owner/0000000000000003.released.json.bak",
            "owner/0000000000000020.released.json",
            "owner/0000000000000014.0000000000000007.alive.json",
            "owner/0000000000000014.0000000000000008.alive.json",
        ]);
        let old = ["owner/0000000000000003.answer.json", "owner/0000000000000003.released.json"];
        for (own, expected) in [(1, &old[..0]), (19, &old[..0]), (20, &old[..])] {
            assert_eq!(outdated(&all, Epoch::new(own).unwrap()), expected, "{own}");
        }
        let newer = outdated(&all, Epoch::new(21).unwrap());
        assert_eq!(newer.len(), 5, "heartbeats, answers and releases: {newer:?}");
        assert_eq!(outdated(&all, Epoch::new(LAST).unwrap()).len(), 6);
        let many: Vec<String> =
            (1..=3000).map(|number| key(Epoch::new(number).unwrap(), Kind::Release)).collect();
        let many = listing(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(outdated(&many, Epoch::new(9000).unwrap()).len(), MOST_DELETED);
    }

    #[test]
    fn heartbeats_have_names_of_their_own() {
        let epoch = Epoch::new(31).unwrap();
        let key = beat_key(epoch, 258);
        assert_eq!(key, "owner/000000000000001f.0000000000000102.alive.json");
        assert_eq!((parse_beat(&key), parse(&key)), (Some((epoch, 258)), None));
        assert!(
            before_beats(epoch) < key
                && key < super::key(epoch, Kind::Answer)
                && key < super::key(epoch, Kind::Claim)
        );
        for other in
            ["owner/000000000000001f.json", "owner/000000000000001f.1.alive.json", "owner/x.alive.json"]
        {
            assert_eq!(parse_beat(other), None, "{other}");
        }
        let all = listing(&[
            "owner/000000000000001f.000000000000000a.alive.json",
            "owner/000000000000001f.0000000000000009.alive.json",
            "owner/0000000000000020.000000000000000b.alive.json",
        ]);
        assert_eq!((newest_beat(&all, epoch), newest_beat(&all, epoch.next().next())), (Some(10), None));
        assert_eq!(newest(&all), None);
    }

    #[test]
    fn the_newest_claim_counts() {
        for (keys, expected) in [
            (&["owner/README", "ltx/0/0000000000000002-0000000000000002.ltx"][..], None),
            (
                &[
                    "owner/0000000000000002.json",
                    "owner/000000000000000a.json",
                    "owner/ffffffffffffffff.json",
                ],
                Some(10),
            ),
            (&["owner/0000000000000002.json", "owner/0000000000000002.released.json"], Some(2)),
            (&["owner/0000000000000002.json", "owner/0000000000000003.released.json"], Some(2)),
        ] {
            assert_eq!(newest(&listing(keys)).map(Epoch::get), expected, "{keys:?}");
        }
        assert_eq!(Epoch::new(LAST).unwrap().next(), Epoch::new(LAST).unwrap());
    }
}
