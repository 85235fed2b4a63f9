//! Reads a short answer as a whole, up to a limit.

use super::failed;
use crate::store::failure::Failure;
use bytes::{Bytes, BytesMut};

/// Of an answer that is no success.
const ERROR: usize = 64 << 10;

/// Cuts the text of an error after 64 KiB; refuses a success that is longer than `limit`.
pub(in crate::store) async fn body(mut reply: reqwest::Response, limit: usize) -> Result<Bytes, Failure> {
    let success = reply.status().is_success();
    let limit = if success { limit } else { limit.min(ERROR) };
    let mut body = BytesMut::new();
    while let Some(piece) = reply.chunk().await.map_err(|error| failed(&error))? {
        let room = limit.saturating_sub(body.len());
        if piece.len() > room && success {
            return Err(Failure::unreachable(format!(
                "the answer does not end: more than {limit} bytes came"
            )));
        }
        if piece.len() > room {
            body.extend_from_slice(piece.get(..room).unwrap_or_default());
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
