//! Named moments at which a test lets the process die. Shipped, a point does nothing.

use crate::model::DbPath;
use crate::restore::RestoreError;

#[cfg(not(test))]
#[inline]
pub fn point(_: &DbPath) -> Result<(), RestoreError> {
    Ok(())
}

#[cfg(test)]
pub use armed::{arm, disarm, left, point};

#[cfg(test)]
mod armed {
    use super::{DbPath, RestoreError};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// Points that are still passed.
    static FATES: Mutex<BTreeMap<DbPath, u32>> = Mutex::new(BTreeMap::new());

    /// The next follower of this copy dies at its `points`-th point.
    pub fn arm(db: &DbPath, points: u32) {
        FATES.lock().unwrap().insert(db.clone(), points);
    }

    /// How many points are still to pass.
    pub fn left(db: &DbPath) -> u32 {
        FATES.lock().unwrap()[db]
    }

    /// Whether it has died.
    pub fn disarm(db: &DbPath) -> bool {
        FATES.lock().unwrap().remove(db) == Some(0)
    }

    pub fn point(db: &DbPath) -> Result<(), RestoreError> {
        let mut fates = FATES.lock().unwrap();
        let Some(left) = fates.get_mut(db) else { return Ok(()) };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Ok(());
        }
        Err(RestoreError::io("go on with", db.as_path())(std::io::Error::other("killed")))
    }
}
