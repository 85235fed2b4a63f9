//! The keys of an encrypted replica: whom files are encrypted for, and what opens them. Key types and the
//! wrapping of a file's key are the `age` crate's; identities never reach a message, their public keys do.

use super::head::{FILE_KEY, Head};
use super::payload::{FileKey, random};
use super::problem::Problem;
use crate::store::AgeSettings;
use age::x25519::{Identity, Recipient};
use age::{Identity as _, Recipient as _};
use age_core::format::Stanza;
use age_core::secrecy::ExposeSecret;

/// Of each kind. Each identity is tried on each recipient of a file's header.
const MOST_KEYS: usize = 16;

pub struct Keys {
    identities: Vec<Identity>,
    recipients: Vec<Recipient>,
}

impl Keys {
    /// None: nothing is encrypted. The error is a text for the user.
    pub fn of(settings: &AgeSettings) -> Result<Option<Keys>, String> {
        let identities = match &settings.identities {
            Some(text) => {
                read(text.reveal(), "identity", "an X25519 identity (AGE-SECRET-KEY-1…, from `age-keygen`)")?
            }
            None if settings.recipients.is_some() => {
                return Err("age_recipients need age_identities beside them: litevisor reads what it has \
                    written, to restore, to merge, and to see whose the replica is"
                    .to_owned());
            }
            None => return Ok(None),
        };
        let recipients: Vec<Recipient> = match &settings.recipients {
            Some(text) => {
                read(text.reveal(), "recipient", "an X25519 recipient (age1…, from `age-keygen -y`)")?
            }
            None => identities.iter().map(Identity::to_public).collect(),
        };
        if !identities.iter().any(|identity| recipients.contains(&identity.to_public())) {
            return Err(format!(
                "none of the age_identities belongs to one of the age_recipients: litevisor could not read \
                 what it writes. The identities' recipients: {}",
                names(&identities)
            ));
        }
        Ok(Some(Keys { identities, recipients }))
    }

    /// The recipients that the identities belong to: public, for messages.
    pub fn names(&self) -> String {
        names(&self.identities)
    }

    /// A new file's key, and what its header says of it to each recipient.
    pub fn wrap(&self) -> Result<(FileKey, Vec<Stanza>), Problem> {
        let file_key = random::<FILE_KEY>()?;
        let boxed = age_core::format::FileKey::new(Box::new(file_key));
        let mut stanzas = Vec::new();
        for recipient in &self.recipients {
            let (own, _) = recipient.wrap_file_key(&boxed).map_err(|_| Problem::Cipher)?;
            stanzas.extend(own);
        }
        Ok((FileKey(file_key), stanzas))
    }

    /// The key of the file with this header.
    pub fn unwrap(&self, head: &Head) -> Result<FileKey, Problem> {
        let found = self.identities.iter().flat_map(|identity| {
            head.stanzas.iter().filter_map(move |stanza| identity.unwrap_stanza(stanza)?.ok())
        });
        match { found }.next() {
            Some(file_key) => Ok(FileKey(*file_key.expose_secret())),
            None if head.stanzas.iter().any(|stanza| stanza.tag == "scrypt") => Err(Problem::Passphrase),
            None => Err(Problem::NoIdentity { recipients: head.stanzas.len() }),
        }
    }
}

fn names(identities: &[Identity]) -> String {
    let names: Vec<String> = identities.iter().map(|identity| identity.to_public().to_string()).collect();
    names.join(", ")
}

/// Words in any number of lines, as `age-keygen` writes them: what begins with `#` is a comment.
fn read<T: std::str::FromStr>(text: &str, what: &str, expected: &str) -> Result<Vec<T>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(|line| line.split([' ', '\t', ','])).filter(|word| !word.is_empty());
    let keys = words.enumerate().map(|(index, word)| {
        word.parse().map_err(|_| format!("age: {what} {} is not {expected}", index + 1))
    });
    let keys = keys.collect::<Result<Vec<T>, String>>()?;
    match keys.len() {
        0 => Err(format!("age: there is no {what}: expected is {expected}")),
        1..=MOST_KEYS => Ok(keys),
        more => Err(format!("age: there are {more} keys where at most {MOST_KEYS} may be ({what})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use crate::store::sealed::testing::{OTHER, SECRET};

    fn keys(identities: Option<&str>, recipients: Option<&str>) -> Result<Option<Keys>, String> {
        let recipients = recipients.map(Secret::new);
        Keys::of(&AgeSettings { identities: identities.map(Secret::new), recipients })
    }

    fn recipient(identity: &str) -> String {
        identity.parse::<Identity>().unwrap().to_public().to_string()
    }

    #[test]
    fn what_settings_mean() {
        let (own, other) = (recipient(SECRET), recipient(OTHER));
        assert!(keys(None, None).unwrap().is_none());
        let file = format!("# created: 2026\n# public key: {own}\n{SECRET}\n\n{OTHER}\n");
        let both = keys(Some(&file), None).unwrap().unwrap();
        assert_eq!((both.recipients.len(), both.names()), (2, format!("{own}, {other}")));
        let one = keys(Some(&file), Some(&own)).unwrap().unwrap();
        assert_eq!(one.recipients.len(), 1);
        let many = vec![SECRET; MOST_KEYS + 1].join("\n");
        for (identities, recipients, said) in [
            (None, Some(own.as_str()), "need age_identities beside them"),
            (Some(""), None, "there is no identity"),
            (Some("hunter2"), None, "identity 1 is not an X25519 identity"),
            (Some(own.as_str()), None, "identity 1 is not"),
            (Some(SECRET), Some("age1x"), "recipient 1 is not"),
            (Some(SECRET), Some(other.as_str()), "none of the age_identities belongs to"),
            (Some(many.as_str()), None, "at most 16"),
        ] {
            let told = keys(identities, recipients).map(|_| ()).unwrap_err();
            assert!(told.contains(said), "{told}");
            assert!(!told.contains("hunter2") && !told.contains("AGE-SECRET-KEY-1Q"), "{told}");
        }
    }
}
