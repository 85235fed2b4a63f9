//! The keys of s3:// replicas, and what the environment adds.

use super::{Reading, given};
use crate::config::section::Section;
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

pub fn read(section: &mut Section<'_, '_>, reading: &mut Reading<'_>) {
    let in_url = &reading.store.s3;
    for (key, twice) in [("region", in_url.region.is_some()), ("force_path_style", in_url.force_path_style.is_some())] {
        if let (true, Some(place)) = (twice, section.written(key)) {
            section.complain(&place, "is given in the url too: keep one of the two");
        }
    }
    let region = section.text("region").map(|at| at.value.text);
    let forced = section.flag("force_path_style");
    complain_of_pairs(section);
    let id = reading.secret(section, "access_key_id").map(|secret| secret.reveal().to_owned());
    let secret = reading.secret(section, "secret_access_key");
    let token = reading.secret(section, "session_token");
    let sse_c_key = reading.secret(section, "sse_c_key");
    let key_files = KeyFiles {
        access_key_id: reading.file(section, "access_key_id_file"),
        secret_access_key: reading.file(section, "secret_access_key_file"),
        session_token: reading.file(section, "session_token_file"),
    };
    let mut text = |key: &str| section.text(key).map(|at| at.value.text);
    let s3 = &mut reading.store.s3;
    s3.region = region.or(s3.region.take());
    s3.force_path_style = forced.or(s3.force_path_style);
    (s3.access_key_id, s3.secret_access_key, s3.session_token, s3.sse_c_key) = (id, secret, token, sse_c_key);
    s3.key_files = key_files;
    (s3.profile, s3.storage_class, s3.sse_kms_key_id) =
        (text("profile"), text("storage_class"), text("sse_kms_key_id"));
}

fn complain_of_pairs(section: &Section<'_, '_>) {
    let pairs = [
        ("access_key_id", "secret_access_key"),
        ("secret_access_key", "access_key_id"),
        ("session_token", "secret_access_key"),
    ];
    for (one, other) in pairs {
        if let (Some(place), None) = (given(section, one), given(section, other)) {
            section.complain(&place, format!("needs {other} beside it"));
        }
    }
    if let (Some(place), Some(_)) = (section.written("profile"), given(section, "access_key_id")) {
        section.complain(&place, "cannot be given together with access_key_id: keep one of the two");
    }
}

/// The endpoint from the variables that the AWS tools read, the keys from Litestream's, where it looks at them: below the
/// AWS variables (which the SDK reads itself).
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
