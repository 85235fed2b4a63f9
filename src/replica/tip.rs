//! The newest position of a replica: which files end there, and their headers and trailers. A file whose
//! header disagrees with its name is damaged.

use super::listing::RemoteFile;
use crate::ltx::{self, Header, LtxError, Trailer};
use crate::model::{DbChecksum, FileChecksum, Txid, TxidRange};
use crate::store::layout::Level;
use crate::store::{SIZE_SLACK, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

/// A file up to this size is read whole when only its ends are wanted: one request instead of two.
const SMALL: u64 = 64 << 10;

/// A request for a file's bytes, or for a range of them.
pub type Reading<'a, E> = Pin<Box<dyn Future<Output = Result<Bytes, E>> + Send + 'a>>;

/// The newest position of a replica, and the heads of the files that end there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    pub txid: Txid,
    /// The one on the lowest level: the raw one, where there is one.
    pub first: TipFile,
    pub others: Vec<TipFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TipFile {
    pub key: String,
    pub level: Level,
    pub header: Header,
    pub checksum: FileChecksum,
}

/// Why no file at the newest position can be used; the first one's reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is damaged: {problem}")]
pub struct Broken {
    pub key: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Format(#[from] LtxError),
    #[error("its header says {0}, not what its name says")]
    Name(TxidRange),
    /// Of an encrypted file, before its content is known.
    #[error("{0}")]
    Sealed(String),
}

/// An error of a request.
pub trait ReadError: Sized {
    /// The file itself is damaged: in which way. Any other error is given back.
    fn damage(self) -> Result<String, Self>;
}

impl ReadError for StoreError {
    fn damage(self) -> Result<String, StoreError> {
        if self.kind == StoreErrorKind::Damaged { Ok(self.detail) } else { Err(self) }
    }
}

impl Tip {
    pub fn files(&self) -> impl Iterator<Item = &TipFile> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The newest position has a file of its own on level 0, as Litestream needs it.
    pub fn raw(&self) -> Option<&TipFile> {
        Some(&self.first).filter(|file| file.level == Level::RAW)
    }

    /// Of the whole database there, if any of its files knows.
    pub fn db_checksum(&self) -> Option<DbChecksum> {
        self.files().find_map(|file| file.header.db_checksum)
    }
}

/// The files that end at the newest position over all levels, lowest level first. Empty: there is no LTX
/// file.
pub fn newest(files: impl IntoIterator<Item = RemoteFile>) -> Vec<RemoteFile> {
    let mut newest: Vec<RemoteFile> = Vec::new();
    for file in files {
        let max = newest.first().map_or(Txid::NONE, |found| found.range.max);
        if file.range.max > max {
            newest.clear();
        }
        if file.range.max >= max {
            newest.push(file);
        }
    }
    newest.sort_by_key(|file| (file.level, file.range));
    newest
}

/// Reads the ends of `candidates`. None: there is none. A damaged one is an error only if no other one can be
/// used.
pub async fn read<'a, E: ReadError>(
    candidates: Vec<RemoteFile>,
    get: impl Fn(String, Option<Range<u64>>) -> Reading<'a, E>,
) -> Result<Result<Option<Tip>, Broken>, E> {
    let mut found = Vec::new();
    let mut broken = None;
    let Some(txid) = candidates.first().map(|file| file.range.max) else { return Ok(Ok(None)) };
    let mut readings = Vec::new();
    for file in &candidates {
        if file.size <= SMALL {
            readings.push(get(file.key.clone(), None));
        } else {
            readings.push(get(file.key.clone(), Some(0..ltx::HEADER_BYTES as u64)));
            let end = file.size - ltx::TRAILER_BYTES as u64 - SIZE_SLACK..file.size;
            readings.push(get(file.key.clone(), Some(end)));
        }
    }
    let mut read = all(readings).await.into_iter();
    for file in candidates {
        let Some(start) = read.next() else { break };
        let end = if file.size <= SMALL { None } else { read.next() };
        match judge(&file, start, end)? {
            Ok(file) => found.push(file),
            Err(problem) => broken = broken.or(Some(Broken { key: file.key, problem })),
        }
    }
    let mut found = found.into_iter();
    Ok(match (found.next(), broken) {
        (Some(first), _) => Ok(Some(Tip { txid, first, others: found.collect() })),
        (None, Some(broken)) => Err(broken),
        (None, None) => Ok(None),
    })
}

/// One file by what its requests brought. Without an `end` the start is all of it.
fn judge<E: ReadError>(
    file: &RemoteFile,
    start: Result<Bytes, E>,
    end: Option<Result<Bytes, E>>,
) -> Result<Result<TipFile, Problem>, E> {
    let read = start.and_then(|start| {
        let end = end.unwrap_or_else(|| Ok(start.clone()))?;
        Ok((start, end))
    });
    match read {
        Ok((start, end)) => Ok(ends(file, &start, &end)),
        Err(error) => error.damage().map(|what| Err(Problem::Sealed(what))),
    }
}

/// Side by side: each would wait for an answer alone.
async fn all<E>(readings: Vec<Reading<'_, E>>) -> Vec<Result<Bytes, E>> {
    let mut slots: Vec<_> = readings.into_iter().map(|reading| (reading, None)).collect();
    poll_fn(|cx| {
        for (reading, done) in slots.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(result) = reading.as_mut().poll(cx) {
                *done = Some(result);
            }
        }
        if slots.iter().all(|(_, done)| done.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    slots.into_iter().filter_map(|(_, done)| done).collect()
}

fn ends(file: &RemoteFile, start: &[u8], end: &[u8]) -> Result<TipFile, Problem> {
    let header = Header::from_start(start)?;
    if header.range != file.range {
        return Err(Problem::Name(header.range));
    }
    let checksum = Trailer::from_end(end)?.file;
    Ok(TipFile { key: file.key.clone(), level: file.level, header, checksum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(level: u8, min: u64, max: u64) -> RemoteFile {
        let range = TxidRange::new(Txid(min), Txid(max)).unwrap();
        RemoteFile { key: format!("{level}/{range}"), level: Level(level), range, size: 300, modified_ms: 0 }
    }

    #[test]
    fn the_newest_position_over_all_levels_lowest_level_first() {
        let of = |files: &[(u8, u64, u64)]| -> Vec<u8> {
            newest(files.iter().map(|(level, min, max)| candidate(*level, *min, *max)))
                .iter()
                .map(|file| file.level.0)
                .collect()
        };
        assert_eq!(of(&[]), [] as [u8; 0]);
        assert_eq!(of(&[(9, 1, 1)]), [9]);
        assert_eq!(of(&[(9, 1, 3), (1, 2, 3), (0, 3, 3), (0, 2, 2)]), [0, 1, 9]);
        assert_eq!(of(&[(0, 2, 2), (9, 1, 3), (1, 2, 2)]), [9]);
    }

    async fn look(files: Vec<RemoteFile>, bytes: &[u8]) -> Result<Option<Tip>, Broken> {
        look_at(files, |_| Ok(bytes.to_vec())).await.unwrap()
    }

    /// `content`: of a key.
    async fn look_at(
        files: Vec<RemoteFile>,
        content: impl Fn(&str) -> Result<Vec<u8>, StoreErrorKind>,
    ) -> Result<Result<Option<Tip>, Broken>, StoreError> {
        let get = |key: String, range: Option<Range<u64>>| -> Reading<'_, StoreError> {
            let failed = |kind| StoreError::new(kind, "read", key.clone(), "why");
            let part = content(&key).map_err(failed).map(|bytes| {
                let range = range.map_or(0..bytes.len(), |range| range.start as usize..range.end as usize);
                Bytes::copy_from_slice(&bytes[range])
            });
            Box::pin(std::future::ready(part))
        };
        read(files, get).await
    }

    #[tokio::test]
    async fn a_file_that_disagrees_with_its_name_is_damage() {
        let header = Header::new(crate::model::PageSize::new(512).unwrap(), 1, TxidRange::single(Txid(3)), 0);
        let mut file = Vec::new();
        ltx::Encoder::start(&header, &mut file).unwrap().finish(&mut file).unwrap();
        assert_eq!(look(vec![], &file).await, Ok(None));
        let tip = look(vec![candidate(0, 3, 3)], &file).await.unwrap().unwrap();
        assert_eq!((tip.txid, tip.raw().is_some(), tip.others.len()), (Txid(3), true, 0));
        let named = look(vec![candidate(0, 4, 4)], &file).await.unwrap_err();
        assert_eq!(named.problem, Problem::Name(header.range));
        // One sound file is enough.
        let tip = look(vec![candidate(1, 2, 3), candidate(2, 3, 3)], &file).await.unwrap().unwrap();
        assert_eq!((tip.first.level, tip.raw()), (Level(2), None));
        assert!(matches!(look(vec![candidate(0, 3, 3)], &file[..90]).await, Err(Broken { .. })));
        // A large one is read at both ends.
        let large = RemoteFile { size: file.len() as u64, ..candidate(0, 3, 3) };
        assert!(look(vec![large], &file).await.unwrap().is_some());
    }
    /// As a file that was changed after it was encrypted.
    #[tokio::test]
    async fn a_file_that_the_store_calls_damaged_is_one_of_several() {
        let header = Header::new(crate::model::PageSize::new(512).unwrap(), 1, TxidRange::single(Txid(3)), 0);
        let mut file = Vec::new();
        ltx::Encoder::start(&header, &mut file).unwrap().finish(&mut file).unwrap();
        let size = file.len() as u64;
        // Small, and read at both ends.
        for size in [300, size.max(SMALL + 1)] {
            let mut sound = file.clone();
            if size > SMALL {
                let trailer = sound.split_off(sound.len() - ltx::TRAILER_BYTES);
                sound.resize(size as usize - trailer.len(), 0);
                sound.extend(trailer);
            }
            let (bad, good) = (candidate(0, 3, 3), candidate(2, 3, 3));
            let files = [&bad, &good].map(|file| RemoteFile { size, ..file.clone() }).to_vec();
            let content = |kind: StoreErrorKind, bad: &RemoteFile| {
                let (bad, sound) = (bad.key.clone(), sound.clone());
                move |key: &str| if key == bad { Err(kind) } else { Ok(sound.clone()) }
            };
            let tip = look_at(files.clone(), content(StoreErrorKind::Damaged, &bad))
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert_eq!((tip.first.level, tip.others.len()), (Level(2), 0), "{size}");
            let broken = look_at(files[..1].to_vec(), content(StoreErrorKind::Damaged, &bad))
                .await
                .unwrap()
                .unwrap_err();
            assert_eq!(
                broken,
                Broken { key: bad.key.clone(), problem: Problem::Sealed("why".into()) },
                "{size}"
            );
            // A key that does not fit is no damage, nor is a store that is away.
            for kind in [StoreErrorKind::Key, StoreErrorKind::Unreachable, StoreErrorKind::NotFound] {
                assert_eq!(
                    look_at(files.clone(), content(kind, &bad)).await.unwrap_err().kind,
                    kind,
                    "{size}"
                );
            }
        }
    }
}
