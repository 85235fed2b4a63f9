//! The keys of abs:// replicas, and what the environment adds.

use super::{Reading, given};
use crate::config::section::Section;
use crate::model::Secret;
use crate::store::StoreSettings;

/// What abs:// replicas are commonly given through the environment.
pub const CREDENTIALS: [&str; 4] =
    ["AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET", "LITESTREAM_AZURE_ACCOUNT_KEY"];

pub fn read(section: &mut Section<'_, '_>, reading: &mut Reading<'_>) {
    if let (Some(place), Some(_)) = (given(section, "sas_token"), given(section, "account_key")) {
        section.complain(&place, "cannot be given together with account_key: keep one of the two");
    }
    let (key, sas) = (reading.secret(section, "account_key"), reading.secret(section, "sas_token"));
    (reading.store.abs.account_key, reading.store.abs.sas_token) = (key, sas);
}

/// Account and keys from the variables that Azure's tools and Litestream read.
pub fn from_environment(store: &mut StoreSettings, env: &dyn Fn(&str) -> Option<String>) {
    let abs = &mut store.abs;
    if abs.account.is_empty() {
        abs.account = env("AZURE_STORAGE_ACCOUNT").or_else(|| env("LITESTREAM_AZURE_ACCOUNT_NAME")).unwrap_or_default();
    }
    if abs.account_key.is_none() && abs.sas_token.is_none() {
        let key = env("LITESTREAM_AZURE_ACCOUNT_KEY").or_else(|| env("AZURE_STORAGE_KEY"));
        abs.account_key = key.map(Secret::new);
    }
    if abs.account_key.is_none() && abs.sas_token.is_none() {
        abs.sas_token = env("AZURE_STORAGE_SAS_TOKEN").map(Secret::new);
    }
}
