//! One look at everything that the decision needs: the local file and its state, what the replica holds, and, where both
//! are there, how they relate. Reads; changes nothing.

use super::decide::{Lineage, Local};
use super::error::{Damage, RestoreError};
use super::source::{Source, SourceError};
use super::wal_proof::{LastFrame, last_frame};
use super::wish::{Head, Verdict};
use super::{evidence, install, old_origin, old_shadow, wish};
use crate::local_state;
use crate::ltx::{Decoder, Event, LtxError};
use crate::model::lineage::{LocalState, WalPosition};
use crate::model::{DbPath, PageNo, Txid};
use crate::replica::tip::{Problem, Reading};
use crate::replica::{self, Descent, Doubt, Listing, RemoteFile, Replica, Target, Tip, TipFile, descent};

pub struct Survey {
    pub listing: Listing,
    pub replica: Replica,
    pub local: Local,
    /// The WAL proved what no state file says: the state to record, so that replication goes on from there.
    pub adopted: Option<LocalState>,
}

pub async fn survey(db: &DbPath, source: &Source<'_>) -> Result<Survey, SourceError> {
    let present = install::observe(db)?.live;
    let state = load_state(db);
    let listing = source.listing_for(Target::Latest).await?;
    let replica = listing.replica();
    let mut survey = Survey { listing, replica, local: Local::Absent, adopted: None };
    survey.local = match (present, replica) {
        (false, _) => Local::Absent,
        (true, Replica::Empty) => Local::Present(None),
        (true, Replica::OldFormat) => {
            if let Some(head) = Head::of_old(&survey.listing)
                && let Some((_, Verdict::Holds)) = wish::look(db, source.url(), &head)
            {
                survey.local = Local::Present(Some(Lineage::Wished));
                return Ok(survey);
            }
            let proven = old_origin::proves(db, source.url(), &survey.listing)
                || old_shadow::continues(db, &survey.listing)
                    .map_err(RestoreError::io("read", &db.litestream_dir()))?;
            Local::Present(proven.then_some(Lineage::FromOldFormat))
        }
        (true, Replica::Ends(_)) => match tip(source, &survey.listing).await? {
            None => Local::Present(None),
            Some(tip) => {
                let (lineage, adopted) = lineage(db, source, &survey.listing, state, &tip).await?;
                survey.adopted = adopted;
                Local::Present(Some(lineage))
            }
        },
    };
    Ok(survey)
}

/// How the local file and the replica's newest position relate; with the state to record, where the WAL proved what no
/// state file says.
async fn lineage(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    state: Option<LocalState>,
    tip: &Tip,
) -> Result<(Lineage, Option<LocalState>), SourceError> {
    let unproven = |why| Lineage::Recorded(Descent::Unproven(Doubt::Content(why)));
    let wished = wish::look(db, source.url(), &Head::of(tip)).map(|(_, verdict)| verdict);
    let recorded = state.is_some();
    let descent = descent(state.as_ref(), source.url(), tip);
    match (&descent, state) {
        // Recorded when the wished state was accepted; its image has not arrived yet.
        (Descent::Ours { sent: false }, _) if wished == Some(Verdict::OtherFile) => Ok((unproven(OTHER_FILE), None)),
        (Descent::Ours { sent }, Some(state)) => {
            let denied = evidence::look(db.clone(), state, tip.clone(), *sent).await?;
            Ok((denied.map_or(Lineage::Recorded(descent), unproven), None))
        }
        (Descent::Unproven(_), _) if wished == Some(Verdict::Holds) => Ok((Lineage::Wished, None)),
        (Descent::Unproven(_), _) => {
            if let Some(adopted) = by_wal(db, source, listing, tip).await? {
                return Ok((Lineage::ByWal, Some(adopted)));
            }
            let lineage = match wished {
                Some(Verdict::OtherFile) => unproven(OTHER_FILE),
                Some(Verdict::Passed) if !recorded => unproven(PASSED),
                _ => Lineage::Recorded(descent),
            };
            Ok((lineage, None))
        }
        _ => Ok((Lineage::Recorded(descent), None)),
    }
}

const OTHER_FILE: &str = "another file was put in place of the one that was restored on purpose";
const PASSED: &str = "an older state was restored on purpose, but the replica has got newer positions since";

/// A state file that cannot be used says nothing.
fn load_state(db: &DbPath) -> Option<LocalState> {
    local_state::load(db).unwrap_or_else(|error| {
        tracing::warn!(%db, "going on as if there were no state file: {error}");
        None
    })
}

pub(super) async fn tip(source: &Source<'_>, listing: &Listing) -> Result<Option<Tip>, SourceError> {
    let get =
        |key: String, range| -> Reading<'_, SourceError> { Box::pin(async move { source.get(&key, range).await }) };
    replica::tip::read(replica::tip::newest(listing.files.iter().cloned()), get).await?.map_err(|broken| {
        let damage = match broken.problem {
            Problem::Format(error) => Damage::Format(error),
            Problem::Name(range) => Damage::Name(range),
        };
        RestoreError::Damaged { replica: source.url().to_owned(), file: broken.key, damage }.into()
    })
}

/// Compares the last frame that the newest raw file covers with the local WAL.
async fn by_wal(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    tip: &Tip,
) -> Result<Option<LocalState>, SourceError> {
    let Some(raw) = tip.raw() else { return Ok(None) };
    let wal = db.wal();
    let Some(frame) = last_frame(&wal, &raw.header).map_err(RestoreError::io("read", &wal))? else { return Ok(None) };
    let Some(file) = listing.files.iter().find(|file| file.key == raw.key) else { return Ok(None) };
    if !evidence::wal_holds(db.clone(), &raw.header).await? {
        return Ok(None);
    }
    let image = page_image(source, file, frame.page).await?;
    Ok((image.as_ref() == Some(&frame.image)).then(|| adopt(source.url(), tip.txid, raw, &frame)))
}

/// The image of one page in a file; the file is verified as a whole.
async fn page_image(source: &Source<'_>, file: &RemoteFile, wanted: PageNo) -> Result<Option<Vec<u8>>, SourceError> {
    let (mut decoder, mut image) = (Decoder::default(), None);
    let damaged = |error: LtxError| RestoreError::Damaged {
        replica: source.url().to_owned(),
        file: file.key.clone(),
        damage: Damage::Format(error),
    };
    let mut reading = source.read(std::slice::from_ref(file));
    while let Some(fetched) = reading.next().await? {
        for part in fetched.parts.iter() {
            let mut bytes = part;
            while let Some(event) = decoder.next(&mut bytes).map_err(damaged)? {
                if let Event::Page(page, data) = event
                    && page == wanted
                {
                    image = Some(data.to_vec());
                }
            }
        }
    }
    decoder.finish().map_err(damaged)?;
    Ok(image)
}

fn adopt(replica: &str, tip: Txid, raw: &TipFile, frame: &LastFrame) -> LocalState {
    LocalState {
        replica: replica.to_owned(),
        node_id: local_state::new_node_id(),
        acked: tip,
        sent: tip,
        tip_checksum: Some(raw.checksum),
        page_size: raw.header.page_size,
        wal: WalPosition {
            salt1: raw.header.salt1,
            salt2: raw.header.salt2,
            offset: frame.end,
            checksum: frame.checksum,
        },
        wal_sent: WalPosition::default(),
        db_checksum: raw.header.db_checksum,
        file: None,
        spilled: None,
    }
}
