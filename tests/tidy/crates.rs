//! `Cargo.lock` against `deny.toml`: duplicates have reasons, and so have crates with a known advisory; no
//! exception outlives its crate. What is advised after this was written is known to `cargo deny` alone, which
//! needs its database.

use std::collections::{BTreeMap, BTreeSet};

/// Advisories that are known to concern a crate of the tree, in every version that it can have.
pub const ADVISORIES: [(&str, &str); 1] = [("RUSTSEC-2023-0071", "rsa")];

/// Versions by name.
pub fn locked(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = lock.parse().unwrap();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions
}

/// An id or a crate, each with its reason.
fn exceptions(list: &toml::Value, key: &str) -> BTreeMap<String, String> {
    let text = |entry: &toml::Value, key: &str| {
        entry.get(key).and_then(|text| text.as_str()).unwrap_or("").to_owned()
    };
    list.as_array().unwrap().iter().map(|entry| (text(entry, key), text(entry, "reason"))).collect()
}

pub fn wrong(lock: &str, deny: &str, advisories: &[(&str, &str)]) -> Vec<String> {
    let (locked, deny): (_, toml::Table) = (locked(lock), deny.parse().unwrap());
    let (skip, ignore) =
        (exceptions(&deny["bans"]["skip"], "crate"), exceptions(&deny["advisories"]["ignore"], "id"));
    let mut wrong = Vec::new();
    for (what, reason) in skip.iter().chain(&ignore) {
        if reason.len() < 10 {
            wrong.push(format!("{what} is an exception without a reason"));
        }
    }
    for (name, versions) in locked.iter().filter(|(_, versions)| versions.len() > 1) {
        // All but one are named.
        let named = versions.iter().filter(|version| skip.contains_key(&format!("{name}@{version}"))).count();
        if named + 1 != versions.len() {
            wrong.push(format!(
                "{name} is there in {versions:?}: name all but the newest in deny.toml, with a reason"
            ));
        }
    }
    for what in skip.keys() {
        let (name, version) = what.split_once('@').unwrap_or((what, ""));
        if !locked.get(name).is_some_and(|versions| versions.len() > 1 && versions.contains(version)) {
            wrong.push(format!("{what} is no duplicate any more"));
        }
    }
    for (id, name) in advisories {
        if locked.contains_key(*name) != ignore.contains_key(*id) {
            wrong.push(format!(
                "{id} concerns {name}: an exception belongs into deny.toml as long as it is in Cargo.lock"
            ));
        }
    }
    for id in ignore.keys().filter(|id| !advisories.iter().any(|(known, _)| known == id)) {
        wrong.push(format!("{id} is ignored, and nothing says for which crate"));
    }
    wrong
}
