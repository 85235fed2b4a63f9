//! The content of a reply.

use super::failed;
use crate::store::download::{Download, Got, ReplyHead};
use crate::store::failure::Failure;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG};

/// Hands the content of a success to `download`.
pub(in crate::store) async fn content(
    mut reply: reqwest::Response,
    mut download: Download<'_>,
) -> Result<Got, Failure> {
    download.begin(&ReplyHead {
        has_etag: reply.headers().contains_key(ETAG),
        partial: reply.status() == StatusCode::PARTIAL_CONTENT,
        content_range: reply.headers().get(CONTENT_RANGE).map(|value| value.to_str().unwrap_or_default()),
        length: reply.content_length(),
    })?;
    while let Some(piece) = reply.chunk().await.map_err(|error| failed(&error))? {
        download.piece(piece);
    }
    download.end()
}
