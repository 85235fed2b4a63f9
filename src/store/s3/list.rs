//! One page of a listing.

use super::S3;
use super::service::Service;
use crate::store::failure::Failure;
use crate::store::paging::{Entry, Listing, PageRequest};

impl S3 {
    pub(super) async fn list_page(
        &self,
        service: &Service,
        page: PageRequest<'_>,
    ) -> Result<Listing, Failure> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let request = service.client.list_objects_v2().bucket(&self.settings.bucket).prefix(page.prefix);
        let request = request.set_start_after(given(page.start)).set_continuation_token(given(page.token));
        let request = request.set_delimiter(page.by_directory.then(|| "/".to_owned()));
        let reply = request.send().await.map_err(|error| self.explain("list", &error))?;
        let entry = |object: &aws_sdk_s3::types::Object| Entry {
            name: object.key().unwrap_or_default().to_owned(),
            size: object.size().and_then(|size| u64::try_from(size).ok()),
            modified_ms: object.last_modified().and_then(|time| time.to_millis().ok()),
        };
        Ok(Listing {
            entries: reply.contents().iter().map(entry).collect(),
            directories: reply
                .common_prefixes()
                .iter()
                .filter_map(|common| common.prefix().map(str::to_owned))
                .collect(),
            more: reply.is_truncated(),
            token: reply.next_continuation_token().map(str::to_owned),
        })
    }
}
