//! Object storage behind one trait: a directory, S3, Google Cloud Storage, Azure, SFTP. `bucket` does what
//! all services need; each dialect knows how its service is asked. Calls are not repeated here: callers do
//! that, through `retry`. Only `layout` knows the names of LTX files.

// Some of it is for remote stores only.
#![cfg_attr(not(feature = "http"), allow(dead_code, unused_imports))]

#[cfg(feature = "azure")]
mod abs;
mod bucket;
#[cfg(feature = "tls")]
mod certs;
#[cfg(feature = "tls")]
mod chain;
mod clock;
mod counts;
mod download;
pub mod error;
mod failure;
#[cfg(test)]
pub mod faulty;
mod file;
#[cfg(feature = "gcs")]
mod gs;
#[cfg(feature = "http")]
mod http;
mod key;
pub mod layout;
mod limit;
mod link;
mod open;
mod paced;
mod paging;
mod parts;
pub mod retry;
#[cfg(feature = "s3")]
mod s3;
#[cfg(all(feature = "age", test))]
pub mod sealed;
#[cfg(all(feature = "age", not(test)))]
mod sealed;
pub mod settings;
#[cfg(feature = "sftp")]
mod sftp;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "replies of HTTP services"))]
mod suspicion;
#[cfg(feature = "http")]
mod timestamp;
mod web;

use crate::model::Deadline;
use bytes::Bytes;
pub use clock::StoreClock;
pub use counts::{CallResult, Counts, Operation};
pub use error::{StoreError, StoreErrorKind};
pub use open::{Stores, check_keys, open};
pub use paced::Paced;
#[cfg(feature = "s3")]
pub use s3::http_client::plain_http_client;
pub use settings::{AbsSettings, AgeSettings, KeyFiles, S3Settings, Scheme, SftpSettings, StoreSettings};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
pub use web::{WebClient, WebError};

const PRODUCER_GONE: &str = "the content ended early because its producer failed; nothing was stored";

/// A listing may say that a file has so many more bytes than it has: what an encrypted one holds is not known
/// before it is read.
pub const SIZE_SLACK: u64 = 8 << 10;

/// Gets the pieces of an object's content, in order.
pub type Take<'a> = &'a (dyn Fn(Bytes) + Send + Sync);

pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Relative to the replica's root, `/`-separated.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the Unix epoch: the store's own time of the object (for a directory, the file's
    /// mtime).
    pub modified_ms: i64,
}

/// One reply to a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Object>,
    /// There are more, behind the last one.
    pub more: bool,
}

/// Content of a new object.
pub enum Body {
    Whole(Bytes),
    /// Pieces in order, of any size, closed by `Chunk::End`. A channel that closes without it means that the
    /// producer failed: the upload is abandoned and no object appears.
    Stream(mpsc::Receiver<Chunk>),
}

pub enum Chunk {
    Data(Bytes),
    End,
}

/// Result of a create-only put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Created,
    /// An object of that name was there already; it is untouched.
    Exists,
}

/// A replica's root in some object store. Every call ends by `by`, whatever the other side does.
pub trait Store: Send + Sync {
    /// The replica's URL, without secrets, for logs and errors.
    fn url(&self) -> &str;

    /// How LTX files are named under the root.
    fn layout(&self) -> layout::Layout;

    /// The calls so far, by operation and result. None: they are not counted.
    fn counts(&self) -> Option<Arc<Counts>> {
        None
    }

    /// The store's own time, if its answers contain it.
    fn clock(&self) -> Option<Arc<StoreClock>> {
        None
    }

    /// Whether exactly one of two creates of the same name at the same moment succeeds. Asks the store where
    /// that is not known.
    fn creates_exclusively<'a>(&'a self, _: Deadline) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    /// Every object whose key begins with `prefix` (a `/`-separated path prefix, or "" for all), any order,
    /// all pages.
    fn list<'a>(&'a self, prefix: &'a str, by: Deadline) -> StoreFuture<'a, Vec<Object>>;

    /// The objects behind the key `after` ("": all), in the order of their keys, as many as one request
    /// returns.
    fn list_page<'a>(&'a self, prefix: &'a str, after: &'a str, by: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(async move {
            let mut objects = self.list(prefix, by).await?;
            objects.retain(|object| object.key.as_str() > after);
            Ok(Page { objects, more: false })
        })
    }

    /// The names right under the root that have objects below them, any order: where the root holds many
    /// replicas.
    fn directories<'a>(&'a self, by: Deadline) -> StoreFuture<'a, Vec<String>> {
        Box::pin(async move {
            let objects = self.list("", by).await?;
            let first = objects.iter().filter_map(|object| Some(object.key.split_once('/')?.0.to_owned()));
            Ok(first.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
        })
    }

    /// Whether the configured keys open this object. Without keys nothing is asked for.
    fn check_key<'a>(&'a self, _key: &'a str, _: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The object's bytes, or those of `range` (end exclusive, beyond the end is cut off; an empty one is
    /// `Invalid`).
    fn get<'a>(&'a self, key: &'a str, range: Option<Range<u64>>, by: Deadline) -> StoreFuture<'a, Bytes>;

    /// The same in pieces, as they arrive. `take` also gets the pieces that arrive before a failure.
    fn get_into<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        take: Take<'a>,
        by: Deadline,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.get(key, range, by).await.map(take) })
    }

    /// Creates the object if there is none of that name. It appears whole or not at all. `timestamp_ms` (Unix
    /// milliseconds) becomes the object's timestamp where Litestream looks for it.
    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
        timestamp_ms: i64,
        by: Deadline,
    ) -> StoreFuture<'a, Put>;

    /// Creates or replaces a small object, atomically.
    fn put<'a>(&'a self, key: &'a str, body: Bytes, by: Deadline) -> StoreFuture<'a, ()>;

    /// Removes objects; those that do not exist are no error.
    fn delete<'a>(&'a self, keys: &'a [String], by: Deadline) -> StoreFuture<'a, ()>;
}
