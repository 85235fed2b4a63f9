//! Cuts the content of a new object into parts of one size, and sends parts a few at a time. Holds the parts
//! that are being sent, the part that is being filled, and what the producer's last piece left over.

#[cfg(feature = "http")]
use super::failure::Failure;
use crate::store::{Body, Chunk, PRODUCER_GONE};
use bytes::{Bytes, BytesMut};
#[cfg(feature = "http")]
use futures_util::stream::{FuturesUnordered, TryStreamExt};
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

    /// Nothing is left. This is known right after the last part, so that small content never becomes a
    /// multipart upload.
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
            self.peek().await?;
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
        self.peek().await?;
        Ok((!part.is_empty()).then(|| part.freeze()))
    }

    /// Reads on until there is more content or its end, so that `is_done` knows whether the last part was
    /// cut.
    async fn peek(&mut self) -> Result<(), &'static str> {
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

/// Sends `first` and the rest, `at_once` parts at a time, and returns what `send` returned, in the order of
/// the parts. The next part is cut only when there is room for it; the parts that are being sent go on
/// meanwhile. `too_many`: the error when there are more than `most`.
#[cfg(feature = "http")]
pub(super) async fn send_all<T, Send>(
    (first, mut rest): (Bytes, Parts),
    at_once: usize,
    (most, too_many): (usize, &str),
    send: impl Fn(usize, Bytes) -> Send,
) -> Result<Vec<T>, Failure>
where
    Send: Future<Output = Result<T, Failure>>,
{
    let send = |number: usize, body| {
        let sent = send(number, body);
        async move { Ok::<_, Failure>((number, sent.await?)) }
    };
    let mut sending = FuturesUnordered::new();
    let mut sent = Vec::new();
    let mut part = Some(first).filter(|first| !first.is_empty());
    let mut count = 0;
    while let Some(body) = part {
        if count == most {
            return Err(Failure::invalid(too_many));
        }
        if sending.len() >= at_once {
            sent.extend(sending.try_next().await?);
        }
        sending.push(send(count, body));
        count += 1;
        let mut next = std::pin::pin!(rest.next());
        part = loop {
            tokio::select! {
                biased;
                done = sending.try_next(), if !sending.is_empty() => sent.extend(done?),
                part = &mut next => break part.map_err(Failure::invalid)?,
            }
        };
    }
    while let Some(done) = sending.try_next().await? {
        sent.push(done);
    }
    sent.sort_unstable_by_key(|(number, _)| *number);
    Ok(sent.into_iter().map(|(_, result)| result).collect())
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
