//! `litevisor restore DB --force` while a `run` has the database: it asks that `run`, which stops the app,
//! restores, and starts the app again.

use super::jobs::Job;
use super::{JobResult, report};
use crate::config::Config;
use crate::exit;
use crate::model::DbPath;
use crate::observe::client::{Reply, request};
use crate::observe::query::{LONGEST, encoded};
use crate::replica::Target;
use crate::run::{locks, status_service};
use serde_json::Value;

/// The answer as this command's; None: no other litevisor has the database.
pub fn ask_owner(config: &Config, jobs: &[Job]) -> Option<JobResult> {
    // Several databases would mean one stop of the app for each.
    let [job @ Job::InPlace { database, target, force: true, .. }] = jobs else { return None };
    let db = &database.path;
    let owned = locks::owner(db)?;
    tracing::info!("{owned}: asking it to stop the app, to restore, and to start the app again");
    let (addresses, key) = status_service::addresses(config);
    let (status, message) = match request(&addresses, Some(&key), "POST", &query(db, *target), LONGEST) {
        Ok(reply) => outcome(&reply),
        Err(error) => (
            exit::CONFIG,
            format!("{owned}, and it is not replaced under it. {error}. Stop that litevisor first"),
        ),
    };
    if status == 0 {
        tracing::info!("restored {db}: {message}");
    } else {
        tracing::error!("{db} is not restored: {message}");
    }
    let value = match status {
        0 => report::by_owner(job, &message),
        _ => report::failed(job, status, &message),
    };
    Some(JobResult { status, value })
}

fn query(db: &DbPath, target: Target) -> String {
    let state = match target {
        Target::Latest => String::new(),
        Target::Txid(txid) => format!("&txid={txid}"),
        Target::Time(moment) => format!("&timestamp={}", encoded(&moment.to_string())),
    };
    format!("/restore?db={}{state}", encoded(&db.to_string()))
}

fn outcome(reply: &Reply) -> (u8, String) {
    let value: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let code = value.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
    let message = value.get("message").and_then(Value::as_str);
    match (code, message) {
        (Some(code), Some(message)) if (code == 0) == (reply.status == 200) => (code, message.to_owned()),
        _ if reply.status == 503 => (exit::UNAVAILABLE, "the running litevisor is stopping".to_owned()),
        _ => (
            exit::CONFIG,
            format!("the running litevisor cannot do that ({}): stop it first", reply.body.trim_end()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Moment, Txid};
    use crate::observe::restore::parse;

    #[test]
    fn the_server_reads_what_is_asked() {
        let db = DbPath::new("/d/a b.db");
        for target in [Target::Latest, Target::Txid(Txid(47)), Target::Time(Moment(1_795_327_279_453))] {
            let target_text = query(&db, target);
            let query = target_text.strip_prefix("/restore?").unwrap();
            assert_eq!(parse(query), Ok((db.to_string(), target)), "{query}");
        }
    }

    #[test]
    fn answers() {
        for (status, body, code) in [
            (200, "{\"code\":0,\"message\":\"TXID 1\"}", 0),
            (409, "{\"code\":66,\"message\":\"nothing\"}", 66),
            (409, "{\"code\":0,\"message\":\"x\"}", 78),
            (503, "{\"error\":\"litevisor ends\"}", 69),
            (404, "not found; available: GET /healthz", 78),
        ] {
            assert_eq!(outcome(&Reply { status, body: body.into() }).0, code, "{body}");
        }
    }
}
