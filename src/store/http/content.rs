//! The content of a reply, piece by piece: what was asked for and nothing else, and all of it.

use super::failed;
use crate::store::{StoreErrorKind, parts::overlap};
use bytes::Bytes;
use std::ops::Range;

/// Hands the content on. `range` is what was asked for: a server that does not know ranges sends everything. The error is
/// its kind and a text for the user.
pub(in crate::store) async fn content_into(
    mut reply: reqwest::Response,
    range: Option<Range<u64>>,
    take: &(dyn Fn(Bytes) + Send + Sync),
) -> Result<(), (StoreErrorKind, String)> {
    let partial = reply.headers().contains_key(reqwest::header::CONTENT_RANGE);
    let wanted = range.filter(|_| !partial);
    let length = reply.content_length();
    let mut got = 0;
    while let Some(piece) = reply.chunk().await.map_err(|error| failed(&error))? {
        let part = wanted.as_ref().map_or_else(|| piece.clone(), |wanted| overlap(&piece, got, wanted));
        got += piece.len() as u64;
        take(part);
    }
    if length.is_some_and(|length| length != got) {
        return Err((StoreErrorKind::Unreachable, format!("the reply ended after {got} bytes")));
    }
    Ok(())
}
