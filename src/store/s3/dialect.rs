//! What a provider wants said differently, in the headers of every request before it is signed. Never: adds anything for
//! a provider that speaks plain S3.

use super::provider::{Rules, Spelling};
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

#[derive(Debug)]
pub(super) struct Dialect {
    spelling: Spelling,
    asks_leader: bool,
}

impl Dialect {
    pub(super) fn new(rules: &Rules) -> Dialect {
        Dialect { spelling: rules.spelling, asks_leader: rules.asks_leader }
    }
}

impl Intercept for Dialect {
    fn name(&self) -> &'static str {
        "litevisor's dialect"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        if self.spelling == Spelling::Generation && headers.remove("if-none-match").is_some() {
            headers.insert("x-goog-if-generation-match", "0");
        }
        if self.asks_leader {
            headers.insert("x-tigris-consistent", "true");
        }
        Ok(())
    }
}
