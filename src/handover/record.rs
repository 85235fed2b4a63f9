//! Content of the objects below `owner/`: pure, text in, text out. What is read may come from anyone who can
//! write to the bucket: sizes have limits, unknown fields are ignored (later versions add some), and nothing
//! in a record can lose data, because the data path decides who writes.

use super::owner::Epoch;
use crate::model::{DbChecksum, Txid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A record with the positions of several thousand databases fits.
pub const MOST_BYTES: u64 = 4 << 20;
const VERSION: u32 = 1;
/// Of a name (instance, host, revision, version of litevisor), in bytes.
const MOST_NAME: usize = 256;
/// Longer than any platform's grace. A longer promise is cut to this.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);
/// What a claim may name as the time between two heartbeats; another one is cut to this.
pub const HEARTBEATS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// One run of litevisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Random for each run.
    pub id: String,
    pub host: String,
    /// The platform's name of what was deployed; None: the platform does not tell.
    #[serde(default)]
    pub revision: Option<String>,
}

impl Instance {
    /// Known to be of the same deploy.
    pub fn is_same_deploy(&self, other: &Instance) -> bool {
        self.revision.is_some() && self.revision == other.revision
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There was no owner to ask.
    Start,
    /// The owner before is asked to hand over.
    Takeover,
    /// The instance after this one has failed to start: this one serves again.
    Resume,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub txid: Txid,
    /// Of the whole database there, if it is known.
    pub checksum: Option<DbChecksum>,
}

/// By the name of the database in its configuration; sorted.
pub type Positions = BTreeMap<String, Position>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub epoch: Epoch,
    pub instance: Instance,
    pub reason: Reason,
    /// With `Resume`: the instance that has failed to start.
    pub failed: Option<Instance>,
    /// What the claimer's files held then.
    pub positions: Positions,
    pub gated: bool,
    /// Between two heartbeats. None: the claimer writes none.
    pub heartbeat: Option<Duration>,
    pub version: String,
}

/// Why an owner writes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its app or litevisor was stopped.
    Stopped,
    /// The next epoch was claimed.
    HandedOver,
    /// Its app ended, or did not become ready, within the trial.
    FailedStart,
    /// The same, of an instance that had resumed: no instance resumes after it.
    FailedResume,
    /// It never started its app.
    Withdrawn,
    /// It was stopped within its trial: the deploy was called off.
    Cancelled,
    /// Another instance has taken its place on the data path.
    Fenced,
    /// A later version's word.
    #[serde(other)]
    Other,
}

/// Where the data of an epoch end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is uploaded, up to here; the epoch writes nothing behind it.
    At(Positions),
    /// The last flush is not proven: an upload may still be on its way. Who follows fences it, without a
    /// wait.
    Unproven,
    /// The epoch never touched the data. Its predecessor's end counts.
    Untouched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub epoch: Epoch,
    pub instance: Instance,
    pub how: How,
    pub end: End,
    /// The epoch that this one took over from, or would have.
    pub from: Option<Epoch>,
    /// Unix milliseconds; for people only.
    pub time_ms: i64,
}

/// The owner has seen the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub epoch: Epoch,
    /// It releases within this span, or was killed.
    pub within: Duration,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("it is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its version is {0}, this program knows {VERSION}: use the newer litevisor everywhere")]
    Version(u32),
    #[error("its field {0} is not valid")]
    Field(&'static str),
}

#[derive(Serialize, Deserialize)]
struct PositionText {
    txid: String,
    #[serde(default)]
    checksum: String,
}

/// One text form for all kinds. Numbers that people compare with object names and logs are hex.
#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    epoch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Instance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Instance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gated: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    litevisor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    how: Option<How>,
    /// `at`, `unproven`, `untouched`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heartbeat_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    databases: BTreeMap<String, PositionText>,
}

impl Text {
    fn new(epoch: Epoch) -> Text {
        Text {
            version: VERSION,
            epoch: epoch.to_string(),
            instance: None,
            reason: None,
            failed: None,
            gated: None,
            litevisor: None,
            how: None,
            end: None,
            from: None,
            time_ms: None,
            within_ms: None,
            heartbeat_ms: None,
            databases: BTreeMap::new(),
        }
    }

    /// `epoch` is that of the object's name: the content has to agree.
    fn parse(text: &[u8], epoch: Epoch) -> Result<Text, RecordError> {
        let parsed: Text = serde_json::from_slice(text)?;
        if parsed.version != VERSION {
            return Err(RecordError::Version(parsed.version));
        }
        if Epoch::from_name(&parsed.epoch) != Some(epoch) {
            return Err(RecordError::Field("epoch"));
        }
        Ok(parsed)
    }
}

fn named(instance: Option<Instance>, field: &'static str) -> Result<Instance, RecordError> {
    let instance = instance.ok_or(RecordError::Field(field))?;
    let short = |text: &str| text.len() <= MOST_NAME && !text.contains(char::is_control);
    let revision = instance.revision.as_deref().unwrap_or_default();
    if instance.id.is_empty() || !short(&instance.id) || !short(&instance.host) || !short(revision) {
        return Err(RecordError::Field(field));
    }
    Ok(instance)
}

fn positions_text(positions: &Positions) -> BTreeMap<String, PositionText> {
    let text = |position: &Position| PositionText {
        txid: position.txid.to_string(),
        checksum: position.checksum.map(|checksum| Txid(checksum.get()).to_string()).unwrap_or_default(),
    };
    positions.iter().map(|(name, position)| (name.clone(), text(position))).collect()
}

fn positions_of(text: BTreeMap<String, PositionText>) -> Result<Positions, RecordError> {
    let wrong = RecordError::Field("databases");
    let position = |text: PositionText| {
        let txid = Txid::from_name(&text.txid).filter(|txid| *txid <= Txid::LAST_TO_GO_ON_FROM)?;
        let checksum = match text.checksum.as_str() {
            "" => None,
            hex => Some(DbChecksum::from_header(Txid::from_name(hex)?.0)?),
        };
        Some(Position { txid, checksum })
    };
    let all = text.into_iter().map(|(name, text)| Some((name, position(text)?)));
    all.collect::<Option<Positions>>().ok_or(wrong)
}

impl Claim {
    pub fn to_text(&self) -> Result<String, RecordError> {
        Ok(serde_json::to_string(&Text {
            instance: Some(self.instance.clone()),
            reason: Some(self.reason),
            failed: self.failed.clone(),
            gated: Some(self.gated),
            litevisor: Some(self.version.clone()),
            heartbeat_ms: self.heartbeat.and_then(|every| u64::try_from(every.as_millis()).ok()),
            databases: positions_text(&self.positions),
            ..Text::new(self.epoch)
        })?)
    }

    pub fn parse(text: &[u8], epoch: Epoch) -> Result<Claim, RecordError> {
        let text = Text::parse(text, epoch)?;
        let version = text.litevisor.unwrap_or_default();
        if version.len() > MOST_NAME {
            return Err(RecordError::Field("litevisor"));
        }
        Ok(Claim {
            epoch,
            instance: named(text.instance, "instance")?,
            reason: text.reason.ok_or(RecordError::Field("reason"))?,
            failed: text.failed.map(|failed| named(Some(failed), "failed")).transpose()?,
            positions: positions_of(text.databases)?,
            gated: text.gated.unwrap_or_default(),
            heartbeat: text
                .heartbeat_ms
                .map(|every| Duration::from_millis(every).clamp(HEARTBEATS.0, HEARTBEATS.1)),
            version,
        })
    }
}

impl Release {
    /// The deploy did not stand its trial: the one before it serves again.
    pub fn is_undone(&self) -> bool {
        matches!(self.how, How::FailedStart | How::Withdrawn | How::Cancelled)
    }

    pub fn to_text(&self) -> Result<String, RecordError> {
        let (end, positions) = match &self.end {
            End::At(positions) => ("at", positions_text(positions)),
            End::Unproven => ("unproven", BTreeMap::new()),
            End::Untouched => ("untouched", BTreeMap::new()),
        };
        Ok(serde_json::to_string(&Text {
            instance: Some(self.instance.clone()),
            how: Some(self.how),
            end: Some(end.to_owned()),
            from: self.from.map(|from| from.to_string()),
            time_ms: Some(self.time_ms),
            databases: positions,
            ..Text::new(self.epoch)
        })?)
    }

    pub fn parse(text: &[u8], epoch: Epoch) -> Result<Release, RecordError> {
        let text = Text::parse(text, epoch)?;
        let from = match text.from {
            None => None,
            // Only an earlier epoch: the walk back over epochs that never started must end.
            Some(name) => {
                let earlier = Epoch::from_name(&name).filter(|from| *from < epoch);
                Some(earlier.ok_or(RecordError::Field("from"))?)
            }
        };
        let end = match text.end.as_deref() {
            Some("at") => End::At(positions_of(text.databases)?),
            Some("unproven") => End::Unproven,
            Some("untouched") => End::Untouched,
            _ => return Err(RecordError::Field("end")),
        };
        Ok(Release {
            epoch,
            instance: named(text.instance, "instance")?,
            how: text.how.ok_or(RecordError::Field("how"))?,
            end,
            from,
            time_ms: text.time_ms.unwrap_or_default(),
        })
    }
}

/// Content of a heartbeat: only its name counts.
pub fn beat(epoch: Epoch) -> Result<String, RecordError> {
    Ok(serde_json::to_string(&Text::new(epoch))?)
}

impl Answer {
    pub fn to_text(&self) -> Result<String, RecordError> {
        let within = u64::try_from(self.within.min(LONGEST_ANSWER).as_millis()).unwrap_or_default();
        Ok(serde_json::to_string(&Text { within_ms: Some(within), ..Text::new(self.epoch) })?)
    }

    pub fn parse(text: &[u8], epoch: Epoch) -> Result<Answer, RecordError> {
        let text = Text::parse(text, epoch)?;
        let within = Duration::from_millis(text.within_ms.ok_or(RecordError::Field("within_ms"))?);
        Ok(Answer { epoch, within: within.min(LONGEST_ANSWER) })
    }
}

#[cfg(test)]
mod tests;
