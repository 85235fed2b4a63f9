//! Google Cloud Storage through its JSON API: the requests, and what their answers mean.

mod address;
mod cause;
mod client;
mod exchange;
mod jwt;
mod list;
mod progress;
mod related;
mod resumable;
mod source;
mod token;

use super::bucket::{Dialect, NewObject};
use super::download::{Download, Got};
use super::failure::Failure;
use super::http::{body, content, retry_after};
use super::paging::{Listing, PageRequest};
use super::{Put, StoreClock, StoreSettings, layout::Layout};
use crate::model::Deadline;
use address::Address;
use bytes::Bytes;
pub(super) use client::Client;
use progress::{Stored, Sum};
use reqwest::header::{CONTENT_TYPE, RANGE};
use reqwest::{Response, StatusCode};
use std::sync::Arc;

const CREATE: &str = "create";
/// What is read of an answer that is no content; a page of a listing has up to 1000 names of up to 1 KiB.
const ANSWER: usize = 8 << 20;
/// With the one that is being filled, two are in memory. Google's own libraries send 8 or 16 MiB.
const DEFAULT_PART: u64 = 8 << 20;
const MAX_PART: u64 = 5 << 30;

pub(super) struct Gs {
    address: Address,
    part_size: usize,
}

impl Gs {
    /// Uploads an object by one request; to create, only if there is none of that name.
    async fn send_whole(
        &self,
        client: &Client,
        operation: &str,
        description: &str,
        content: &Bytes,
    ) -> Result<Put, Failure> {
        let url = self.address.upload("multipart", operation == CREATE);
        let (kind, body) = related::related(description, content);
        let request = |http: &reqwest::Client| {
            http.post(url.as_str()).header(CONTENT_TYPE, kind.as_str()).body(body.clone())
        };
        let reply = client.send(request).await?;
        if operation == CREATE && reply.status() == StatusCode::PRECONDITION_FAILED {
            return Ok(Put::Exists);
        }
        // The service describes what it has stored. What it does not describe, or describes otherwise, may
        // not be there.
        let stored: Stored = serde_json::from_slice(&success(operation, reply).await?).unwrap_or_default();
        let mut sum = Sum::new();
        sum.add(content);
        if stored.describes_object() && sum.agrees(&stored) {
            return Ok(Put::Created);
        }
        Err(Failure::suspicious("the answer does not describe what was sent"))
    }
}

/// The reply's text when it is a success, else why not.
async fn success(operation: &str, reply: Response) -> Result<Bytes, Failure> {
    let status = reply.status();
    let retry_after = retry_after(&reply);
    let body = body(reply, ANSWER).await?;
    if status.is_success() {
        return Ok(body);
    }
    Err(Failure { retry_after, ..cause::explain(operation, status.as_u16(), &body) })
}

impl Dialect for Gs {
    type Client = Client;
    const LAYOUT: Layout = Layout::Directory;
    const LISTS_FROM: bool = true;
    /// Google deletes one object by a request.
    const DELETES: (usize, usize) = (1, 8);

    fn new(settings: &StoreSettings) -> Result<Gs, String> {
        let part_size = settings.part_size.unwrap_or(DEFAULT_PART);
        if !(progress::UNIT..=MAX_PART).contains(&part_size) {
            return Err("part_size must be between 256 KiB and 5 GiB".to_owned());
        }
        let whole_units = part_size - part_size % progress::UNIT;
        Ok(Gs {
            address: Address::new(settings.endpoint.as_deref(), &settings.bucket)?,
            part_size: usize::try_from(whole_units)
                .map_err(|_| "part_size is too big for this machine".to_owned())?,
        })
    }

    fn root(path: &str) -> String {
        if path.is_empty() { String::new() } else { format!("{path}/") }
    }

    async fn connect(settings: &StoreSettings, clock: &Arc<StoreClock>) -> Result<Client, String> {
        Client::build(settings, clock).await
    }

    fn part_size(&self) -> usize {
        self.part_size
    }

    async fn list(&self, client: &Arc<Client>, page: PageRequest<'_>) -> Result<Listing, Failure> {
        let url = self.address.listing(page);
        let reply = client.send(|http| http.get(url.as_str())).await?;
        list::read(&success("list", reply).await?).map_err(|problem| Failure::suspicious(&problem))
    }

    async fn get(&self, client: &Arc<Client>, name: &str, download: Download<'_>) -> Result<Got, Failure> {
        let url = self.address.content(name);
        let header = download.header();
        let request = |http: &reqwest::Client| match &header {
            Some(header) => http.get(url.as_str()).header(RANGE, header),
            None => http.get(url.as_str()),
        };
        let reply = client.send(request).await?;
        match reply.status().as_u16() {
            200..=299 => content(reply, download).await,
            416 if header.is_some() => Ok(Got::RangeRefused),
            _ => success("get", reply).await.map(|_| Got::Content),
        }
    }

    async fn create(&self, client: &Arc<Client>, object: NewObject, by: Deadline) -> Result<Put, Failure> {
        let timestamp = object.timestamp()?;
        let NewObject { name, first, rest, .. } = object;
        if rest.is_done() {
            let description = related::description(&name, Some(&timestamp));
            return self.send_whole(client, CREATE, &description, &first).await;
        }
        resumable::Target { dialect: self, client, name }.upload(first, rest, &timestamp, by).await
    }

    async fn put(&self, client: &Arc<Client>, name: &str, content: Bytes) -> Result<(), Failure> {
        self.send_whole(client, "put", &related::description(name, None), &content).await.map(drop)
    }

    async fn delete(&self, client: &Arc<Client>, names: &[String]) -> Result<(), Failure> {
        for name in names {
            let url = self.address.object(name);
            let deleted = async {
                let reply = client.send(|http| http.delete(url.as_str())).await?;
                if reply.status() == StatusCode::NOT_FOUND {
                    return Ok(());
                }
                success("delete", reply).await.map(drop)
            };
            deleted.await.map_err(|failure: Failure| failure.deleting(name))?;
        }
        Ok(())
    }
}
