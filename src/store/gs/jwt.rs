//! The signed request of a service account for a token. Pure except for the random numbers of the signature.

use crate::model::Secret;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Serialize;

/// Allows to read, write and delete objects, but not to change permissions.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// The longest that Google gives, in seconds.
const LIFE: u64 = 3600;

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// `now`: seconds since the Unix epoch. The error is the rest of a sentence about the file that the key is
/// from.
pub(super) fn signed(
    email: &str,
    key_id: Option<&str>,
    key: &Secret,
    url: &str,
    now: u64,
) -> Result<Secret, String> {
    let header = Header { alg: "RS256", typ: "JWT", kid: key_id };
    let claims = Claims { iss: email, scope: SCOPE, aud: url, iat: now, exp: now.saturating_add(LIFE) };
    let text = format!("{}.{}", part(&header)?, part(&claims)?);
    let unusable = || "holds a private key that cannot be used: download the key again".to_owned();
    let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| unusable())?;
    let key = any_supported_type(&key).map_err(|_| unusable())?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(unusable)?;
    let signature = signer.sign(text.as_bytes()).map_err(|_| unusable())?;
    Ok(Secret::new(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))))
}

fn part(content: &impl Serialize) -> Result<String, String> {
    serde_json::to_vec(content)
        .map(|json| BASE64_URL_SAFE_NO_PAD.encode(json))
        .map_err(|error| error.to_string())
}
