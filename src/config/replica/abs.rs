//! The keys of abs:// replicas, and what the environment adds.

use super::{Reading, ReplicaSection, either};
use crate::model::Secret;
use crate::store::StoreSettings;

/// What abs:// replicas are commonly given through the environment.
pub const CREDENTIALS: [&str; 5] = [
    "LITESTREAM_AZURE_SAS_TOKEN",
    "LITESTREAM_AZURE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_CLIENT_SECRET",
];

pub fn read(section: &ReplicaSection, reading: &mut Reading<'_>) {
    let key = either(&section.account_key, &section.account_key_file);
    if let (Some(location), Some(_)) = (either(&section.sas_token, &section.sas_token_file), key) {
        reading.document.complain(location, "cannot be given together with account_key: keep one of the two");
    }
    let key = reading.secret(&section.account_key, &section.account_key_file);
    let sas = reading.secret(&section.sas_token, &section.sas_token_file);
    let abs = &mut reading.store.abs;
    (abs.account_key, abs.account_key_file) = (key.secret, key.file);
    (abs.sas_token, abs.sas_token_file) = (sas.secret, sas.file);
}

/// Account and credentials from the variables that Litestream and Azure's tools read, Litestream's first; of
/// the two credentials the narrower one first, as Litestream has it.
pub fn from_environment(store: &mut StoreSettings, env: &dyn Fn(&str) -> Option<String>) {
    let abs = &mut store.abs;
    if abs.account.is_empty() {
        abs.account =
            env("LITESTREAM_AZURE_ACCOUNT_NAME").or_else(|| env("AZURE_STORAGE_ACCOUNT")).unwrap_or_default();
    }
    if abs.account_key.is_some() || abs.sas_token.is_some() {
        return;
    }
    for (sas, key) in [
        ("LITESTREAM_AZURE_SAS_TOKEN", "LITESTREAM_AZURE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_KEY"),
    ] {
        if let Some(sas) = env(sas) {
            abs.sas_token = Some(Secret::new(sas));
            return;
        }
        if let Some(key) = env(key) {
            abs.account_key = Some(Secret::new(key));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;
    use std::path::Path;

    /// A replica with `keys`, where every file holds a key.
    fn read_with(keys: &str) -> Result<StoreSettings, String> {
        let read = |_: &Path| Ok(b"aHVzaA==\n".to_vec());
        let environment = Environment { variable: &|_| None, read: &read, working_dir: Path::new("/srv") };
        let text =
            format!("[[database]]\npath = \"/d\"\n[database.replica]\nurl = \"abs://acme@c/p\"\n{keys}\n");
        let additions = crate::config::Additions::default();
        let file = Some((text.as_str(), Path::new("s.toml")));
        let checked = crate::config::parse(file, &additions, crate::config::Purpose::Check, environment);
        let mut databases = checked.map_err(|error| error.to_string())?.config.databases;
        Ok(databases.remove(0).replica)
    }

    #[test]
    fn a_secret_remembers_its_file() {
        let abs = read_with("account_key_file = \"key\"").unwrap().abs;
        assert_eq!(
            (abs.account_key, abs.account_key_file),
            (Some(Secret::new("aHVzaA==")), Some("/srv/key".into()))
        );
        assert_eq!((abs.sas_token, abs.sas_token_file), (None, None));
        let abs = read_with("sas_token = \"sig=x\"").unwrap().abs;
        assert_eq!((abs.sas_token, abs.sas_token_file), (Some(Secret::new("sig=x")), None));
        let told = read_with("account_name = \"acme\"").unwrap_err();
        assert!(told.contains("abs://ACCOUNT@container"), "{told}");
        let told = read_with("account_key = \"x\"\nsas_token_file = \"sas\"").unwrap_err();
        assert!(told.contains("keep one of the two"), "{told}");
    }

    #[test]
    fn the_environment_fills_what_is_open() {
        type Given = (&'static str, &'static str);
        let all: [Given; 6] = [
            ("LITESTREAM_AZURE_ACCOUNT_NAME", "ls"),
            ("AZURE_STORAGE_ACCOUNT", "az"),
            ("LITESTREAM_AZURE_SAS_TOKEN", "ls-sas"),
            ("LITESTREAM_AZURE_ACCOUNT_KEY", "ls-key"),
            ("AZURE_STORAGE_SAS_TOKEN", "az-sas"),
            ("AZURE_STORAGE_KEY", "az-key"),
        ];
        for (variables, account, key, sas) in [
            (&all[..], "ls", None, Some("ls-sas")),
            (&all[3..], "", Some("ls-key"), None),
            (&all[4..], "", None, Some("az-sas")),
            (&all[5..], "", Some("az-key"), None),
            (&all[1..2], "az", None, None),
        ] {
            let env = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            let mut store = StoreSettings::default();
            from_environment(&mut store, &env);
            let shown = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
            let found =
                (store.abs.account.as_str(), shown(&store.abs.account_key), shown(&store.abs.sas_token));
            assert_eq!(found, (account, key.map(str::to_owned), sas.map(str::to_owned)), "{variables:?}");
        }
        let mut store = StoreSettings::default();
        (store.abs.account, store.abs.account_key) = ("mine".to_owned(), Some(Secret::new("mine")));
        let before = store.clone();
        from_environment(&mut store, &|_| Some("other".to_owned()));
        assert_eq!(store, before, "what is configured stays");
    }
}
