//! Listings: all pages, one page, the names under the root. In: prefixes relative to the root. Out: objects that are ours.
//! Never: shows what is no object of ours, or trusts an empty first page of a replica without a path.

use super::S3Store;
use crate::store::{Object, Page, StoreError, key};

impl S3Store {
    pub(super) async fn list_all(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let objects = self.pages(prefix, format!("{}{prefix}", self.root)).await?;
        if objects.is_empty() && self.root == "/" {
            // Some stores drop the slash that an empty path puts in front of every key.
            return self.pages(prefix, prefix.to_owned()).await;
        }
        Ok(objects)
    }

    async fn pages(&self, prefix: &str, full: String) -> Result<Vec<Object>, StoreError> {
        let client = &self.service().await?.client;
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let page = client
                .list_objects_v2()
                .bucket(&self.settings.bucket)
                .prefix(&full)
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| self.explain("list", prefix, &error))?;
            objects.extend(page.contents().iter().filter_map(|object| self.listed(object)));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || !page.is_truncated().unwrap_or_default() {
                return Ok(objects);
            }
        }
    }

    pub(super) async fn page(&self, prefix: &str, after: &str) -> Result<Page, StoreError> {
        let full = |key: &str| format!("{}{key}", self.root);
        let request = self.service().await?.client.list_objects_v2().bucket(&self.settings.bucket).prefix(full(prefix));
        let request = request.set_start_after((!after.is_empty()).then(|| full(after)));
        let reply = request.send().await.map_err(|error| self.explain("list", prefix, &error))?;
        let objects: Vec<Object> = reply.contents().iter().filter_map(|object| self.listed(object)).collect();
        let more = reply.is_truncated().unwrap_or_default();
        if self.root == "/" && reply.contents().is_empty() || more && objects.is_empty() {
            // A store that drops the slash of an empty path, or a page full of what is not ours: the long way.
            let mut objects = self.list_all(prefix).await?;
            objects.retain(|object| object.key.as_str() > after);
            return Ok(Page { objects, more: false });
        }
        Ok(Page { objects, more })
    }

    /// The first components of all keys that have more of them.
    pub(super) async fn directories_of_root(&self) -> Result<Vec<String>, StoreError> {
        let (client, mut names, mut token) = (&self.service().await?.client, Vec::new(), None);
        // "/" is what an empty path becomes: the names are then at the bucket's root.
        let root = if self.root == "/" { "" } else { self.root.as_str() };
        loop {
            let request = client.list_objects_v2().bucket(&self.settings.bucket).prefix(root).delimiter("/");
            let page =
                request.set_continuation_token(token).send().await.map_err(|error| self.explain("list", "", &error))?;
            let prefixes = page.common_prefixes().iter().filter_map(|common| common.prefix());
            let found = prefixes.filter_map(|prefix| prefix.strip_prefix(root)?.strip_suffix('/'));
            names.extend(found.filter(|name| key::is_object(name)).map(str::to_owned));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || !page.is_truncated().unwrap_or_default() {
                return Ok(names);
            }
        }
    }

    /// None for what is no object of ours: the marker of a directory, a key outside the root.
    fn listed(&self, object: &aws_sdk_s3::types::Object) -> Option<Object> {
        let full = object.key()?;
        let key = full.strip_prefix(&self.root).or((self.root == "/").then_some(full))?;
        if !key::is_object(key) {
            return None;
        }
        Some(Object {
            key: key.to_owned(),
            size: u64::try_from(object.size()?).ok()?,
            modified_ms: object.last_modified()?.to_millis().ok()?,
        })
    }
}
