//! What the environment adds to gs:// replicas.

use crate::store::StoreSettings;
use std::path::PathBuf;

/// What gs:// replicas are commonly given through the environment.
pub const CREDENTIALS: [&str; 1] = ["GOOGLE_APPLICATION_CREDENTIALS"];

/// The emulator, the account's file and the metadata server, from the variables that Google's tools read.
pub fn from_environment(store: &mut StoreSettings, env: &dyn Fn(&str) -> Option<String>) {
    let emulator = || {
        let host = env("STORAGE_EMULATOR_HOST")?;
        Some(if host.contains("://") { host } else { format!("http://{host}") })
    };
    store.endpoint = store.endpoint.take().or_else(emulator);
    let file = || env("GOOGLE_APPLICATION_CREDENTIALS").map(Into::into);
    store.gs.credentials_file = store.gs.credentials_file.take().or_else(file);
    let directory = || env("HOME").map(|home| PathBuf::from(home).join(".config/gcloud"));
    let directory = env("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(directory);
    store.gs.default_file = directory.map(|directory| directory.join("application_default_credentials.json"));
    store.gs.metadata_host = env("GCE_METADATA_HOST");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Scheme;

    fn with(written: StoreSettings, variables: &[(&str, &str)]) -> StoreSettings {
        let env = |name: &str| Some(variables.iter().find(|(is, _)| *is == name)?.1.to_owned());
        let mut store = written;
        from_environment(&mut store, &env);
        store
    }

    #[test]
    fn googles_variables_fill_what_is_not_written() {
        let bare = || StoreSettings::new(Scheme::Gs, "gs://b".into(), "b".into(), String::new());
        for (value, endpoint) in [("fake:4443", "http://fake:4443"), ("https://fake", "https://fake")] {
            assert_eq!(with(bare(), &[("STORAGE_EMULATOR_HOST", value)]).endpoint.as_deref(), Some(endpoint));
        }
        let store =
            with(bare(), &[("GOOGLE_APPLICATION_CREDENTIALS", "/key.json"), ("GCE_METADATA_HOST", "h:80")]);
        assert_eq!(store.gs.credentials_file, Some("/key.json".into()));
        assert_eq!(store.gs.metadata_host.as_deref(), Some("h:80"));
        assert_eq!((store.endpoint, store.gs.default_file), (None, None));
        let name = "application_default_credentials.json";
        let home = with(bare(), &[("HOME", "/home/a")]).gs.default_file;
        assert_eq!(home, Some(PathBuf::from("/home/a/.config/gcloud").join(name)));
        let moved = with(bare(), &[("HOME", "/home/a"), ("CLOUDSDK_CONFIG", "/g")]).gs.default_file;
        assert_eq!(moved, Some(PathBuf::from("/g").join(name)));
        let mut written = StoreSettings { endpoint: Some("http://mine".into()), ..bare() };
        written.gs.credentials_file = Some("/mine.json".into());
        let both = [("STORAGE_EMULATOR_HOST", "fake"), ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")];
        let store = with(written, &both);
        assert_eq!(
            (store.endpoint.as_deref(), store.gs.credentials_file),
            (Some("http://mine"), Some("/mine.json".into()))
        );
    }
}
