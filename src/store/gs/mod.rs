//! To be built.

use super::layout::Layout;
use super::link;
use super::{Body, Object, Page, Put, Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings};
use crate::model::Deadline;
use bytes::Bytes;
use std::ops::Range;

pub(super) type Links = link::Links<()>;

pub(super) struct GsStore {
    url: String,
}

impl GsStore {
    /// The error is a text for the user: which setting is wrong.
    pub(super) fn new(settings: &StoreSettings, _links: &Links) -> Result<GsStore, String> {
        Ok(GsStore { url: settings.url.clone() })
    }
    fn no<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::new(StoreErrorKind::Invalid, "reach", self.url.as_str(), "not available in this version"))
    }
}

impl Store for GsStore {
    fn url(&self) -> &str {
        &self.url
    }
    fn layout(&self) -> Layout {
        Layout::Directory
    }
    fn list<'a>(&'a self, _: &'a str, _: Deadline) -> StoreFuture<'a, Vec<Object>> {
        Box::pin(async { self.no() })
    }
    fn list_page<'a>(&'a self, _: &'a str, _: &'a str, _: Deadline) -> StoreFuture<'a, Page> {
        Box::pin(async { self.no() })
    }
    fn get<'a>(&'a self, _: &'a str, _: Option<Range<u64>>, _: Deadline) -> StoreFuture<'a, Bytes> {
        Box::pin(async { self.no() })
    }
    fn put_new<'a>(&'a self, _: &'a str, _: Body, _: i64, _: Deadline) -> StoreFuture<'a, Put> {
        Box::pin(async { self.no() })
    }
    fn put<'a>(&'a self, _: &'a str, _: Bytes, _: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async { self.no() })
    }
    fn delete<'a>(&'a self, _: &'a [String], _: Deadline) -> StoreFuture<'a, ()> {
        Box::pin(async { self.no() })
    }
}
