//! supervisor.toml, command line and environment → the settings of each part.
//!
//! The result is a `Config` that is complete and checked, or every problem with its file, line and key. Pure
//! but for `load`, which finds the file; files of secrets are read through `Environment`. Never prints a
//! secret.
//!
//! Imports go down this list: `show` and `load`; `parse`; the sections (`app`, `shutdown`, `database`,
//! `directory`, `replica`, `gate`, `handover`, `follow`, `verify`, `notify`, `status`) and `overlap`;
//! `values` (types of keys) and `deserialize` (TOML as a serde format with locations); `document`; the rules
//! of single values (`units`, `url`, `ready`, `expand`, `nearest`, `platform`). `litestream` turns a
//! litestream.yml into our text.

mod app;
mod checked;
mod database;
mod deserialize;
mod directory;
mod document;
mod environment;
mod expand;
mod follow;
mod gate;
mod handover;
pub mod litestream;
pub mod load;
pub mod nearest;
mod notify;
mod overlap;
mod parse;
mod platform;
pub mod problem;
mod ready;
mod replica;
mod settings;
pub mod show;
mod shutdown;
mod status;
mod toml_text;
pub mod units;
mod url;
mod values;
mod verify;

#[cfg(test)]
mod tests;

use crate::store::StoreSettings;

pub use checked::{Checked, Config};
pub use directory::{DirectorySettings, MOST_DEPTH, Pattern};
pub use environment::Environment;
pub use follow::FollowSettings;
pub use load::{Loaded, load};
pub use notify::{HeartbeatSettings, NotifyEvent, NotifySettings};
pub use parse::{Additions, Purpose, parse, parse_litestream};
pub use problem::{ConfigError, Location, Problem};
pub use settings::{
    AppRules, DatabaseSettings, LogFormat, LogLevel, LogSettings, ShutdownSettings, SocketChoice,
    StatusSettings,
};
pub use verify::VerifySettings;

/// A replica beside another one: where both are in the same service, the keys of that one hold for it, too.
pub fn replica_beside(
    url: &str,
    other: &StoreSettings,
    environment: Environment<'_>,
) -> Result<StoreSettings, ConfigError> {
    replica::of_url(url, Some(other), environment)
        .map_err(|message| ConfigError::single(Location::option("--to"), message))
}

/// One replica from its URL alone, its keys from the environment: what `litevisor restore URL` uses.
pub fn replica_from_url(url: &str, environment: Environment<'_>) -> Result<StoreSettings, ConfigError> {
    replica::from_url_alone(&Location::option("the replica"), url, environment)
}
