//! Lists the databases of a directory entry in its replica: the names under its prefix, with `recursive`
//! those under prefixes of subdirectories, too.

use crate::config::{DirectorySettings, MOST_DEPTH};
use crate::model::Deadline;
use crate::restore::waiting_report::State;
use crate::restore::{RestoreSettings, WaitingReport};
use crate::store::{StoreError, StoreErrorKind, StoreSettings, Stores, retry};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// Prefixes that may be subdirectories. More than an entry has on the disk: what else is in the bucket is
/// searched, too.
const MOST_PREFIXES: usize = 20_000;
/// Listings at once.
const AT_ONCE: usize = 16;

/// The names that match the entry. What has such a name may still not be a replica.
pub async fn in_replica(
    entry: &DirectorySettings,
    stores: &Stores,
    settings: &RestoreSettings,
) -> Result<BTreeSet<String>, StoreError> {
    let by = Deadline::after(settings.timeout);
    let search = Search { entry, stores, settings, by, throttle: WaitingReport::default() };
    let mut found = BTreeSet::new();
    let mut ignored = BTreeSet::new();
    let mut level = vec![String::new()];
    let mut searched = 0;
    for depth in 0.. {
        searched += level.len();
        let mut below = Vec::new();
        let looks: Vec<_> = level.iter().map(|prefix| search.names(prefix)).collect();
        let names: Vec<Vec<String>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        for name in names.into_iter().flatten() {
            match search.place(&name) {
                Place::Database => drop(found.insert(name)),
                Place::Directory => below.push(name),
                Place::Neither => drop(ignored.insert(name)),
            }
        }
        if below.is_empty() {
            break;
        }
        if depth >= MOST_DEPTH || searched + below.len() > MOST_PREFIXES {
            return Err(search.too_large(below.first()));
        }
        level = below;
    }
    if !entry.recursive && !ignored.is_empty() {
        let some = ignored.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let count = ignored.len();
        let (pattern, replica) = (entry.pattern.text(), entry.each().replica.url.as_str());
        tracing::info!(
            replica,
            "{count} names in the replica do not match {pattern:?} and are ignored: {some}"
        );
    }
    Ok(found)
}

enum Place {
    Database,
    Directory,
    Neither,
}

struct Search<'a> {
    entry: &'a DirectorySettings,
    stores: &'a Stores,
    settings: &'a RestoreSettings,
    by: Deadline,
    throttle: WaitingReport,
}

impl Search<'_> {
    /// The names right under a prefix, as paths below the entry's.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let Search { entry, stores, settings, by, throttle } = self;
        let store = stores.open(&self.below(prefix))?;
        let told = |error: &StoreError, _| {
            if throttle.due(State::Failing(error.kind)) {
                tracing::warn!(dir = %entry.dir.display(), "{error}; trying again, for {} s \
                    more", by.left().as_secs());
            }
        };
        let names = retry::run(*by, settings.timeout / 2, told, |by| store.directories(by)).await?;
        let path = |name: String| if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        Ok(names.into_iter().map(path).collect())
    }

    fn below(&self, prefix: &str) -> StoreSettings {
        if prefix.is_empty() {
            self.entry.each().replica.clone()
        } else {
            self.entry.database(prefix).replica
        }
    }

    /// A prefix whose last part matches the pattern is a database's, and never a subdirectory's.
    fn place(&self, name: &str) -> Place {
        let last = name.rsplit('/').next().unwrap_or_default();
        if self.entry.takes(name) {
            Place::Database
        } else if self.entry.enters(OsStr::new(last)) && !DirectorySettings::is_reserved(Path::new(name)) {
            Place::Directory
        } else {
            Place::Neither
        }
    }

    fn too_large(&self, name: Option<&String>) -> StoreError {
        let name = name.map(String::as_str).unwrap_or_default();
        let detail = format!(
            "recursive = true searches at most {MOST_PREFIXES} prefixes, {MOST_DEPTH} levels deep, and \
             {name} is one more: give the replica a prefix in which nothing else is kept"
        );
        StoreError::new(
            StoreErrorKind::Invalid,
            "list the databases in",
            &self.entry.each().replica.url,
            detail,
        )
    }
}
