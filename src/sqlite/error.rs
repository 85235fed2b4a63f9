//! The error of this boundary.

#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The file is missing, empty, or has no header yet: the app has not made its database.
    #[error("database {subject} does not exist yet")]
    NotYet { subject: String },
    /// No process can write to it.
    #[error(
        "cannot {operation} database {subject}: it is on a read-only file system, where nothing can be \
         written to it"
    )]
    ReadOnly { operation: &'static str, subject: String },
    /// It is not in WAL mode, and was written to a moment ago.
    #[error(
        "database {subject} is being written in a rollback journal mode: it is switched to WAL mode once the \
         app pauses for two seconds, or has ended (with PRAGMA journal_mode = wal the app need not pause)"
    )]
    Writing { subject: String },
    /// The bundled SQLite was compiled without `sqlite_dbpage`.
    #[error(
        "cannot keep database {subject} up with its replica while others read it: this litevisor was built \
         without SQLite's sqlite_dbpage. Build it in its own directory, where .cargo/config.toml sets \
         LIBSQLITE3_FLAGS, or set LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB"
    )]
    NoPages { subject: String },
    /// Another connection is in the way; it may be gone at the next try.
    #[error("cannot {operation} database {subject}: it is locked by another connection")]
    Busy { operation: &'static str, subject: String },
    #[error("cannot {operation} database {subject}: {detail}")]
    Failed { operation: &'static str, subject: String, detail: String },
    /// There was a moment without a read transaction of ours: frames may have been overwritten unread.
    #[error("the hold on {subject}'s WAL was lost: {detail}")]
    HoldLost { subject: String, detail: String },
}

impl SqliteError {
    pub(super) fn sql(
        operation: &'static str,
        subject: &impl ToString,
        error: &rusqlite::Error,
    ) -> SqliteError {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        let subject = subject.to_string();
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => SqliteError::Busy { operation, subject },
            _ => SqliteError::Failed { operation, subject, detail: error.to_string() },
        }
    }

    pub(super) fn io(
        operation: &'static str,
        subject: &impl ToString,
        error: &std::io::Error,
    ) -> SqliteError {
        let subject = subject.to_string();
        match error.kind() {
            std::io::ErrorKind::NotFound => SqliteError::NotYet { subject },
            _ => SqliteError::Failed { operation, subject, detail: error.to_string() },
        }
    }
}
