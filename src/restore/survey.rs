//! One look at everything that the decision needs: the local file and its state, what the replica holds, and, where both
//! are there, how they relate. Reads; changes nothing.

use super::decide::Local;
use super::error::{Damage, RestoreError};
use super::install;
use super::lineage::{Lineage, Tip, TipFile, by_state};
use super::listing::{Listing, Replica};
use super::plan::RemoteFile;
use super::source::{Source, SourceError};
use super::wal_proof::{LastFrame, last_frame};
use crate::local_state;
use crate::ltx::{self, Decoder, Event, Header, LtxError, Trailer};
use crate::model::lineage::{LocalState, WalPosition};
use crate::model::{DbPath, PageNo, Txid};
use crate::store::layout::Level;
use std::ops::Range;

/// A file up to this size is read whole when only its ends are wanted: one request instead of two.
const SMALL: u64 = 64 << 10;

pub struct Survey {
    pub listing: Listing,
    pub replica: Replica,
    pub local: Local,
    pub tip: Option<Tip>,
    /// The WAL proved what no state file says: the state to record, so that replication goes on from there.
    pub adopted: Option<LocalState>,
}

pub async fn survey(db: &DbPath, source: &Source<'_>) -> Result<Survey, SourceError> {
    let present = install::observe(db)?.live;
    let state = load_state(db);
    let listing = source.listing().await?;
    let replica = listing.replica();
    let mut survey = Survey { listing, replica, local: Local::Absent, tip: None, adopted: None };
    survey.local = match (present, replica) {
        (false, _) => Local::Absent,
        (true, Replica::Empty | Replica::OldFormat) => Local::Present(None),
        (true, Replica::Ends(end)) => {
            let tip = peek(source, &survey.listing, end).await?;
            let mut lineage = by_state(state.as_ref(), source.url(), &tip);
            if matches!(lineage, Lineage::Unproven(_)) {
                survey.adopted = by_wal(db, source, &survey.listing, &tip).await?;
                lineage = if survey.adopted.is_some() { Lineage::ByWal } else { lineage };
            }
            survey.tip = Some(tip);
            Local::Present(Some(lineage))
        }
    };
    Ok(survey)
}

/// A state file that cannot be used says nothing.
fn load_state(db: &DbPath) -> Option<LocalState> {
    local_state::load(db).unwrap_or_else(|error| {
        tracing::warn!(database = %db, "going on as if there were no state file: {error}");
        None
    })
}

/// The first and the last bytes of the files that end at the tip.
async fn peek(source: &Source<'_>, listing: &Listing, end: Txid) -> Result<Tip, SourceError> {
    let mut tip = Tip { txid: end, files: Vec::new() };
    let mut broken = None;
    for file in listing.ending_at(end) {
        match peek_file(source, &file).await? {
            Ok(found) => tip.files.push(found),
            Err(error) => broken = Some((file.key, error)),
        }
    }
    match broken {
        Some((file, error)) if tip.files.is_empty() => {
            let (replica, damage) = (source.url().to_owned(), Damage::Format(error));
            Err(RestoreError::Damaged { replica, file, damage }.into())
        }
        _ => Ok(tip),
    }
}

async fn peek_file(source: &Source<'_>, file: &RemoteFile) -> Result<Result<TipFile, LtxError>, SourceError> {
    let (start, end) = if file.size <= SMALL {
        let whole = source.get(&file.key, None).await?;
        (whole.clone(), whole)
    } else {
        let tail: Range<u64> = file.size - ltx::TRAILER_BYTES as u64..file.size;
        (source.get(&file.key, Some(0..ltx::HEADER_BYTES as u64)).await?, source.get(&file.key, Some(tail)).await?)
    };
    Ok(Header::from_start(&start).and_then(|header| {
        let checksum = Trailer::from_end(&end)?.file;
        Ok(TipFile { key: file.key.clone(), size: file.size, level: file.level, header, checksum })
    }))
}

/// Compares the last frame that the newest raw file covers with the local WAL.
async fn by_wal(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    tip: &Tip,
) -> Result<Option<LocalState>, SourceError> {
    let Some(raw) = tip.files.iter().find(|file| file.level == Level::RAW) else { return Ok(None) };
    let wal = db.wal();
    let Some(frame) = last_frame(&wal, &raw.header).map_err(RestoreError::io("read", &wal))? else { return Ok(None) };
    let Some(file) = listing.files.iter().find(|file| file.key == raw.key) else { return Ok(None) };
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
    let files = std::slice::from_ref(file);
    let sink = |arrived: super::source::Arrived<'_>| {
        let mut bytes = &arrived.bytes[..];
        while let Some(event) = decoder.next(&mut bytes).map_err(damaged)? {
            if let Event::Page(page, data) = event
                && page == wanted
            {
                image = Some(data.to_vec());
            }
        }
        Ok(())
    };
    source.stream(files, sink).await?;
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
        db_checksum: raw.header.db_checksum,
    }
}
