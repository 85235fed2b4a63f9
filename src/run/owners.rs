//! Who is to own a restored file: names from the configuration, looked up in the image's /etc/passwd and /etc/group.

use crate::config::DatabaseSettings;
use crate::restore::{Owner, Owners};
use crate::supervise::user::{self, UserError};

/// Which key names somebody who is not there.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    #[error("`owner` of database {database}: {source}")]
    Owner { database: String, source: UserError },
    #[error("`user` under [app]: {0}")]
    AppUser(UserError),
}

/// The app's user is as written: `name`, `uid` or `uid:gid`.
pub fn owners(database: &DatabaseSettings, app_user: Option<&str>) -> Result<Owners, OwnersError> {
    let look = |user: Option<&str>, mode| {
        let found = user.map(user::lookup).transpose()?;
        Ok(Owner { uid: found.as_ref().map(|found| found.uid), gid: found.map(|found| found.gid), mode })
    };
    let (owner, path) = (database.owner.as_deref(), &database.path);
    Ok(Owners {
        configured: look(owner, database.mode)
            .map_err(|source| OwnersError::Owner { database: path.to_string(), source })?,
        app: look(app_user, None).map_err(OwnersError::AppUser)?,
    })
}
