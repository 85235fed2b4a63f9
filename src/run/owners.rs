//! Who is to own a restored file: names from the configuration, looked up in the image's /etc/passwd and /etc/group.

use crate::restore::{Owner, Owners};
use crate::supervise::user::{self, UserError};

/// `configured` and `app_user` are `name`, `uid` or `uid:gid`, as written.
pub fn owners(configured: Option<&str>, mode: Option<u32>, app_user: Option<&str>) -> Result<Owners, UserError> {
    let look = |user: Option<&str>, mode| {
        let found = user.map(user::lookup).transpose()?;
        Ok(Owner { uid: found.as_ref().map(|found| found.uid), gid: found.map(|found| found.gid), mode })
    };
    Ok(Owners { configured: look(configured, mode)?, app: look(app_user, None)? })
}
