//! The owner of a restored file: the configured names, looked up in /etc/passwd and /etc/group.

use crate::config::DatabaseSettings;
use crate::restore::{Owner, Owners};
use crate::rights::{self, Rights};
use crate::supervise::user::{self, Identity, UserError};
use std::path::Path;

/// A configured database, with the owners looked up.
#[derive(Clone, Debug)]
pub struct Database {
    pub settings: DatabaseSettings,
    pub owners: Owners,
}

/// The key whose user is unknown.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    #[error("`owner` of database {database}: {source}")]
    Owner { database: String, source: UserError },
    #[error("`user` under [app]: {0}")]
    AppUser(UserError),
}

/// The app's user is as written: `name`, `uid` or `uid:gid`.
pub fn owners(database: &DatabaseSettings, app_user: Option<&str>) -> Result<Owners, OwnersError> {
    owners_at((database.path.as_path(), false), database, app_user)
}

/// The same for all databases in the directory at `path`, and with `below` in its subdirectories. From now on
/// litevisor works there with these rights.
pub fn owners_at(
    (path, below): (&Path, bool),
    database: &DatabaseSettings,
    app_user: Option<&str>,
) -> Result<Owners, OwnersError> {
    let look = |user: Option<&str>| user.map(user::lookup).transpose();
    let owner = look(database.owner.as_deref())
        .map_err(|source| OwnersError::Owner { database: database.path.to_string(), source })?;
    let app = look(app_user).map_err(OwnersError::AppUser)?;
    let ids = |found: &Option<Identity>, mode| Owner {
        uid: found.as_ref().map(|found| found.uid),
        gid: found.as_ref().map(|found| found.gid),
        mode,
    };
    let owners = Owners { configured: ids(&owner, database.mode), app: ids(&app, None) };
    if let Some(Identity { uid, gid, groups, .. }) = owner.or(app) {
        rights::choose(path, Rights { uid, gid, groups }, below);
    }
    Ok(owners)
}
