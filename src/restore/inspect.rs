//! What is known before the decision: the replica's listing, and the evidence about the local file. Reads;
//! changes nothing.

use super::error::{Damage, RestoreError};
use super::install;
use super::source::{Source, SourceError};
use crate::lineage::rollback::Rollback;
use crate::lineage::wal_frame::{LastFrame, last_frame};
use crate::lineage::{Evidence, LineageCheck, LocalState, Origin, WalPosition, evidence, state_file};
use crate::ltx::{Decoder, Event, LtxError};
use crate::model::{DbPath, PageNo, Txid};
use crate::replica::tip::{Problem, Reading};
use crate::replica::{self, Listing, RemoteFile, Replica, Target, Tip, TipFile};

pub struct Inspection {
    pub listing: Listing,
    pub evidence: Evidence,
}

pub async fn inspect(db: &DbPath, source: &Source<'_>) -> Result<Inspection, SourceError> {
    let found = evidence::of_file(db, install::observe(db)?.live);
    let listing = source.listing_for(Target::Latest).await?;
    let replica = listing.replica();
    let evidence = match (found.present, replica) {
        (false, _) | (true, Replica::Empty) => Evidence { replica, ..found },
        (true, Replica::V3) => found
            .with_v3(db, source.url(), &listing)
            .map_err(RestoreError::io("read", &db.litestream_dir()))?,
        (true, Replica::Ends(_)) => {
            let tip = tip(source, &listing).await?;
            let found = found.with_tip(source.url(), tip);
            let found = found.with_wal(db).await.map_err(RestoreError::io("read", &db.wal()))?;
            Evidence { replica, wal_holds_tip: wal_holds_tip(db, source, &listing, &found).await?, ..found }
        }
    };
    Ok(Inspection { listing, evidence })
}

pub(super) async fn tip(source: &Source<'_>, listing: &Listing) -> Result<Option<Tip>, SourceError> {
    let get = |key: String, range| -> Reading<'_, SourceError> {
        Box::pin(async move { source.get(&key, range).await })
    };
    replica::tip::read(replica::tip::newest(listing.files.iter().cloned()), get).await?.map_err(|broken| {
        let damage = match broken.problem {
            Problem::Format(error) => Damage::Format(error),
            Problem::Name(range) => Damage::Name(range),
            Problem::Sealed(what) => Damage::Sealed(what),
        };
        RestoreError::Damaged { replica: source.url().to_owned(), file: broken.key, damage }.into()
    })
}

/// Compares the last frame that the newest raw file covers with the local WAL; only where the record proves
/// nothing, as it reads that file from the replica.
async fn wal_holds_tip(
    db: &DbPath,
    source: &Source<'_>,
    listing: &Listing,
    evidence: &Evidence,
) -> Result<Option<LocalState>, SourceError> {
    let (Some(LineageCheck::Unproven(_)), Some(tip)) = (&evidence.check, &evidence.tip) else {
        return Ok(None);
    };
    if evidence.rollback == Some(Rollback::Valid) {
        return Ok(None);
    }
    let Some(raw) = tip.raw() else { return Ok(None) };
    let wal = db.wal();
    let Some(frame) = last_frame(&wal, &raw.header).map_err(RestoreError::io("read", &wal))? else {
        return Ok(None);
    };
    let Some(file) = listing.files.iter().find(|file| file.key == raw.key) else { return Ok(None) };
    if !evidence::holds(db, &raw.header).await.map_err(RestoreError::io("read", &wal))? {
        return Ok(None);
    }
    let image = page_image(source, file, frame.page).await?;
    Ok((image.as_ref() == Some(&frame.image)).then(|| {
        let adopted = adopt(source.url(), tip.txid, raw, &frame);
        LocalState { file: evidence.file, ..adopted }
    }))
}

/// The image of one page in a file; the file is verified as a whole.
async fn page_image(
    source: &Source<'_>,
    file: &RemoteFile,
    wanted: PageNo,
) -> Result<Option<Vec<u8>>, SourceError> {
    let mut decoder = Decoder::default();
    let mut image = None;
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
        node_id: state_file::new_node_id(),
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
        origin: Origin::Continued,
        app_locks_exclusively: raw.header.app_locks_exclusively,
    }
}
