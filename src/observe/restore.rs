//! A request for a restore in place over the socket, its query, and its answer. Values only.

use super::query::decoded;
use crate::model::{Moment, Txid};
use crate::replica::Target;
use tokio::sync::{mpsc, oneshot};

/// Stop the app, restore this state in place, start the app again.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The database's path.
    pub db: String,
    pub target: Target,
    pub reply: oneshot::Sender<RestoreAnswer>,
}

/// The answer: the exit status and the message of the command that has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreAnswer {
    pub code: u8,
    pub message: String,
}

pub type RestoreRequests = mpsc::UnboundedReceiver<RestoreRequest>;

/// `db=/data/app.db&txid=2f` or `&timestamp=2026-05-04T12:00:00Z`.
pub fn parse(query: &str) -> Result<(String, Target), String> {
    let mut db = None;
    let mut target = Target::Latest;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("{name} is not percent-encoded UTF-8"))?;
        let wrong = || format!("{name}={value} cannot be read");
        match name {
            "db" => db = Some(value).filter(|db| !db.is_empty()),
            "txid" => {
                let txid = Txid::from_hex(&value).filter(|txid| *txid > Txid::NONE);
                target = Target::Txid(txid.ok_or_else(wrong)?);
            }
            "timestamp" => target = Target::Time(Moment::parse(&value).ok_or_else(wrong)?),
            other => return Err(format!("{other} is not known here; known are db, txid and timestamp")),
        }
    }
    Ok((db.ok_or("db is missing: the path of one database")?, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let moment = Moment::parse("2026-05-04T12:00:00.5Z").unwrap();
        for (query, target) in [
            ("db=/d/a%20b.db", Target::Latest),
            ("db=/d/a%20b.db&txid=2f", Target::Txid(Txid(0x2f))),
            ("timestamp=2026-05-04T12:00:00.5Z&db=/d/a%20b.db", Target::Time(moment)),
        ] {
            assert_eq!(parse(query), Ok(("/d/a b.db".to_owned(), target)), "{query}");
        }
        for wrong in [
            "",
            "db=",
            "txid=1",
            "db=/a&txid=0",
            "db=/a&txid=x",
            "db=/a&timestamp=now",
            "db=/a&force=1",
            "db=%f",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
