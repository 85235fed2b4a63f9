//! `litevisor sync [DB]`: returns once everything that is committed now is in the replica, or says what is missing.

use super::ask::Supervisor;
use crate::exit;
use crate::observe::client::Reply;
use crate::observe::query::encoded;
use crate::observe::{complain, say};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Beyond the time that the supervisor was given.
const MORE: Duration = Duration::from_secs(5);

pub fn sync(config: Option<PathBuf>, socket: Option<PathBuf>, db: Option<PathBuf>, timeout: Duration) -> u8 {
    let supervisor = match Supervisor::find(config, socket) {
        Ok(supervisor) => supervisor,
        Err(code) => return code,
    };
    let target = target(db.as_deref(), &std::env::current_dir().unwrap_or_default(), timeout);
    let (told, wrong, code) = match supervisor.ask("POST", &target, timeout + MORE) {
        Ok(reply) => outcome(&reply),
        Err(error) => (String::new(), vec![error.to_string()], exit::UNAVAILABLE),
    };
    if !told.is_empty() {
        say(&told);
    }
    wrong.iter().for_each(|wrong| complain(wrong));
    code
}

fn target(db: Option<&Path>, working_dir: &Path, timeout: Duration) -> String {
    let absolute = |db: &Path| working_dir.join(db).components().collect::<PathBuf>();
    let db = db.map(|db| format!("&db={}", encoded(&absolute(db).to_string_lossy())));
    format!("/sync?timeout={}ms{}", timeout.as_millis(), db.unwrap_or_default())
}

/// What is done, what is wrong, and the exit code.
fn outcome(reply: &Reply) -> (String, Vec<String>, u8) {
    let value: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let Some(databases) = value.get("databases").and_then(Value::as_array) else {
        let told = value.get("error").and_then(Value::as_str).unwrap_or(reply.body.trim_end());
        let code = match reply.status {
            400 | 404 => exit::USAGE,
            504 => exit::UNFLUSHED,
            _ => exit::UNAVAILABLE,
        };
        return (String::new(), vec![format!("not synced: {told}")], code);
    };
    let (mut done, mut wrong, mut code) = (String::new(), Vec::new(), 0);
    for database in databases {
        let text = |key: &str| database.get(key).and_then(Value::as_str).unwrap_or("none");
        let flag = |key: &str| database.get(key).and_then(Value::as_bool).unwrap_or_default();
        if flag("complete") {
            done.push_str(&format!("{}: uploaded {}\n", text("database"), text("uploaded")));
            continue;
        }
        let (db, uploaded, missing) = (text("database"), text("uploaded"), text("missing"));
        wrong.push(format!("{db}: NOT in the replica: {missing} (uploaded: {uploaded})"));
        code = if flag("fenced") || code == exit::TAKEN { exit::TAKEN } else { exit::UNFLUSHED };
    }
    (done, wrong, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_named_by_its_whole_path() {
        let (dir, seconds) = (Path::new("/srv"), Duration::from_secs(30));
        assert_eq!(target(None, dir, seconds), "/sync?timeout=30000ms");
        assert_eq!(target(Some("data/./a b.db".as_ref()), dir, seconds), "/sync?timeout=30000ms&db=/srv/data/a%20b.db");
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
        let all = |list: &[String]| format!("{{\"complete\":false,\"databases\":[{}]}}", list.join(","));
        for (status, body, code, part) in [
            (200, all(&[one(true, false)]), 0, ""),
            (504, all(&[one(true, false), one(false, false)]), 74, "/a.db: NOT in the replica: everything after 7"),
            (504, all(&[one(false, true), one(false, false)]), 75, "no route"),
            (404, "{\"error\":\"/b.db is not replicated here\"}".to_owned(), 64, "/b.db is not replicated here"),
            (503, "{\"error\":\"restoring\"}".to_owned(), 69, "restoring"),
            (504, "{\"error\":\"the engine does not answer\"}".to_owned(), 74, "does not answer"),
            (500, "what".to_owned(), 69, "what"),
        ] {
            let (_, wrong, found) = outcome(&Reply { status, body });
            assert_eq!(found, code, "{wrong:?}");
            assert!(wrong.join("\n").contains(part) && wrong.is_empty() == (code == 0), "{wrong:?}");
        }
        assert_eq!(outcome(&Reply { status: 200, body: all(&[one(true, false)]) }).0, "/a.db: uploaded 7\n");
    }
}
