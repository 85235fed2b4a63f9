//! Aborts multipart uploads that a killed run left open: they cost money, and no listing of objects shows
//! them. It looks for them once, in the background, after the first multipart upload of a run, and only for
//! old ones of this replica.

use super::S3;
use super::service::Service;
use crate::model::Moment;
use crate::store::layout::Layout;
use aws_sdk_s3::types::MultipartUpload;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A part is given up after minutes, so an upload that began a day ago is abandoned; if it is not (a huge
/// file on a slow line), it starts again. The clocks agree: a store refuses requests whose time is wrong.
const OLD: Duration = Duration::from_secs(24 * 3600);
const LONGEST: Duration = Duration::from_secs(60);

/// Of an LTX file under this root, and older than `OLD`.
fn is_left_over(key: &str, root: &str, begun_ms: i64, now_ms: i64) -> bool {
    let ours = key.strip_prefix(root).is_some_and(|key| Layout::S3.parse(key).is_some());
    ours && now_ms.saturating_sub(begun_ms) > OLD.as_millis() as i64
}

impl S3 {
    /// In the background: the caller does not wait.
    pub(super) fn sweep(&self, service: &Service) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let sweep = Sweep {
            client: service.client.clone(),
            bucket: self.settings.bucket.clone(),
            root: self.root.clone(),
            url: self.settings.url.clone(),
        };
        runtime.spawn(tokio::time::timeout(LONGEST, sweep.run()));
    }
}

struct Sweep {
    client: aws_sdk_s3::Client,
    bucket: String,
    root: String,
    url: String,
}

impl Sweep {
    async fn run(self) {
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.root);
        let reply = match request.send().await {
            Ok(reply) => reply,
            Err(error) => {
                let error = crate::store::chain::chain(&error);
                return tracing::debug!(
                    replica = self.url,
                    "cannot look for uploads that were broken off: {error}"
                );
            }
        };
        let now = Moment::now().0;
        let mut gone = 0;
        for upload in reply.uploads().iter().filter(|upload| self.is_left_over(upload, now)) {
            let request = self.client.abort_multipart_upload().bucket(&self.bucket);
            let request = request.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone());
            gone += u32::from(request.send().await.is_ok());
        }
        if gone > 0 {
            tracing::info!(replica = self.url, "removed {gone} uploads that an earlier run left unfinished");
        }
    }

    fn is_left_over(&self, upload: &MultipartUpload, now_ms: i64) -> bool {
        let begun = upload.initiated().and_then(|begun| begun.to_millis().ok());
        match (upload.key(), begun) {
            (Some(key), Some(begun_ms)) => is_left_over(key, &self.root, begun_ms, now_ms),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_uploads_of_this_replica_are_left_over() {
        const LTX: &str = "0009/0000000000000001-0000000000000002.ltx";
        let day = 24 * 3600 * 1000;
        for (key, begun, now, expected) in [
            (format!("app/{LTX}"), 0, day + 1, true),
            (format!("app/{LTX}"), 0, day, false),
            (format!("app/{LTX}"), day, 0, false),
            (format!("app/x/{LTX}"), 0, 9 * day, false),
            (format!("app2/{LTX}"), 0, 9 * day, false),
            ("app/backup.tar".to_owned(), 0, 9 * day, false),
        ] {
            assert_eq!(is_left_over(&key, "app/", begun, now), expected, "{key} {begun} {now}");
        }
    }
}
