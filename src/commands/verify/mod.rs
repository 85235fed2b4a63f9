//! `litevisor verify`: proves a replica by restoring it into a scratch file. Never touches the live database
//! or anything beside it, except that the scratch directory may stand there.

mod history;

pub use history::history;

use super::directories::report_empty;
use super::document::Document;
use super::error::{CommandError, ErrorKind};
use super::replicas::{NamedReplica, Selected, select};
use super::restore::report;
use super::setup::{LogOf, runtime};
use crate::observe::say;
use crate::replica::Target;
use crate::restore::{
    Audit, Owners, Progress, RestoreSettings, RestoredTo, Scratch, audit, restore_to, scratch,
};
use crate::sqlite::integrity::{self, Findings};
use crate::store;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;

/// A replica that was restored and read as a whole.
struct Verified {
    restored: RestoredTo,
    audit: Audit,
    quick: bool,
    /// What only the app can check.
    unchecked: Vec<String>,
}

pub fn verify(
    file: Option<&Path>,
    subject: Option<&OsStr>,
    quick: bool,
    as_json: bool,
) -> Result<u8, CommandError> {
    let selected = select(file, subject, LogOf::OneShot { json: as_json })?;
    Ok(runtime()?.block_on(verify_all(&selected, quick, as_json)))
}

async fn verify_all(selected: &Selected, quick: bool, as_json: bool) -> u8 {
    let mut document = Document::new(as_json);
    for replica in &selected.replicas {
        match verify_one(replica, &selected.restore, quick).await {
            Ok(verified) if as_json => document.succeeded(replica.place(), || value(Some(&verified))),
            Ok(verified) => say(&text(replica, &verified)),
            Err(error) => {
                tracing::error!("{} is not proven: {}", replica.name(), error.message());
                document.failed(replica.place(), &error, value(None));
            }
        }
    }
    report_empty(&selected.empty, &mut document);
    document.finish()
}

async fn verify_one(
    replica: &NamedReplica,
    settings: &RestoreSettings,
    quick: bool,
) -> Result<Verified, CommandError> {
    let damaged = |message: String| CommandError::new(ErrorKind::Damaged, message);
    let store = store::open(&replica.settings)?;
    let scratch = Scratch::make(&scratch::place(replica.db.as_deref()));
    let scratch = scratch.map_err(|message| CommandError::new(ErrorKind::Local, message))?;
    let db = scratch.db();
    let owners = Owners::default();
    let progress = Progress::default();
    let restored =
        restore_to(db.as_path(), &*store, Target::Latest, settings, &owners, true, &progress).await;
    let restored = restored?;
    let Findings { problems, unknown } =
        integrity::check(&db, quick).map_err(|error| damaged(error.to_string()))?;
    if let Some(first) = problems.first() {
        let count = problems.len();
        return Err(damaged(format!("SQLite finds the restored database damaged: {first} ({count} lines)")));
    }
    let audit = audit(&*store, settings, &progress).await?;
    if let Some((key, damage)) = audit.damaged.first() {
        let more = match audit.damaged.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more files)"),
        };
        return Err(damaged(format!("the latest state is sound, but {key} is damaged: {damage}{more}")));
    }
    Ok(Verified { restored, audit, quick, unchecked: unknown })
}

fn text(replica: &NamedReplica, verified: &Verified) -> String {
    let Audit { files, bytes, with_db_checksum, .. } = verified.audit;
    let check = checked(verified.quick, &verified.unchecked);
    format!(
        "{} is sound\n  restored    {}\n  SQLite      {check}\n  files       {files} read whole, {bytes} \
         bytes: every \
         checksum is right\n  database    {with_db_checksum} files carry the whole database's checksum, and \
         it agrees\n",
        replica.name(),
        report::text(&verified.restored)
    )
}

fn value(sound: Option<&Verified>) -> Value {
    json!({
        "sound": sound.is_some(),
        "restored": sound.map(|verified| report::json(&verified.restored)),
        "not_checked": sound.map(|verified| &verified.unchecked),
        "files": sound.map(|verified| verified.audit.files),
        "bytes": sound.map(|verified| verified.audit.bytes),
    })
}

/// What SQLite checked, and what it could not check.
fn checked(quick: bool, unknown: &[String]) -> String {
    let check = if quick { "quick_check" } else { "integrity_check" };
    if unknown.is_empty() {
        return format!("{check} ok");
    }
    let left_out: String = unknown.iter().map(|what| format!("\n  NOT CHECKED {what}")).collect();
    format!("{check} ok, but for what only the app can check: it needs its functions or collations{left_out}")
}
