//! A file that another process has open is not replaced: the process would write on to the old file, and its
//! commits would be lost without an error. The database's lock is held as long as this command runs.

use super::jobs::Job;
use crate::commands::error::{CommandError, ErrorKind};
use crate::local_state::adopt::adopt;
use crate::local_state::lock;
use crate::model::DbPath;
use crate::run::locks::{self, OtherOwner};
use crate::sqlite::users::users;

/// With and without `--force`.
pub fn refuse_owned(job: &Job) -> Result<(), CommandError> {
    let db = DbPath::new(job.out());
    let owner = match job {
        // The next `run` must not begin in the middle of it.
        Job::InPlace { .. } => locks::lock(&db, "").err(),
        Job::To { .. } => locks::owner(&db),
    };
    if let Some(owned) = owner {
        return Err(refused(by_litevisor(&owned)));
    }
    if let Job::InPlace { .. } = job {
        adopt(&db).map_err(|error| refused(error.to_string()))?;
    }
    match users(db.as_path()) {
        None => Ok(()),
        Some(users) => {
            lock::release(&db);
            Err(refused(format!(
                "{db} is open in another process: {users}. It would go on in the old file, so the file is \
                 not replaced, with or without --force. Stop that process first, or restore to another file \
                 with -o"
            )))
        }
    }
}

fn refused(message: String) -> CommandError {
    CommandError::new(ErrorKind::Local, message)
}

fn by_litevisor(owned: &OtherOwner) -> String {
    format!(
        "{owned}: the file is not replaced, with or without --force. Stop that litevisor first, or restore \
         to another file with -o"
    )
}
