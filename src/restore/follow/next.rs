//! What a poll does next, by what the replica lists. Pure.

use super::error::Anew;
use super::stand::Stand;
use crate::model::Txid;
use crate::replica::{Listing, Onward, RemoteFile, Tip, TipFile, onward};

/// A listing, and in it the files that end where the copy stands.
pub struct Sighting {
    pub listing: Listing,
    pub own: Vec<RemoteFile>,
}

impl Sighting {
    pub fn of(listing: Listing, txid: Txid) -> Sighting {
        let own = listing.files.iter().filter(|file| file.range.max == txid).cloned().collect();
        Sighting { listing, own }
    }
}

/// A file of the replica that is known to lead to the copy's position. Another one in its place has another time or size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known(RemoteFile);

impl Known {
    pub fn of(file: &RemoteFile) -> Known {
        Known(file.clone())
    }

    pub fn is(&self, file: &RemoteFile) -> bool {
        self.0 == *file
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The raw files are not enough.
    ListAll,
    Apply(Vec<RemoteFile>),
    Done,
}

/// `all`: the listing has all levels.
pub fn next(files: &[RemoteFile], stand: &Stand, until: Option<Txid>, all: bool) -> Result<Next, Anew> {
    let from = stand.txid;
    match (onward(files, from, until), stand.torn) {
        (Onward::Files(files), _) => Ok(Next::Apply(files)),
        (Onward::UpToDate, None) => Ok(Next::Done),
        _ if !all => Ok(Next::ListAll),
        (Onward::Gap(beyond), _) => Err(Anew::Gap { from, beyond: beyond.key }),
        (Onward::Behind { end }, _) => Err(Anew::Behind { end, txid: from }),
        // The files that tore it do not lead on any more.
        (Onward::UpToDate, Some(_)) => Err(Anew::Content { txid: from }),
    }
}

/// The file that proves that the replica's position is the copy's; None: none does, and none denies it.
pub fn prove(stand: &Stand, tip: Option<&Tip>) -> Result<Option<String>, Anew> {
    let files = || tip.into_iter().flat_map(Tip::files);
    let proves = |file: &&TipFile| {
        Some(file.checksum) == stand.file_checksum || file.header.db_checksum == Some(stand.db_checksum)
    };
    let known = stand.torn.is_none();
    let denies =
        |file: &&TipFile| known && file.header.db_checksum.is_some_and(|checksum| checksum != stand.db_checksum);
    match (files().find(proves), files().find(denies)) {
        (_, Some(other)) => Err(Anew::OtherHistory { file: other.key.clone(), txid: stand.txid }),
        (Some(own), None) => Ok(Some(own.key.clone())),
        (None, None) => Ok(None),
    }
}
