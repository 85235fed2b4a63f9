//! The keys of s3:// replicas, and what the environment adds.

use super::{Reading, ReplicaSection, either};
use crate::config::document::Document;
use crate::config::url::with_scheme;
use crate::model::Secret;
use crate::store::{KeyFiles, StoreSettings};

/// What S3 replicas are commonly given through the environment.
pub const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LITESTREAM_ACCESS_KEY_ID",
    "LITESTREAM_SECRET_ACCESS_KEY",
];

pub fn read(section: &ReplicaSection, reading: &mut Reading<'_>) {
    let document = reading.document;
    let in_url = &reading.store.s3;
    document.refuse_twice(&section.region, in_url.region.is_some());
    document.refuse_twice(&section.force_path_style, in_url.force_path_style.is_some());
    document.refuse_twice(&section.storage_class, in_url.storage_class.is_some());
    document.refuse_twice(&section.sse_kms_key_id, in_url.sse_kms_key_id.is_some());
    document.refuse_twice(&section.sse_c_key, in_url.sse_c_key.is_some());
    document.refuse_twice(&section.sse_c_key_file, in_url.sse_c_key.is_some());
    check_pairs(section, document);
    let id = reading.secret(&section.access_key_id, &section.access_key_id_file).secret;
    let secret = reading.secret(&section.secret_access_key, &section.secret_access_key_file).secret;
    let token = reading.secret(&section.session_token, &section.session_token_file).secret;
    let sse_c_key = reading.secret(&section.sse_c_key, &section.sse_c_key_file).secret;
    let s3 = &mut reading.store.s3;
    s3.region = section.region.value.clone().or(s3.region.take());
    s3.force_path_style = section.force_path_style.value.or(s3.force_path_style);
    s3.access_key_id = id.map(|id| id.reveal().to_owned());
    (s3.secret_access_key, s3.session_token) = (secret, token);
    s3.sse_c_key = sse_c_key.or(s3.sse_c_key.take());
    s3.key_files = KeyFiles {
        access_key_id: document.path(&section.access_key_id_file),
        secret_access_key: document.path(&section.secret_access_key_file),
        session_token: document.path(&section.session_token_file),
    };
    s3.profile = section.profile.value.clone();
    s3.storage_class = section.storage_class.value.clone().or(s3.storage_class.take());
    s3.sse_kms_key_id = section.sse_kms_key_id.value.clone().or(s3.sse_kms_key_id.take());
}

fn check_pairs(section: &ReplicaSection, document: &Document<'_>) {
    let id = either(&section.access_key_id, &section.access_key_id_file);
    let secret = either(&section.secret_access_key, &section.secret_access_key_file);
    let token = either(&section.session_token, &section.session_token_file);
    let pairs = [
        (id, secret, "secret_access_key"),
        (secret, id, "access_key_id"),
        (token, secret, "secret_access_key"),
    ];
    for (key, partner, name) in pairs {
        if let (Some(location), None) = (key, partner) {
            document.complain(location, format!("needs {name} beside it"));
        }
    }
    if id.is_some() {
        let message = "cannot be given together with access_key_id: keep one of the two";
        document.complain_if_written(&section.profile, message);
    }
}

/// The endpoint from the variables that the AWS tools read, the keys from Litestream's, where it looks at
/// them: below the AWS variables (which the SDK reads itself).
pub fn from_environment(store: &mut StoreSettings, env: &dyn Fn(&str) -> Option<String>) {
    let litestreams = || env("LITESTREAM_S3_ENDPOINT").map(|endpoint| with_scheme(&endpoint));
    let endpoint = || env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL")).or_else(litestreams);
    store.endpoint = store.endpoint.take().or_else(endpoint);
    if store.s3.access_key_id.is_some() || store.s3.profile.is_some() || env("AWS_ACCESS_KEY_ID").is_some() {
        return;
    }
    if let (Some(id), Some(secret)) = (env("LITESTREAM_ACCESS_KEY_ID"), env("LITESTREAM_SECRET_ACCESS_KEY")) {
        store.s3.access_key_id = Some(id);
        store.s3.secret_access_key = Some(Secret::new(secret));
    }
}
