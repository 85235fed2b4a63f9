//! `litevisor check --connect`: tries in each replica what litevisor needs to do there. Lists, then creates,
//! reads and deletes one small object, whose name no reader takes for part of a replica. Leaves nothing
//! behind except an object that it may not delete, which it names. Read-only copies (`[follow]`) need to list
//! and to read only, so nothing else is tried for them.

use super::document::{Place, object};
use super::error::{CommandError, ErrorKind, status};
use super::setup::runtime;
use crate::config::Config;
use crate::handover::client::Client;
use crate::model::{Deadline, Moment};
use crate::run::owner_place;
use crate::store::{self, Body, Put, Scheme, Store, StoreErrorKind, StoreSettings};
use bytes::Bytes;
use serde_json::{Value, json};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

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
    /// For the hand-over.
    Decide,
}

/// The result, in words.
type Outcome = Result<&'static str, (ErrorKind, String)>;

/// What was tried in one replica.
pub struct Trial {
    name: String,
    scheme: Scheme,
    url: String,
    /// Whether litevisor deletes there.
    deletes: bool,
    steps: Vec<(Step, Duration, Outcome)>,
}

impl Trial {
    /// Comments, so that they can follow the printed configuration.
    pub fn text(&self) -> String {
        let mut text = format!("\n# {} in {}\n", self.name, self.url);
        for (step, took, outcome) in &self.steps {
            let result = match outcome {
                Ok(result) if *step == Step::Gone && *result == "ok" => "not there, as it must be",
                Ok(result) => result,
                Err(_) => "FAILED",
            };
            let _ = writeln!(text, "#   {:<20} {:>6} ms  {result}", title(*step), took.as_millis());
        }
        text
    }

    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|(step, took, outcome)| {
            let (ok, result) = match outcome {
                Ok(result) => (true, (*result).to_owned()),
                Err((kind, message)) => (false, self.problem(*step, *kind, message)),
            };
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            json!({ "step": title(*step), "milliseconds": milliseconds, "ok": ok, "result": result })
        });
        let steps = json!({ "steps": steps.collect::<Vec<_>>() });
        let problems: Vec<String> =
            self.failures().map(|(step, kind, message)| self.problem(step, kind, message)).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("\n"));
        let place = Place { database: Some(Path::new(&self.name)), replica: Some(&self.url) };
        object(place, status(self.errors()), problem.as_deref(), steps)
    }

    /// The errors that count: without retention litevisor does not need the right to delete.
    pub fn errors(&self) -> impl Iterator<Item = ErrorKind> {
        self.failures().filter(|(step, ..)| self.is_needed(*step)).map(|(_, kind, _)| kind)
    }

    fn failures(&self) -> impl Iterator<Item = (Step, ErrorKind, &str)> {
        self.steps.iter().filter_map(|(step, _, outcome)| {
            let (kind, message) = outcome.as_ref().err()?;
            Some((*step, *kind, message.as_str()))
        })
    }

    /// One line for each step that failed.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        let problem = |(step, kind, message)| format!("{}: {}", self.name, self.problem(step, kind, message));
        self.failures().map(problem)
    }

    fn problem(&self, step: Step, kind: ErrorKind, message: &str) -> String {
        if self.is_needed(step) {
            format!("{message}{}", hint(self.scheme, step, kind))
        } else {
            format!("{message} (which retention = {{ enabled = false }} does not need)")
        }
    }

    fn is_needed(&self, step: Step) -> bool {
        self.deletes || !matches!(step, Step::Delete | Step::Gone)
    }
}

/// Tries all replicas. `report` is called with each as soon as it was tried.
pub fn connect(config: &Config, report: impl Fn(&Trial)) -> Result<Vec<Trial>, CommandError> {
    let single = config.databases.iter().map(|database| (database.path.to_string(), database));
    let many = config.directories.iter().map(|entry| {
        let name = format!("{}/{}", entry.dir.display(), entry.pattern.text());
        (name, entry.each())
    });
    runtime()?.block_on(async {
        let mut trials = Vec::new();
        // An instance that never claims only reads the records.
        let claiming = config.handover.as_ref().filter(|handover| handover.claims && config.follow.is_none());
        if let (Some(handover), Some(records)) = (claiming, records(config).await) {
            let steps = try_records(records, handover.records.is_some()).await;
            let StoreSettings { scheme, url, .. } = records;
            let deletes = config.first_database().is_some_and(|first| first.replicate.retention.is_some());
            let trial =
                Trial { name: "handover".to_owned(), scheme: *scheme, url: url.clone(), deletes, steps };
            report(&trial);
            trials.push(trial);
        }
        for (name, database) in single.chain(many) {
            let StoreSettings { scheme, url, .. } = &database.replica;
            let deletes = database.replicate.retention.is_some();
            let steps = try_replica(&database.replica, config.follow.is_some()).await;
            let trial = Trial { name, scheme: *scheme, url: url.clone(), deletes, steps };
            report(&trial);
            trials.push(trial);
        }
        Ok(trials)
    })
}

async fn try_replica(replica: &StoreSettings, reads_only: bool) -> Vec<(Step, Duration, Outcome)> {
    match store::open(replica) {
        Ok(store) if reads_only => try_to_read(&*store).await,
        Ok(store) => try_steps(&*store).await,
        Err(error) => vec![(Step::List, Duration::ZERO, Err(failed(error)))],
    }
}

/// The place that a start takes. A replica that does not answer counts as one without records: its own trial
/// says why.
async fn records(config: &Config) -> Option<&StoreSettings> {
    let places = config.owner_records();
    let by = Deadline::after(PATIENCE);
    let mut found = Vec::new();
    for place in places.iter().filter(|_| places.len() > 1) {
        let has_records = match store::open(place) {
            Ok(store) => Client::new(store).has_records(by).await.unwrap_or_default(),
            Err(_) => false,
        };
        found.push((place.url.as_str(), has_records));
    }
    places.get(owner_place::choose(&found)).copied()
}

/// What the hand-over needs, and everything else if no database has its replica there.
async fn try_records(records: &StoreSettings, is_elsewhere: bool) -> Vec<(Step, Duration, Outcome)> {
    let store = match store::open(records) {
        Ok(store) => store,
        Err(error) => return vec![(Step::Decide, Duration::ZERO, Err(failed(error)))],
    };
    let mut seen = if is_elsewhere { try_steps(&*store).await } else { Vec::new() };
    let began = Instant::now();
    let checked = Client::new(store).check(Deadline::after(PATIENCE)).await;
    let outcome = checked.map(|()| "ok: it says which of two instances came first").map_err(failed);
    seen.push((Step::Decide, began.elapsed(), outcome));
    seen
}

/// What a read-only copy needs. An empty replica has nothing to read.
async fn try_to_read(store: &dyn Store) -> Vec<(Step, Duration, Outcome)> {
    let began = Instant::now();
    let listed = store.list_page("", "", Deadline::after(PATIENCE)).await;
    let object = listed.as_ref().ok().and_then(|page| page.objects.iter().find(|object| object.size > 0));
    let key = object.map(|object| object.key.clone());
    let mut seen = vec![(Step::List, began.elapsed(), listed.map(|_| "ok").map_err(failed))];
    if let Some(key) = key {
        let began = Instant::now();
        let read = store.get(&key, Some(0..1), Deadline::after(PATIENCE)).await;
        seen.push((Step::Read, began.elapsed(), read.map(|_| "ok").map_err(failed)));
    }
    seen
}

/// The steps in order, up to the first that nothing can follow.
async fn try_steps(store: &dyn Store) -> Vec<(Step, Duration, Outcome)> {
    let name = format!("litevisor-check-{:016x}.txt", RandomState::new().hash_one(std::process::id()));
    let mut seen = Vec::new();
    for step in [Step::List, Step::Create, Step::CreateAgain, Step::Read, Step::Delete, Step::Gone] {
        let began = Instant::now();
        let outcome = try_step(store, step, &name).await;
        let failed = outcome.is_err();
        seen.push((step, began.elapsed(), outcome));
        // After a failed list the other steps may work. After a failed create nothing can be read, but the
        // object may exist.
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

async fn try_step(store: &dyn Store, step: Step, name: &str) -> Outcome {
    let by = Deadline::after(PATIENCE);
    match step {
        Step::List => store.list_page("", "", by).await.map(|_| "ok").map_err(failed),
        Step::Create => match store.put_new(name, body(), Moment::now().0, by).await {
            Ok(Put::Created) => Ok("ok"),
            Ok(Put::Exists) => Err(wrong(store, "reports an object of a name that was never used")),
            Err(error) => Err(failed(error)),
        },
        // A store that replaces the object is usable: it is no failure.
        Step::CreateAgain => match store.put_new(name, body(), Moment::now().0, by).await {
            Ok(Put::Exists) => Ok("refused, as it must be: two writers cannot overwrite each other"),
            Ok(Put::Created) => {
                Ok("NOT REFUSED: this store ignores conditions, two writers are told apart by chance only")
            }
            Err(error) => Err(failed(error)),
        },
        Step::Read => match store.get(name, None, by).await {
            Ok(content) if content == CONTENT.as_bytes() => Ok("ok"),
            Ok(_) => Err(wrong(store, "returns another content than was written")),
            Err(error) => Err(failed(error)),
        },
        Step::Delete => store.delete(&[name.to_owned()], by).await.map(|()| "ok").map_err(|error| {
            let (kind, message) = failed(error);
            (kind, format!("{message}; {name} is still there: delete it by hand"))
        }),
        Step::Decide => Ok("ok"),
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

fn failed(error: impl Into<CommandError>) -> (ErrorKind, String) {
    let error = error.into();
    (error.kind, error.message())
}

fn wrong(store: &dyn Store, message: &str) -> (ErrorKind, String) {
    (ErrorKind::Unavailable, format!("{} {message}", store.url()))
}

fn title(step: Step) -> &'static str {
    match step {
        Step::List => "list",
        Step::Create => "create",
        Step::CreateAgain => "create what is there",
        Step::Read => "read",
        Step::Delete => "delete",
        Step::Gone => "read what is deleted",
        Step::Decide => "two creates at once",
    }
}

/// The right that is missing, by the provider's name for it.
fn hint(scheme: Scheme, step: Step, kind: ErrorKind) -> String {
    if kind != ErrorKind::Unavailable {
        return String::new();
    }
    let right = match (scheme, step) {
        (Scheme::S3, Step::List) => "s3:ListBucket on the bucket",
        (Scheme::S3, Step::Create | Step::CreateAgain | Step::Decide) => "s3:PutObject on the prefix",
        (Scheme::S3, Step::Read | Step::Gone) => {
            "s3:GetObject on the prefix, and s3:ListBucket on the bucket"
        }
        (Scheme::S3, Step::Delete) => "s3:DeleteObject on the prefix",
        (Scheme::Gs, Step::List) => "storage.objects.list",
        (Scheme::Gs, Step::Create | Step::CreateAgain | Step::Decide) => "storage.objects.create",
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
    fn a_replica_that_is_only_followed_is_only_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_str().unwrap().to_owned();
        let replica = StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path);
        let steps = || runtime().unwrap().block_on(try_replica(&replica, true));
        let titles = |seen: Vec<(Step, Duration, Outcome)>| -> Vec<(Step, bool)> {
            seen.into_iter().map(|(step, _, outcome)| (step, outcome.is_ok())).collect()
        };
        assert_eq!(titles(steps()), [(Step::List, true)]);
        let level = root.path().join("ltx/0");
        std::fs::create_dir_all(&level).unwrap();
        std::fs::write(level.join("0000000000000001-0000000000000001.ltx"), "x").unwrap();
        assert_eq!(titles(steps()), [(Step::List, true), (Step::Read, true)]);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_report_is_comments() {
        let seen = [
            (Step::List, Duration::from_millis(12), Ok("ok")),
            (
                Step::Create,
                Duration::from_millis(1500),
                Err((ErrorKind::Unavailable, "cannot put x".to_owned())),
            ),
        ];
        let (name, url) = ("/d/a.db".to_owned(), "s3://b/a".to_owned());
        let trial = Trial { name, scheme: Scheme::S3, url, deletes: true, steps: seen.into() };
        let text = trial.text();
        let expected = "\n# /d/a.db in s3://b/a\n#   list                     12 ms  ok\n#   \
            create                 1500 ms  FAILED\n";
        assert_eq!(text, expected);
        assert!(hint(Scheme::S3, Step::Delete, ErrorKind::Unavailable).contains("s3:DeleteObject"));
        assert_eq!(hint(Scheme::S3, Step::Delete, ErrorKind::Damaged), "");
    }
}
