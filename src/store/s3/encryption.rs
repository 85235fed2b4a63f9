//! Server-side encryption: KMS for what is written, the customer's own key (SSE-C) on every request that
//! touches content.

use crate::model::Secret;
use crate::store::StoreSettings;
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::builders::HeadObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_types::base64;
use md5::{Digest, Md5};

pub(super) struct Encryption {
    kms_key_id: Option<String>,
    customer: Option<CustomerKey>,
}

struct CustomerKey {
    /// The 256-bit key in base64, as the header wants it.
    key: Secret,
    md5: String,
}

impl Encryption {
    pub(super) fn new(settings: &StoreSettings) -> Result<Encryption, String> {
        let customer = settings.s3.sse_c_key.as_ref().map(CustomerKey::new).transpose()?;
        if customer.is_some() && settings.s3.sse_kms_key_id.is_some() {
            return Err("sse_kms_key_id and the SSE-C key exclude each other: give one".to_owned());
        }
        Ok(Encryption { kms_key_id: settings.s3.sse_kms_key_id.clone(), customer })
    }

    pub(super) fn writing(&self, request: PutObjectFluentBuilder) -> PutObjectFluentBuilder {
        request
            .set_server_side_encryption(self.kms())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    pub(super) fn starting(
        &self,
        request: CreateMultipartUploadFluentBuilder,
    ) -> CreateMultipartUploadFluentBuilder {
        request
            .set_server_side_encryption(self.kms())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    pub(super) fn sending(&self, request: UploadPartFluentBuilder) -> UploadPartFluentBuilder {
        request
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    pub(super) fn completing(
        &self,
        request: CompleteMultipartUploadFluentBuilder,
    ) -> CompleteMultipartUploadFluentBuilder {
        request
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    pub(super) fn reading(&self, request: GetObjectFluentBuilder) -> GetObjectFluentBuilder {
        request
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    pub(super) fn asking(&self, request: HeadObjectFluentBuilder) -> HeadObjectFluentBuilder {
        request
            .set_sse_customer_algorithm(self.algorithm())
            .set_sse_customer_key(self.key())
            .set_sse_customer_key_md5(self.md5())
    }

    fn kms(&self) -> Option<ServerSideEncryption> {
        self.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    fn algorithm(&self) -> Option<String> {
        self.customer.as_ref().map(|_| "AES256".to_owned())
    }

    fn key(&self) -> Option<String> {
        self.customer.as_ref().map(|customer| customer.key.reveal().to_owned())
    }

    fn md5(&self) -> Option<String> {
        self.customer.as_ref().map(|customer| customer.md5.clone())
    }
}

impl CustomerKey {
    fn new(configured: &Secret) -> Result<CustomerKey, String> {
        match base64::decode(configured.reveal().trim()) {
            Ok(raw) if raw.len() == 32 => Ok(CustomerKey {
                key: Secret::new(base64::encode(&raw)),
                md5: base64::encode(Md5::digest(&raw)),
            }),
            _ => Err("the SSE-C key must be 32 bytes in base64, as `openssl rand -base64 32` prints them"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customers_key_is_checked_and_digested() {
        let good = CustomerKey::new(&Secret::new(format!("{}\n", base64::encode([7u8; 32])))).ok().unwrap();
        assert_eq!(good.key.reveal(), base64::encode([7u8; 32]));
        assert_eq!(good.md5, base64::encode(Md5::digest([7u8; 32])));
        for bad in ["", "no base64!", "c2hvcnQ="] {
            assert!(CustomerKey::new(&Secret::new(bad)).is_err(), "{bad}");
        }
    }
}
