//! `litevisor sync [DB]`: returns once everything that is committed now is in the replica, or names what is
//! missing.

use super::document::{self, merged};
use super::error::CommandError;
use super::supervisor::Supervisor;
use crate::exit;
use crate::model::DbPath;
use crate::observe::client::Reply;
use crate::observe::query::encoded;
use crate::observe::{complain, say};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much longer than the supervisor's own timeout this command waits.
const MORE: Duration = Duration::from_secs(5);

pub fn sync(
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    db: Option<&Path>,
    timeout: Duration,
    as_json: bool,
) -> Result<u8, CommandError> {
    let target = target(db, &std::env::current_dir().unwrap_or_default(), timeout);
    let reply = Supervisor::find(config, socket)?.request("POST", &target, timeout + MORE)?;
    let outcome = outcome(&reply, None);
    if as_json {
        document::print(&value(&reply, &outcome));
    } else {
        outcome.done.iter().for_each(|done| say(&format!("{done}\n")));
    }
    outcome.wrong.iter().for_each(|wrong| complain(wrong));
    Ok(outcome.code)
}

fn target(db: Option<&Path>, working_dir: &Path, timeout: Duration) -> String {
    let absolute = |db: &Path| working_dir.join(db).components().collect::<PathBuf>();
    let db = db.map(|db| format!("&db={}", encoded(&absolute(db).to_string_lossy())));
    format!("/sync?timeout={}ms{}", timeout.as_millis(), db.unwrap_or_default())
}

pub(super) struct Outcome {
    pub(super) done: Vec<String>,
    pub(super) wrong: Vec<String>,
    pub(super) code: u8,
}

/// `wanted`: the databases that the request is about; None: all of the running supervisor.
pub(super) fn outcome(reply: &Reply, wanted: Option<&[DbPath]>) -> Outcome {
    let value: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let Some(databases) = value.get("databases").and_then(Value::as_array) else {
        let told = value.get("error").and_then(Value::as_str).unwrap_or(reply.body.trim_end());
        let code = match reply.status {
            400 | 404 => exit::USAGE,
            504 => exit::UNFLUSHED,
            _ => exit::UNAVAILABLE,
        };
        return Outcome { done: Vec::new(), wrong: vec![format!("not synced: {told}")], code };
    };
    let mut done = Vec::new();
    let mut wrong = Vec::new();
    let mut code = 0;
    let name = |database: &Value| database.get("database").and_then(Value::as_str).map(str::to_owned);
    for missing in wanted.unwrap_or_default() {
        if !databases.iter().any(|database| name(database) == Some(missing.to_string())) {
            wrong.push(format!("{missing}: NOT in the replica: the running litevisor does not replicate it"));
            code = exit::CONFIG;
        }
    }
    let is_meant =
        |name: Option<String>| wanted.is_none_or(|all| all.iter().any(|db| name == Some(db.to_string())));
    for database in databases.iter().filter(|database| is_meant(name(database))) {
        let text = |key: &str| database.get(key).and_then(Value::as_str).unwrap_or("none");
        let (db, uploaded, missing) = (text("database"), text("uploaded"), text("missing"));
        code = match (exit_status(database), code) {
            (0, code) => {
                done.push(format!("{db}: uploaded {uploaded}"));
                code
            }
            (exit::NOTHING, code) => {
                wrong.push(format!("{db}: {missing}"));
                if code == 0 { exit::NOTHING } else { code }
            }
            (status, code) => {
                wrong.push(format!("{db}: NOT in the replica: {missing} (uploaded: {uploaded})"));
                if code == exit::TAKEN { code } else { status }
            }
        };
    }
    Outcome { done, wrong, code }
}

/// Of one database in the answer.
fn exit_status(database: &Value) -> u8 {
    let flag = |key: &str| database.get(key).and_then(Value::as_bool).unwrap_or_default();
    match (flag("complete"), flag("absent"), flag("fenced")) {
        (true, ..) => 0,
        (_, true, _) => exit::NOTHING,
        (.., true) => exit::TAKEN,
        _ => exit::UNFLUSHED,
    }
}

/// The answer with the exit statuses.
fn value(reply: &Reply, outcome: &Outcome) -> Value {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let Some(databases) = body.get("databases").and_then(Value::as_array) else {
        return document::outcome(outcome.code, Some(&outcome.wrong.join("\n")));
    };
    let one = |database: &Value| {
        let common = json!({ "exit_status": exit_status(database), "problem": database.get("missing") });
        merged(common, database.clone())
    };
    let databases: Vec<Value> = databases.iter().map(one).collect();
    let own = json!({ "complete": body.get("complete"), "databases": databases });
    merged(document::outcome(outcome.code, None), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_named_by_its_whole_path() {
        let (dir, seconds) = (Path::new("/srv"), Duration::from_secs(30));
        assert_eq!(target(None, dir, seconds), "/sync?timeout=30000ms");
        assert_eq!(
            target(Some("data/./a b.db".as_ref()), dir, seconds),
            "/sync?timeout=30000ms&db=/srv/data/a%20b.db"
        );
        assert_eq!(target(Some("/x.db".as_ref()), dir, seconds), "/sync?timeout=30000ms&db=/x.db");
    }

    #[test]
    fn what_is_not_there_is_named_and_has_its_code() {
        let one = |complete: bool, fenced: bool| {
            format!(
                "{{\"database\":\"/a.db\",\"complete\":{complete},\"fenced\":{fenced},\"committed\":\"8\",\
                 \"uploaded\":\"7\",\"missing\":{}}}",
                if complete { "null" } else { "\"everything after 7: no route\"" }
            )
        };
        let absent = "{\"database\":\"/b.db\",\"complete\":false,\"fenced\":false,\"absent\":true,\
                      \"missing\":\"no database: nothing is replicated\"}"
            .to_owned();
        let all = |list: &[String]| format!("{{\"complete\":false,\"databases\":[{}]}}", list.join(","));
        for (status, body, code, part) in [
            (200, all(&[one(true, false)]), 0, ""),
            (
                504,
                all(&[one(true, false), one(false, false)]),
                74,
                "/a.db: NOT in the replica: everything after 7",
            ),
            (504, all(&[one(false, true), one(false, false)]), 75, "no route"),
            (404, all(&[one(true, false), absent.clone()]), 66, "/b.db: no database"),
            (504, all(&[absent.clone(), one(false, false)]), 74, "/b.db: no database"),
            (504, all(&[one(false, true), absent.clone()]), 75, "/b.db: no database"),
            (
                404,
                "{\"error\":\"/b.db is not replicated here\"}".to_owned(),
                64,
                "/b.db is not replicated here",
            ),
            (503, "{\"error\":\"restoring\"}".to_owned(), 69, "restoring"),
            (504, "{\"error\":\"the engine does not answer\"}".to_owned(), 74, "does not answer"),
            (500, "what".to_owned(), 69, "what"),
        ] {
            let Outcome { wrong, code: found, .. } = outcome(&Reply { status, body }, None);
            assert_eq!(found, code, "{wrong:?}");
            assert!(wrong.join("\n").contains(part) && wrong.is_empty() == (code == 0), "{wrong:?}");
        }
        let reply = Reply { status: 200, body: all(&[one(true, false)]) };
        assert_eq!(outcome(&reply, None).done, ["/a.db: uploaded 7"]);
        let [ours, other] = ["/a.db", "/b.db"].map(DbPath::new);
        assert_eq!(outcome(&reply, Some(std::slice::from_ref(&ours))).code, 0);
        let Outcome { done, wrong, code } = outcome(&reply, Some(&[other]));
        assert_eq!((done.len(), code), (0, 78));
        assert!(
            wrong.join("").contains("/b.db: NOT in the replica: the running litevisor does not"),
            "{wrong:?}"
        );
    }
}
