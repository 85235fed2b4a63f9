//! A short answer as a whole: at most so many bytes of it are read.

use super::failed;
use crate::store::StoreErrorKind;
use bytes::{Bytes, BytesMut};

/// The error is its kind and a text for the user.
pub(in crate::store) async fn body(
    mut reply: reqwest::Response,
    limit: usize,
) -> Result<Bytes, (StoreErrorKind, String)> {
    let mut body = BytesMut::new();
    while let Some(piece) = reply.chunk().await.map_err(|error| failed(&error))? {
        let room = limit.saturating_sub(body.len());
        if piece.len() > room {
            body.extend_from_slice(piece.get(..room).unwrap_or_default());
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
