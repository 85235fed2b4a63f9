//! `litevisor check --connect`: what we may do in each replica, tried on the replica itself. Lists, and then creates, reads and
//! deletes one small object of a name that no reader takes for part of a replica. Leaves nothing behind but what it may not
//! delete, which it names.

use super::restore::{Failure, FailureKind, code};
use super::runtime;
use crate::config::Config;
use crate::exit;
use crate::model::Deadline;
use crate::observe::{complain, say};
use crate::store::{self, Body, Put, Scheme, Store, StoreError, StoreErrorKind, StoreSettings};
use bytes::Bytes;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);
const CONTENT: &str = "A trial of `litevisor check --connect`. It may be deleted.\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    List,
    Create,
    CreateAgain,
    Read,
    Delete,
    Gone,
}

/// What a step showed.
type Outcome = Result<&'static str, (FailureKind, String)>;

/// Tries all replicas; the report goes to stdout as comments behind the configuration, what is wrong to stderr.
pub fn connect(config: &Config) -> u8 {
    let Some(runtime) = runtime() else { return exit::INTERNAL };
    let single = config.databases.iter().map(|database| (database.path.to_string(), database));
    let many = config.directories.iter().map(|entry| {
        let name = format!("{}/{}", entry.dir.display(), entry.pattern.text());
        (name, entry.each())
    });
    runtime.block_on(async {
        let mut failures = Vec::new();
        for (name, database) in single.chain(many) {
            let deletes = database.replicate.retention.is_some();
            let seen = look(&database.replica).await;
            say(&report(&name, &database.replica.url, &seen));
            for (step, _, outcome) in seen {
                let Err((kind, told)) = outcome else { continue };
                // Who deletes nothing needs no right to.
                if matches!(step, Step::Delete | Step::Gone) && !deletes {
                    complain(&format!("{name}: {told} (which retention = {{ enabled = false }} does not need)"));
                } else {
                    complain(&format!("{name}: {told}{}", hint(database.replica.scheme, step, kind)));
                    failures.push(kind);
                }
            }
        }
        code(failures.into_iter(), false)
    })
}

async fn look(replica: &StoreSettings) -> Vec<(Step, Duration, Outcome)> {
    match store::open(replica) {
        Ok(store) => trial(&*store).await,
        Err(error) => vec![(Step::List, Duration::ZERO, Err(failed(error)))],
    }
}

/// The steps in order, up to the first that nothing can follow.
async fn trial(store: &dyn Store) -> Vec<(Step, Duration, Outcome)> {
    let name = format!("litevisor-check-{:016x}.txt", RandomState::new().hash_one(std::process::id()));
    let mut seen = Vec::new();
    for step in [Step::List, Step::Create, Step::CreateAgain, Step::Read, Step::Delete, Step::Gone] {
        let began = Instant::now();
        let outcome = one(store, step, &name).await;
        let failed = outcome.is_err();
        seen.push((step, began.elapsed(), outcome));
        // What cannot be listed may be writable all the same; what is not there cannot be read. What may be there is deleted.
        if failed && step == Step::Create {
            let _ = store.delete(std::slice::from_ref(&name), Deadline::after(PATIENCE)).await;
            break;
        }
        if failed && step == Step::Delete {
            break;
        }
    }
    seen
}

async fn one(store: &dyn Store, step: Step, name: &str) -> Outcome {
    let by = Deadline::after(PATIENCE);
    match step {
        Step::List => store.list_page("", "", by).await.map(|_| "ok").map_err(failed),
        Step::Create => match store.put_new(name, body(), now_ms(), by).await {
            Ok(Put::Created) => Ok("ok"),
            Ok(Put::Exists) => Err(wrong(store, "says that there is an object of a name that nobody has used")),
            Err(error) => Err(failed(error)),
        },
        // A put that replaced the object is no failure: such stores are worked with.
        Step::CreateAgain => match store.put_new(name, body(), now_ms(), by).await {
            Ok(Put::Exists) => Ok("refused, as it must be: two writers cannot overwrite each other"),
            Ok(Put::Created) => {
                Ok("NOT REFUSED: this store ignores conditions, two writers are told apart by chance only")
            }
            Err(error) => Err(failed(error)),
        },
        Step::Read => match store.get(name, None, by).await {
            Ok(content) if content == CONTENT.as_bytes() => Ok("ok"),
            Ok(_) => Err(wrong(store, "gives back another content than was written")),
            Err(error) => Err(failed(error)),
        },
        Step::Delete => store.delete(&[name.to_owned()], by).await.map(|()| "ok").map_err(|error| {
            let (kind, told) = failed(error);
            (kind, format!("{told}; {name} is still there: delete it by hand"))
        }),
        Step::Gone => match store.get(name, None, by).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok("ok"),
            Ok(_) => Err(wrong(store, "still shows an object that was deleted")),
            Err(error) => Err(failed(error)),
        },
    }
}

fn body() -> Body {
    Body::Whole(Bytes::from_static(CONTENT.as_bytes()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default()
}

fn failed(error: StoreError) -> (FailureKind, String) {
    let Failure { kind, told } = error.into();
    (kind, told)
}

fn wrong(store: &dyn Store, told: &str) -> (FailureKind, String) {
    (FailureKind::Unavailable, format!("{} {told}", store.url()))
}

fn title(step: Step) -> &'static str {
    match step {
        Step::List => "list",
        Step::Create => "create",
        Step::CreateAgain => "create what is there",
        Step::Read => "read",
        Step::Delete => "delete",
        Step::Gone => "read what is deleted",
    }
}

fn report(name: &str, url: &str, seen: &[(Step, Duration, Outcome)]) -> String {
    let mut text = format!("\n# {name} in {url}\n");
    for (step, took, outcome) in seen {
        let told = match outcome {
            Ok(told) if *step == Step::Gone && *told == "ok" => "not there, as it must be",
            Ok(told) => told,
            Err(_) => "FAILED",
        };
        let _ = writeln!(text, "#   {:<20} {:>6} ms  {told}", title(*step), took.as_millis());
    }
    text
}

/// The right that is missing, by the provider's name for it.
fn hint(scheme: Scheme, step: Step, kind: FailureKind) -> String {
    if kind != FailureKind::Unavailable {
        return String::new();
    }
    let right = match (scheme, step) {
        (Scheme::S3, Step::List) => "s3:ListBucket on the bucket",
        (Scheme::S3, Step::Create | Step::CreateAgain) => "s3:PutObject on the prefix",
        (Scheme::S3, Step::Read | Step::Gone) => "s3:GetObject on the prefix, and s3:ListBucket on the bucket",
        (Scheme::S3, Step::Delete) => "s3:DeleteObject on the prefix",
        (Scheme::Gs, Step::List) => "storage.objects.list",
        (Scheme::Gs, Step::Create | Step::CreateAgain) => "storage.objects.create",
        (Scheme::Gs, Step::Read | Step::Gone) => "storage.objects.get",
        (Scheme::Gs, Step::Delete) => "storage.objects.delete (Storage Object User has all four)",
        (Scheme::Abs, _) => "the role Storage Blob Data Contributor, or a SAS with r, w, d and l",
        (Scheme::Sftp, _) | (Scheme::File, _) => "the right to read and write in the directory",
    };
    format!(" (needed: {right})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_comments() {
        let seen = [
            (Step::List, Duration::from_millis(12), Ok("ok")),
            (Step::Create, Duration::from_millis(1500), Err((FailureKind::Unavailable, "cannot put x".to_owned()))),
        ];
        let text = report("/d/a.db", "s3://b/a", &seen);
        let expected = "\n# /d/a.db in s3://b/a\n#   list                     12 ms  ok\n#   create                 1500 ms  FAILED\n";
        assert_eq!(text, expected);
        assert!(hint(Scheme::S3, Step::Delete, FailureKind::Unavailable).contains("s3:DeleteObject"));
        assert_eq!(hint(Scheme::S3, Step::Delete, FailureKind::Damaged), "");
    }
}
