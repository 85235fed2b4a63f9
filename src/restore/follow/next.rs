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

/// A file of the replica that is known to lead to the copy's position. Another one in its place has another
/// time or size.
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
    let denies = |file: &&TipFile| {
        known && file.header.db_checksum.is_some_and(|checksum| checksum != stand.db_checksum)
    };
    match (files().find(proves), files().find(denies)) {
        (_, Some(other)) => Err(Anew::OtherHistory { file: other.key.clone(), txid: stand.txid }),
        (Some(own), None) => Ok(Some(own.key.clone())),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::Header;
    use crate::model::{DbChecksum, FileChecksum, PageSize, TxidRange};
    use crate::store::layout::Level;

    fn file(level: u8, min: u64, max: u64) -> RemoteFile {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        RemoteFile { key: format!("{level}/{range}"), level: Level(level), range, size: 100, modified_ms: 0 }
    }

    fn stand(torn: Option<u64>) -> Stand {
        Stand {
            txid: Txid(5),
            db_checksum: DbChecksum::from_header(1 << 63 | 5).unwrap(),
            file_checksum: Some(FileChecksum(55)),
            page_size: PageSize::SMALLEST,
            pages: 3,
            time: None,
            app_locks_exclusively: false,
            torn: torn.map(Txid),
        }
    }

    #[test]
    fn what_is_listed_and_what_is_done() {
        let (own, six, eight, merged) = (file(0, 5, 5), file(0, 6, 6), file(0, 8, 8), file(1, 4, 8));
        let apply =
            |files: &[&RemoteFile]| Ok(Next::Apply(files.iter().map(|file| (*file).clone()).collect()));
        let gap = Err(Anew::Gap { from: Txid(5), beyond: eight.key.clone() });
        let behind = |end| Err(Anew::Behind { end: Txid(end), txid: Txid(5) });
        let torn = Err(Anew::Content { txid: Txid(5) });
        for (files, torn_to, all, expected) in [
            (vec![&own], None, false, Ok(Next::Done)),
            (vec![&own, &six], None, false, apply(&[&six])),
            (vec![&own, &six], Some(6), false, apply(&[&six])),
            (vec![], None, false, Ok(Next::ListAll)),
            (vec![&own, &eight], None, false, Ok(Next::ListAll)),
            (vec![&own, &eight, &merged], None, true, apply(&[&merged])),
            (vec![&own, &eight], None, true, gap),
            (vec![], None, true, behind(0)),
            // The raw files that tore it are gone, and so is what they led to.
            (vec![&own], Some(6), false, Ok(Next::ListAll)),
            (vec![&own], Some(6), true, torn),
        ] {
            let listed: Vec<RemoteFile> = files.into_iter().cloned().collect();
            assert_eq!(next(&listed, &stand(torn_to), None, all), expected, "{listed:?} {torn_to:?} {all}");
        }
    }

    #[test]
    fn whose_the_position_is() {
        let tip = |files: &[(u64, Option<u64>)]| {
            let mut files = files.iter().map(|(checksum, db_checksum)| {
                let mut header = Header::new(PageSize::SMALLEST, 3, TxidRange::single(Txid(5)), 0);
                header.db_checksum = db_checksum.map(|sum| DbChecksum::from_header(1 << 63 | sum).unwrap());
                TipFile {
                    key: checksum.to_string(),
                    level: Level(0),
                    header,
                    checksum: FileChecksum(*checksum),
                }
            });
            Tip { txid: Txid(5), first: files.next().unwrap(), others: files.collect() }
        };
        let other = |file: &str| Err(Anew::OtherHistory { file: file.into(), txid: Txid(5) });
        let proven = |file: &str| Ok(Some(file.to_owned()));
        for (files, expected) in [
            (vec![(55, Some(5))], proven("55")),
            (vec![(55, None)], proven("55")),
            // Merged, by litevisor: another file, the same database.
            (vec![(66, Some(5))], proven("66")),
            (vec![(66, None), (55, None)], proven("55")),
            // Merged by Litestream.
            (vec![(66, None)], Ok(None)),
            (vec![(66, Some(6))], other("66")),
            (vec![(55, Some(5)), (66, Some(6))], other("66")),
        ] {
            assert_eq!(prove(&stand(None), Some(&tip(&files))), expected, "{files:?}");
        }
        assert_eq!(prove(&stand(None), None), Ok(None));
        // The checksum of a torn file is not known.
        assert_eq!(prove(&stand(Some(6)), Some(&tip(&[(55, Some(6))]))), proven("55"));
    }
}
