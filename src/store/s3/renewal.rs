//! Sends a request a second time, with new keys, if the store refused the old ones and they can be renewed.
//! The code of the answer decides. Callers repeat everything else.

use super::cause;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation as op;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Renewal {
    /// Shared with `keys`. None: the keys are in the configuration and do not change.
    refused: Option<Arc<AtomicBool>>,
}

impl Renewal {
    pub(super) fn new(refused: Option<Arc<AtomicBool>>) -> Renewal {
        Renewal { refused }
    }
}

impl ClassifyRetry for Renewal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|outcome| outcome.err());
        let code = error.and_then(|error| error.as_operation_error()).and_then(|error| code(error));
        let status = context.response().map_or(0, |response| response.status().as_u16());
        match &self.refused {
            Some(refused) if refuses_keys(status, code) => {
                refused.store(true, Ordering::Relaxed);
                RetryAction::client_error()
            }
            _ => RetryAction::RetryForbidden,
        }
    }

    fn name(&self) -> &'static str {
        "litevisor's renewal of keys"
    }
}

/// Answers that other keys may change. A HEAD has no code.
fn refuses_keys(status: u16, code: Option<&str>) -> bool {
    match code {
        Some("InvalidAccessKeyId" | "SignatureDoesNotMatch") => true,
        Some(code) if cause::has_expired(code) => true,
        None => matches!(status, 401 | 403),
        Some(_) => false,
    }
}

/// The code of whichever operation failed: the SDK has erased its type here.
fn code<'a>(error: &'a (dyn Error + Send + Sync + 'static)) -> Option<&'a str> {
    fn of<'a, E>(error: &'a (dyn Error + Send + Sync + 'static)) -> Option<&'a str>
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        error.downcast_ref::<E>()?.code()
    }
    None.or_else(|| of::<op::put_object::PutObjectError>(error))
        .or_else(|| of::<op::get_object::GetObjectError>(error))
        .or_else(|| of::<op::list_objects_v2::ListObjectsV2Error>(error))
        .or_else(|| of::<op::delete_objects::DeleteObjectsError>(error))
        .or_else(|| of::<op::delete_object::DeleteObjectError>(error))
        .or_else(|| of::<op::create_multipart_upload::CreateMultipartUploadError>(error))
        .or_else(|| of::<op::upload_part::UploadPartError>(error))
        .or_else(|| of::<op::complete_multipart_upload::CompleteMultipartUploadError>(error))
        .or_else(|| of::<op::abort_multipart_upload::AbortMultipartUploadError>(error))
        .or_else(|| of::<op::list_multipart_uploads::ListMultipartUploadsError>(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_keys_themselves_is_answered_with_new_ones() {
        for (status, code, expected) in [
            (400, Some("ExpiredToken"), true),
            (403, Some("ExpiredToken"), true),
            (403, Some("InvalidAccessKeyId"), true),
            (403, Some("SignatureDoesNotMatch"), true),
            (403, None, true),
            (401, None, true),
            (403, Some("AccessDenied"), false),
            (404, None, false),
            (412, Some("PreconditionFailed"), false),
            (503, Some("SlowDown"), false),
            (500, None, false),
        ] {
            assert_eq!(refuses_keys(status, code), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn the_code_is_found_whatever_was_asked() {
        use aws_sdk_s3::error::ErrorMetadata;
        let meta = || ErrorMetadata::builder().code("ExpiredToken").build();
        let put: Box<dyn Error + Send + Sync> = Box::new(op::put_object::PutObjectError::generic(meta()));
        let list: Box<dyn Error + Send + Sync> =
            Box::new(op::list_objects_v2::ListObjectsV2Error::generic(meta()));
        let other: Box<dyn Error + Send + Sync> = Box::new(std::io::Error::other("x"));
        assert_eq!(code(put.as_ref()), Some("ExpiredToken"));
        assert_eq!(code(list.as_ref()), Some("ExpiredToken"));
        assert_eq!(code(other.as_ref()), None);
    }
}
