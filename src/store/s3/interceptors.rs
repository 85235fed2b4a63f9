//! What happens to every request and reply of the SDK's client: headers that a provider spells differently,
//! before the request is signed; the time that the reply names.

use super::provider::{Rules, Spelling};
use crate::store::StoreClock;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct SpellHeaders {
    spelling: Spelling,
    asks_leader: bool,
}

impl SpellHeaders {
    pub(super) fn new(rules: &Rules) -> SpellHeaders {
        SpellHeaders { spelling: rules.spelling, asks_leader: rules.asks_leader }
    }
}

impl Intercept for SpellHeaders {
    fn name(&self) -> &'static str {
        "litevisor's headers"
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

/// Reads the time of each reply.
#[derive(Debug)]
pub(super) struct ReadClock(pub Arc<StoreClock>);

impl Intercept for ReadClock {
    fn name(&self) -> &'static str {
        "litevisor's clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.record(context.response().headers().get("date"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider;
    use super::*;
    use crate::store::plain_http_client;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use std::io::{Read, Write};

    /// The head of a conditional put, as it goes over the wire to a provider.
    async fn sent_to(endpoint: &str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 8192];
            let length = stream.read(&mut buffer).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(buffer.get(..length).unwrap()).to_lowercase()
        });
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("auto"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .http_client(plain_http_client().await.unwrap())
            .endpoint_url(format!("http://{address}"))
            .force_path_style(true)
            .interceptor(SpellHeaders::new(&provider::rules(Some(endpoint), "b")))
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        client.put_object().bucket("b").key("k").if_none_match("*").send().await.unwrap();
        received.join().unwrap()
    }

    #[tokio::test]
    async fn conditions_are_spelled_as_the_provider_reads_them_and_signed() {
        let google = sent_to("https://storage.googleapis.com").await;
        assert!(google.contains("x-goog-if-generation-match: 0"), "{google}");
        assert!(!google.contains("if-none-match"), "{google}");
        let signed = google.split("signedheaders=").nth(1).unwrap();
        assert!(signed.contains("x-goog-if-generation-match"), "{google}");
        let plain = sent_to("http://minio:9000").await;
        assert!(plain.contains("if-none-match: *") && !plain.contains("x-goog"), "{plain}");
        assert!(!plain.contains("x-tigris"), "{plain}");
        let tigris = sent_to("https://fly.storage.tigris.dev").await;
        assert!(
            tigris.contains("x-tigris-consistent: true") && tigris.contains("if-none-match: *"),
            "{tigris}"
        );
    }
}
