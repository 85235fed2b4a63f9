//! The content of a new file becomes an age file: whole, or piece by piece while it is made.

use super::head;
use super::keys::Keys;
use super::payload::{ContentKey, NONCE, Sealer, random};
use super::problem::Problem;
use crate::store::{Body, Chunk};
use bytes::Bytes;
use std::future::Future;
use tokio::sync::mpsc;

/// The header and the nonce of a new file, and what encrypts its content.
fn begin(keys: &Keys) -> Result<(Vec<u8>, Sealer), Problem> {
    let (file_key, stanzas) = keys.wrap()?;
    let mut start = head::write(&stanzas, &file_key)?;
    let nonce = random::<NONCE>()?;
    start.extend_from_slice(&nonce);
    Ok((start, Sealer::new(ContentKey::new(&file_key, &nonce)?)))
}

pub fn whole(keys: &Keys, content: &[u8]) -> Result<Bytes, Problem> {
    let (mut file, mut sealer) = begin(keys)?;
    sealer.push(content, &mut file)?;
    sealer.finish(&mut file)?;
    Ok(Bytes::from(file))
}

/// What must run while the body is sent. A content that ends without its end, or a cipher that fails, ends
/// the body without its end, too: no object appears.
pub fn stream(
    keys: &Keys,
    mut content: mpsc::Receiver<Chunk>,
) -> Result<(impl Future<Output = ()> + Send + use<>, Body), Problem> {
    let (mut out, mut sealer) = begin(keys)?;
    let (sender, receiver) = mpsc::channel(1);
    let work = async move {
        while let Some(chunk) = content.recv().await {
            match chunk {
                Chunk::Data(bytes) => {
                    if sealer.push(&bytes, &mut out).is_err() {
                        return;
                    }
                    let piece = Bytes::from(std::mem::take(&mut out));
                    if !piece.is_empty() && sender.send(Chunk::Data(piece)).await.is_err() {
                        return;
                    }
                }
                Chunk::End => {
                    if sealer.finish(&mut out).is_ok()
                        && sender.send(Chunk::Data(Bytes::from(out))).await.is_ok()
                    {
                        // A store that has gone away says why itself.
                        let _ = sender.send(Chunk::End).await;
                    }
                    return;
                }
            }
        }
    };
    Ok((work, Body::Stream(receiver)))
}
