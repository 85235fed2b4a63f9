//! Azure Blob Storage: the requests, and what their answers mean.

mod address;
mod blocks;
mod cause;
mod credentials;
mod identity;
mod list;
mod service;

use super::bucket::{Dialect, NewObject};
use super::download::{Download, Got};
use super::failure::Failure;
use super::http::{body, content};
use super::paging::{Listing, PageRequest};
use super::{Put, StoreClock, StoreSettings, layout::Layout};
use crate::model::Deadline;
use ::http::Method;
use address::Account;
use bytes::Bytes;
use service::Call;
pub(super) use service::Service;
use std::sync::Arc;

const CREATE: &str = "create";
const IF_NONE_MATCH: &str = "if-none-match";
const OCTETS: &str = "application/octet-stream";
/// Where Litestream looks for a blob's timestamp; Azure allows no hyphen in it.
const METADATA: &str = "x-ms-meta-litestreamtimestamp";
const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 4000 << 20;
/// As small as the other stores': memory counts for more than requests. Enough for a blob of 240 GiB.
const DEFAULT_PART: u64 = MIN_PART;
/// Parts that are sent at once: with the one that is being filled, this many plus one are in memory.
const DEFAULT_CONCURRENCY: usize = 2;
/// A page has up to 5000 names of up to 1 KiB, and what XML makes of them.
const LISTING: usize = 32 << 20;

pub(super) struct Abs {
    account: Account,
    container: String,
    part_size: usize,
    concurrency: usize,
}

impl Abs {
    fn url(&self, name: &str) -> String {
        self.account.blob(&self.container, name)
    }

    async fn is_there(&self, service: &Service, name: &str) -> Result<bool, Failure> {
        match service.send("get", Call::new(Method::HEAD, self.url(name))).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is_absent() => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

impl Dialect for Abs {
    type Client = Service;
    const LAYOUT: Layout = Layout::Directory;
    const LISTS_FROM: bool = false;
    /// Azure deletes one blob by a request.
    const DELETES: (usize, usize) = (1, 8);

    fn new(settings: &StoreSettings) -> Result<Abs, String> {
        if settings.bucket.is_empty() {
            return Err("the container is missing: write abs://ACCOUNT@CONTAINER/PREFIX".to_owned());
        }
        credentials::check(settings)?;
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(MIN_PART..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 5 MiB and 4000 MiB".to_owned());
        }
        Ok(Abs {
            account: Account::of(settings)?,
            container: settings.bucket.clone(),
            part_size: usize::try_from(part_size)
                .map_err(|_| "part_size is too big for this machine".to_owned())?,
            concurrency: settings.concurrency.unwrap_or(DEFAULT_CONCURRENCY).max(1),
        })
    }

    fn root(path: &str) -> String {
        if path.is_empty() { String::new() } else { format!("{path}/") }
    }

    async fn connect(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Service, String> {
        Service::build(settings, clock).await
    }

    fn part_size(&self) -> usize {
        self.part_size
    }

    async fn list(&self, service: &Arc<Service>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        let delimiter = if page.by_directory { "/" } else { "" };
        let parameters = [("prefix", page.prefix), ("delimiter", delimiter), ("marker", page.token)];
        let reply =
            service.send("list", Call::new(Method::GET, self.account.listing(&self.container, &parameters)));
        let text = body(reply.await?, LISTING).await?;
        list::read(&String::from_utf8_lossy(&text))
            .map_err(|problem| Failure::suspicious(&format!("the reply is no listing ({problem})")))
    }

    async fn get(&self, service: &Arc<Service>, name: &str, download: Download<'_>) -> Result<Got, Failure> {
        let mut call = Call::new(Method::GET, self.url(name));
        if let Some(range) = download.header() {
            call = call.with("range", range);
        }
        match service.send("get", call).await {
            Err(refusal) if refusal.status == 416 && download.range().is_some() => Ok(Got::RangeRefused),
            reply => content(reply?, download).await,
        }
    }

    async fn create(&self, service: &Arc<Service>, object: NewObject, by: Deadline) -> Result<Put, Failure> {
        let timestamp = object.timestamp()?;
        let NewObject { name, first, rest, .. } = object;
        let url = self.url(&name);
        if rest.is_done() {
            let call =
                whole(url.clone(), first.clone()).with(IF_NONE_MATCH, "*").with(METADATA, timestamp.clone());
            match service.send(CREATE, call).await {
                Err(refusal) if refusal.already_exists() => {}
                reply => return service::stored(&reply?).map(|()| Put::Created),
            }
            // Blocks of an upload that was abandoned can count as an unreadable blob here. A commit ignores
            // them.
            if self.is_there(service, &name).await? {
                return Ok(Put::Exists);
            }
        }
        let target = blocks::Target { service, url };
        target.upload((first, rest), timestamp, self.concurrency, by).await
    }

    async fn put(&self, service: &Arc<Service>, name: &str, content: Bytes) -> Result<(), Failure> {
        service::stored(&service.send("put", whole(self.url(name), content)).await?)
    }

    async fn delete(&self, service: &Arc<Service>, names: &[String]) -> Result<(), Failure> {
        for name in names {
            match service.send("delete", Call::new(Method::DELETE, self.url(name))).await {
                Err(refusal) if !refusal.is_absent() => return Err(Failure::from(refusal).deleting(name)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Uploads a small blob by one request.
fn whole(url: String, body: Bytes) -> Call {
    Call::put(url, body).with("x-ms-blob-type", "BlockBlob").with("content-type", OCTETS)
}
