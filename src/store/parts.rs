//! Cuts content into parts: of one size, or what a range wants. In: a `Body`. Out: parts in order, all full but the last. Never: holds more than the
//! part being filled and what the producer's last piece left over.

use crate::store::{Body, Chunk, PRODUCER_GONE};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use tokio::sync::mpsc;

pub(super) struct Parts {
    size: usize,
    /// Received, not yet handed out.
    rest: Bytes,
    /// None once `Chunk::End` was seen.
    more: Option<mpsc::Receiver<Chunk>>,
}

impl Parts {
    pub(super) fn new(body: Body, size: usize) -> Parts {
        match body {
            Body::Whole(rest) => Parts { size, rest, more: None },
            Body::Stream(chunks) => Parts { size, rest: Bytes::new(), more: Some(chunks) },
        }
    }

    /// Nothing is left. Known right after the last part, so that small content never becomes a multipart upload.
    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty() && self.more.is_none()
    }

    /// The next part; None when all were handed out. An error when the producer has failed.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.is_done() {
            return Ok(None);
        }
        if self.more.is_none() || self.rest.len() >= self.size {
            let part = self.rest.split_to(self.size.min(self.rest.len()));
            self.look_ahead().await?;
            return Ok(Some(part));
        }
        let mut part = BytesMut::with_capacity(self.size);
        loop {
            let room = self.size.saturating_sub(part.len());
            part.extend_from_slice(&self.rest.split_to(room.min(self.rest.len())));
            if part.len() == self.size || self.more.is_none() {
                break;
            }
            self.receive().await?;
        }
        self.look_ahead().await?;
        Ok((!part.is_empty()).then(|| part.freeze()))
    }

    /// Reads on until there is more content or its end: only then is it known whether the part just cut is the last.
    async fn look_ahead(&mut self) -> Result<(), &'static str> {
        while self.rest.is_empty() && self.more.is_some() {
            self.receive().await?;
        }
        Ok(())
    }

    /// Takes one piece from the producer. Called only when `rest` is empty.
    async fn receive(&mut self) -> Result<(), &'static str> {
        let Some(chunks) = &mut self.more else { return Ok(()) };
        match chunks.recv().await {
            Some(Chunk::Data(bytes)) => self.rest = bytes,
            Some(Chunk::End) => self.more = None,
            None => return Err(PRODUCER_GONE),
        }
        Ok(())
    }
}

/// The part of `piece`, which begins at `at` of the object, that is in `wanted`.
pub(super) fn overlap(piece: &Bytes, at: u64, wanted: &Range<u64>) -> Bytes {
    let clamp = |edge: u64| usize::try_from(edge.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
    piece.slice(clamp(wanted.start)..clamp(wanted.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn stream(pieces: &[Vec<u8>], end: bool) -> Body {
        let (sender, receiver) = mpsc::channel(pieces.len() + 1);
        for piece in pieces {
            sender.try_send(Chunk::Data(Bytes::copy_from_slice(piece))).ok().unwrap();
        }
        if end {
            sender.try_send(Chunk::End).ok().unwrap();
        }
        Body::Stream(receiver)
    }

    /// All parts, and whether the source knew after each that it was the last.
    fn all(body: Body, size: usize) -> Result<Vec<(Bytes, bool)>, &'static str> {
        run(async {
            let mut source = Parts::new(body, size);
            let mut parts = Vec::new();
            while let Some(part) = source.next().await? {
                parts.push((part, source.is_done()));
            }
            Ok(parts)
        })
    }

    proptest! {
        #[test]
        fn parts_are_full_but_the_last_and_add_up(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            size in 1usize..15,
        ) {
            let content = pieces.concat();
            for body in [stream(&pieces, true), Body::Whole(content.clone().into())] {
                let parts = all(body, size).unwrap();
                let lengths: Vec<usize> = parts.iter().map(|(part, _)| part.len()).collect();
                let expected: Vec<usize> = content.chunks(size).map(<[u8]>::len).collect();
                prop_assert_eq!(lengths, expected);
                prop_assert_eq!(parts.iter().flat_map(|(part, _)| part.to_vec()).collect::<Vec<u8>>(), content.clone());
                let last: Vec<bool> = parts.iter().map(|(_, last)| *last).collect();
                prop_assert!(last.iter().enumerate().all(|(at, is_last)| *is_last == (at + 1 == parts.len())));
            }
        }

        #[test]
        fn a_stream_without_its_end_is_an_error(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            size in 1usize..15,
        ) {
            prop_assert_eq!(all(stream(&pieces, false), size), Err(PRODUCER_GONE));
        }
    }

    #[test]
    fn an_empty_stream_is_done_after_no_part() {
        run(async {
            let mut source = Parts::new(stream(&[], true), 5);
            assert_eq!(source.next().await, Ok(None));
            assert!(source.is_done());
        });
    }
}
