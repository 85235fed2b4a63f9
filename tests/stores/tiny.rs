//! An S3 store in memory with a habit, and what it was asked: what litevisor sends is checked request by
//! request.

use crate::support::seaweed::Seaweed;
use crate::support::standin::{Answer, Request, StandIn, answer};
use litevisor::testing::store::StoreSettings;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Honours,
    Ignores,
    /// Answers a condition with this status.
    Refuses(u16),
    DeletesOne,
    /// Takes no keys any more.
    Expired,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, String>,
    /// Another writer's content, for the moment after a put of that key.
    other: BTreeMap<String, String>,
}

pub struct Tiny {
    standin: StandIn,
    state: Arc<Mutex<State>>,
    seen: Mutex<usize>,
}

impl Tiny {
    pub fn start(habit: Habit) -> Tiny {
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::clone(&state);
        let standin = StandIn::start(move |request| {
            serve(habit, request, &mut kept.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Tiny { standin, state, seen: Mutex::new(0) }
    }

    pub fn settings(&self, path: &str) -> StoreSettings {
        Seaweed::settings_for(&self.standin.url(), "bucket", path)
    }

    pub fn set(&self, key: &str, content: &str) {
        self.state.lock().unwrap().objects.insert(key.to_owned(), content.to_owned());
    }

    pub fn overwrite_after_put(&self, key: &str, content: &str) {
        self.state.lock().unwrap().other.insert(key.to_owned(), content.to_owned());
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.standin.asked()
    }

    /// What was asked since the last call, in short.
    pub fn take(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap();
        let asked = self.requests();
        let new = asked[*seen..].iter().map(short).collect();
        *seen = asked.len();
        new
    }
}

fn short(request: &Request) -> String {
    let condition = if request.header("if-none-match").is_some() { " if-none-match" } else { "" };
    format!("{} {}{condition}", request.method, key(request).unwrap_or_else(|| "list".to_owned()))
}

/// None for a request on the bucket itself.
fn key(request: &Request) -> Option<String> {
    let path = request.path.split('?').next().unwrap();
    path.strip_prefix("/bucket/").filter(|key| !key.is_empty()).map(str::to_owned)
}

fn error(status: u16, code: &str) -> Answer {
    answer(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>"))
}

fn tagged(status: u16, content: &str, body: &str) -> Answer {
    let tag =
        format!("\"{:x}\"", content.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
    Answer { headers: vec![("ETag", tag)], ..answer(status, body) }
}

fn serve(habit: Habit, request: &Request, state: &mut State) -> Answer {
    if habit == Habit::Expired {
        return error(400, "ExpiredToken");
    }
    let Some(key) = key(request) else { return on_bucket(habit, request) };
    let conditional = request.header("if-none-match").is_some();
    match (request.method.as_str(), habit) {
        // An upload in parts.
        ("POST", _) if request.path.contains("uploads") => answer(
            200,
            "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
        ),
        ("PUT", _) if request.path.contains("uploadId") => tagged(200, "part", ""),
        ("DELETE", _) if request.path.contains("uploadId") => answer(204, ""),
        ("PUT", Habit::Refuses(status)) if conditional => error(status, "NotImplemented"),
        ("PUT", Habit::Honours | Habit::DeletesOne) if conditional && state.objects.contains_key(&key) => {
            error(412, "PreconditionFailed")
        }
        ("PUT", _) => {
            let reply = tagged(200, &request.body, "");
            let content = state.other.remove(&key).unwrap_or_else(|| request.body.clone());
            state.objects.insert(key, content);
            reply
        }
        ("DELETE", _) => {
            state.objects.remove(&key);
            answer(204, "")
        }
        (_, _) => match state.objects.get(&key) {
            Some(content) => tagged(200, content, content),
            None => error(404, "NoSuchKey"),
        },
    }
}

fn on_bucket(habit: Habit, request: &Request) -> Answer {
    match (request.method.as_str(), habit) {
        ("GET", _) => answer(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        _ => error(501, "NotImplemented"),
    }
}
