//! The credential that requests are signed with: a key, a signature (SAS) or a token. A key or signature from
//! a file is read again when it is refused; object_store fetches tokens and renews them.

use super::identity::{Identity, Watched};
use crate::model::Secret;
use crate::store::StoreErrorKind::{self, Denied};
use crate::store::{AbsSettings, StoreSettings};
use object_store::azure::{AzureAccessKey, AzureCredential, split_sas};
use object_store::client::CredentialProvider;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

type Provider = Arc<dyn CredentialProvider<Credential = AzureCredential>>;

pub(super) enum Credentials {
    Given(Given),
    Token { identity: Identity, provider: Provider, watched: Watched },
}

/// A key or a signature from the configuration.
pub(super) struct Given {
    form: Form,
    file: Option<PathBuf>,
    held: Mutex<Arc<AzureCredential>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Key,
    Sas,
}

/// What can be seen to be wrong without sending anything. The error is a text for the user.
pub(super) fn check(settings: &StoreSettings) -> Result<(), String> {
    let abs = &settings.abs;
    if abs.account_key.is_some() && abs.sas_token.is_some() {
        return Err("account_key and sas_token exclude each other: keep one of the two".to_owned());
    }
    given(abs).map_or(Ok(()), |(form, secret, _)| form.read(secret.reveal()).map(drop))
}

fn given(abs: &AbsSettings) -> Option<(Form, &Secret, Option<&PathBuf>)> {
    let key = abs.account_key.as_ref().map(|key| (Form::Key, key, abs.account_key_file.as_ref()));
    key.or_else(|| abs.sas_token.as_ref().map(|sas| (Form::Sas, sas, abs.sas_token_file.as_ref())))
}

impl Form {
    fn read(self, text: &str) -> Result<AzureCredential, String> {
        let text = text.trim();
        match self {
            Form::Key => AzureAccessKey::try_new(text).map(AzureCredential::AccessKey).map_err(|_| {
                "account_key is no key of a storage account: it is not Base64; copy it again".to_owned()
            }),
            Form::Sas if text.contains("://") => {
                Err("sas_token is a whole URL: give only what follows its question mark".to_owned())
            }
            Form::Sas => match split_sas(text) {
                Ok(pairs) if pairs.iter().any(|(name, _)| name == "sig") => {
                    Ok(AzureCredential::SASToken(pairs))
                }
                _ => Err("sas_token is no shared access signature: it looks like sv=…&se=…&sp=racwdl&sig=…"
                    .to_owned()),
            },
        }
    }
}

impl Credentials {
    /// None of the settings: the identity that the environment names.
    pub(super) fn of(abs: &AbsSettings, client: &reqwest::Client) -> Result<Credentials, String> {
        let Some((form, secret, file)) = given(abs) else {
            let identity = Identity::named_by(&|name| std::env::var(name).ok())?;
            let watched = Watched::new(client.clone());
            let provider = identity.provider(&watched)?;
            return Ok(Credentials::Token { identity, provider, watched });
        };
        let credential = Arc::new(form.read(secret.reveal())?);
        Ok(Credentials::Given(Given { form, file: file.cloned(), held: Mutex::new(credential) }))
    }

    /// Whether anything of it may need https.
    pub(super) fn is_plain(abs: &AbsSettings) -> bool {
        given(abs).is_some()
            || Identity::named_by(&|name| std::env::var(name).ok()).is_ok_and(|found| found.is_plain())
    }

    /// The error is its kind and a text for the user.
    pub(super) async fn current(&self) -> Result<Arc<AzureCredential>, (StoreErrorKind, String)> {
        match self {
            Credentials::Given(given) => Ok(given.current().await),
            Credentials::Token { identity, provider, watched } => match provider.get_credential().await {
                Ok(credential) => match credential.as_ref() {
                    // The library panics on what cannot stand in a header.
                    AzureCredential::BearerToken(token)
                        if !token.bytes().all(|byte| byte.is_ascii_graphic()) =>
                    {
                        Err((Denied, format!("{identity} handed out what is no token")))
                    }
                    _ => Ok(credential),
                },
                Err(error) => Err(identity.explain(&error, watched.status())),
            },
        }
    }

    /// What to try in place of one that was refused: what its file holds by now.
    pub(super) async fn instead_of(&self, refused: &AzureCredential) -> Option<Arc<AzureCredential>> {
        match self {
            Credentials::Given(given) => given.instead_of(refused).await,
            Credentials::Token { .. } => None,
        }
    }
}

impl Given {
    async fn current(&self) -> Arc<AzureCredential> {
        Arc::clone(&*self.held.lock().await)
    }

    async fn instead_of(&self, refused: &AzureCredential) -> Option<Arc<AzureCredential>> {
        let mut held = self.held.lock().await;
        if **held == *refused {
            let text = read(self.file.as_deref()?).await?;
            *held = Arc::new(self.form.read(&text).ok()?);
        }
        (**held != *refused).then(|| Arc::clone(&held))
    }
}

async fn read(file: &Path) -> Option<String> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || std::fs::read_to_string(file).ok()).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Scheme;

    fn settings(key: Option<&str>, sas: Option<&str>) -> StoreSettings {
        let abs = AbsSettings {
            account_key: key.map(Secret::new),
            sas_token: sas.map(Secret::new),
            ..AbsSettings::default()
        };
        StoreSettings { abs, ..StoreSettings::new(Scheme::Abs, String::new(), "c".into(), String::new()) }
    }

    #[test]
    fn what_cannot_be_a_credential_is_refused_and_not_repeated() {
        for (key, sas, part) in [
            (Some("hush!"), None, "account_key is no key"),
            (None, Some("https://a.blob.core.windows.net/c?sig=hush"), "a whole URL"),
            (None, Some("hush"), "sas_token is no shared access signature"),
            (None, Some("sv=hush&se=x"), "sas_token is no shared access signature"),
            (Some("aHVzaA=="), Some("sig=hush"), "exclude each other"),
        ] {
            let message = check(&settings(key, sas)).unwrap_err();
            assert!(message.contains(part) && !message.contains("hush"), "{message}");
        }
        for (key, sas) in [(Some("aHVzaA==\n"), None), (None, Some("?sv=1&sig=a%2Bb%3D")), (None, None)] {
            assert_eq!(check(&settings(key, sas)), Ok(()), "{key:?} {sas:?}");
        }
    }

    #[test]
    fn a_signature_is_sent_as_it_was_made() {
        let read = Form::Sas.read("?sv=2023-11-03&sig=a%2Bb%2F%3D&se=2030-01-01T00%3A00%3A00Z").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("sv", "2023-11-03"), pair("sig", "a+b/="), pair("se", "2030-01-01T00:00:00Z")];
        assert_eq!(read, AzureCredential::SASToken(expected.to_vec()));
    }

    #[tokio::test]
    async fn a_rotated_file_is_picked_up_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sas");
        let sas = |sig: &str| Form::Sas.read(&format!("sig={sig}")).unwrap();
        let given =
            Given { form: Form::Sas, file: Some(file.clone()), held: Mutex::new(Arc::new(sas("old"))) };
        for (content, refused, expected) in [
            (None, "old", None),
            (Some("sig=old\n"), "old", None),
            (Some("half of"), "old", None),
            (Some("sig=new\n"), "old", Some("new")),
            // Refused while another request had it renewed.
            (None, "old", Some("new")),
            (None, "new", None),
        ] {
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            let instead = given.instead_of(&sas(refused)).await;
            assert_eq!(instead.as_deref(), expected.map(sas).as_ref(), "{content:?} {refused}");
        }
        assert_eq!(*given.current().await, sas("new"));
    }
}
