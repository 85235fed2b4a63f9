//! Merges consecutive LTX files into one that leads to the same state: a k-way merge by page number, in which
//! the newest version of a page counts. Memory: a page and the current chunk of each input, and one piece of
//! output. Every input is read to its end and verified.
//!
//! The output before `Step::End` is not verified and must not be published.

use super::{Decoder, Encoder, Event, Header, LtxError};
use crate::model::{FileChecksum, PageNo, TxidRange};
use bytes::{Buf, Bytes};

/// What the merge returns to its caller, or needs from it.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Input number so and so (from 0) needs its next bytes.
    Feed(usize),
    /// The merged file's header, once all inputs have shown theirs. It may cover fewer inputs than were
    /// given: the merge ends before the first one with another page size.
    Head(Header),
    /// The next bytes of the merged file.
    Piece(Bytes),
    /// The file is complete, and every input was sound.
    End(FileChecksum),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// An input is damaged.
    #[error("{range} is damaged: {error}")]
    Input { range: TxidRange, error: LtxError },
    #[error("{range} is damaged: its header says {says}")]
    Name { range: TxidRange, says: TxidRange },
    #[error("{next} does not follow {after}")]
    Order { after: TxidRange, next: TxidRange },
    #[error("there is nothing to merge")]
    Nothing,
    /// The inputs are sound one by one and do not make a file together.
    #[error("the merged file would be wrong: {0}")]
    Output(LtxError),
}

impl MergeError {
    /// The index of the damaged input.
    pub fn damaged(&self) -> Option<TxidRange> {
        match self {
            MergeError::Input { range, .. } | MergeError::Name { range, .. } => Some(*range),
            MergeError::Order { .. } | MergeError::Nothing | MergeError::Output(_) => None,
        }
    }
}

pub struct Merge {
    inputs: Vec<Input>,
    /// Pieces are about this long.
    piece: usize,
    output: Output,
}

enum Output {
    /// Not all inputs have shown their headers.
    Waiting,
    Open(Box<Encoder>, Vec<u8>),
    /// What is still to be handed out.
    Closed(Vec<u8>, FileChecksum),
}

struct Input {
    range: TxidRange,
    chunk: Bytes,
    /// No bytes follow `chunk`.
    last: bool,
    decoder: Decoder,
    header: Option<Header>,
    /// The page at hand; its bytes are in `data`.
    page: Option<PageNo>,
    data: Vec<u8>,
    ended: bool,
}

impl Merge {
    /// `ranges` are those of the inputs, in order: each begins at the latest behind the one before and ends
    /// after it.
    pub fn new(ranges: &[TxidRange], piece: usize) -> Result<Merge, MergeError> {
        if ranges.is_empty() {
            return Err(MergeError::Nothing);
        }
        for (after, next) in ranges.iter().zip(ranges.iter().skip(1)) {
            if next.min > after.max.next() || next.max <= after.max {
                return Err(MergeError::Order { after: *after, next: *next });
            }
        }
        let inputs = ranges.iter().map(|range| Input::new(*range)).collect();
        Ok(Merge { inputs, piece, output: Output::Waiting })
    }

    /// The next bytes of an input, after `Step::Feed`; `last`: no others follow.
    pub fn feed(&mut self, input: usize, bytes: Bytes, last: bool) {
        if let Some(input) = self.inputs.get_mut(input) {
            (input.chunk, input.last) = (bytes, last);
        }
    }

    pub fn step(&mut self) -> Result<Step, MergeError> {
        match &mut self.output {
            Output::Waiting => self.head(),
            Output::Open(..) => self.body(),
            Output::Closed(rest, _) if !rest.is_empty() => Ok(Step::Piece(Bytes::from(std::mem::take(rest)))),
            Output::Closed(_, checksum) => Ok(Step::End(*checksum)),
        }
    }

    fn head(&mut self) -> Result<Step, MergeError> {
        for (index, input) in self.inputs.iter_mut().enumerate() {
            if input.header.is_none() && !input.advance()? {
                return Ok(Step::Feed(index));
            }
        }
        let page_size = self.inputs.first().and_then(Input::page_size);
        self.inputs.truncate(self.inputs.iter().take_while(|input| input.page_size() == page_size).count());
        let header = self.merged_header().ok_or(MergeError::Nothing)?;
        let mut out = Vec::new();
        let encoder = Encoder::start(&header, &mut out).map_err(MergeError::Output)?;
        self.output = Output::Open(Box::new(encoder), out);
        Ok(Step::Head(header))
    }

    /// Everything is the last input's, but where the range begins: the merged file leads to the state that
    /// the last one leads to. So is the node id, which names the writer of that state.
    fn merged_header(&self) -> Option<Header> {
        let first = self.inputs.first()?.header.as_ref()?;
        let last = self.inputs.last()?.header.as_ref()?;
        let range = TxidRange { min: first.range.min, max: last.range.max };
        let mut header = Header::new(last.page_size, last.commit, range, last.timestamp_ms);
        (header.node_id, header.db_checksum) = (last.node_id, last.db_checksum);
        header.app_locks_exclusively = last.app_locks_exclusively;
        Some(header)
    }

    fn body(&mut self) -> Result<Step, MergeError> {
        let Output::Open(encoder, out) = &mut self.output else { return Err(MergeError::Nothing) };
        loop {
            if out.len() >= self.piece {
                return Ok(Step::Piece(Bytes::from(std::mem::take(out))));
            }
            let mut smallest: Option<PageNo> = None;
            for (index, input) in self.inputs.iter_mut().enumerate() {
                if input.page.is_none() && !input.ended && !input.advance()? {
                    return Ok(Step::Feed(index));
                }
                smallest = smallest.into_iter().chain(input.page).min();
            }
            let Some(page) = smallest else { break };
            let mut newest = None;
            for input in self.inputs.iter_mut().filter(|input| input.page == Some(page)) {
                input.page = None;
                newest = Some(&input.data);
            }
            // Pages behind the end were dropped by a later transaction.
            if let Some(data) = newest.filter(|_| page.0 <= encoder.header().commit) {
                encoder.page(page, data, out).map_err(MergeError::Output)?;
            }
        }
        self.close()
    }

    fn close(&mut self) -> Result<Step, MergeError> {
        let Output::Open(encoder, mut out) = std::mem::replace(&mut self.output, Output::Waiting) else {
            return Err(MergeError::Nothing);
        };
        let checksum = encoder.finish(&mut out).map_err(MergeError::Output)?;
        self.output = Output::Closed(out, checksum);
        self.step()
    }
}

impl Input {
    fn new(range: TxidRange) -> Input {
        Input {
            range,
            chunk: Bytes::new(),
            last: false,
            decoder: Decoder::default(),
            header: None,
            page: None,
            data: Vec::new(),
            ended: false,
        }
    }

    fn page_size(&self) -> Option<crate::model::PageSize> {
        self.header.as_ref().map(|header| header.page_size)
    }

    /// Goes on to the header, the next page or the end. False: more bytes are needed.
    fn advance(&mut self) -> Result<bool, MergeError> {
        let range = self.range;
        let damaged = |error| MergeError::Input { range, error };
        loop {
            let mut rest = &self.chunk[..];
            let before = rest.len();
            match self.decoder.next(&mut rest).map_err(damaged)? {
                Some(Event::Header(header)) if header.range != range => {
                    return Err(MergeError::Name { range, says: header.range });
                }
                Some(Event::Header(header)) => {
                    self.header = Some(header.clone());
                    self.chunk.advance(before - rest.len());
                    return Ok(true);
                }
                Some(Event::Page(page, data)) => {
                    self.page = Some(page);
                    self.data.clear();
                    self.data.extend_from_slice(data);
                    self.chunk.advance(before - rest.len());
                    return Ok(true);
                }
                // Once more, for what may stand behind the trailer.
                Some(Event::End(_)) => self.chunk.advance(before - rest.len()),
                None if self.last => {
                    std::mem::take(&mut self.decoder).finish().map_err(damaged)?;
                    self.ended = true;
                    return Ok(true);
                }
                None => {
                    self.chunk.clear();
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
