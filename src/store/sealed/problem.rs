//! Why an object of an encrypted replica cannot be read or written, and what the user can do.

use crate::store::{StoreError, StoreErrorKind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Keys are configured, and the object is not encrypted.
    Plain,
    /// No keys are configured, and the object is encrypted.
    Encrypted,
    /// Encrypted for so many recipients, of which none is ours.
    NoIdentity {
        recipients: usize,
    },
    Passphrase,
    Head(&'static str),
    /// The header's checksum is wrong.
    Mac,
    /// This chunk was changed, or is not where it was written.
    Chunk(u64),
    Truncated,
    /// The cipher or the source of random numbers failed.
    Cipher,
}

impl Problem {
    /// `names`: the recipients that the configured identities belong to.
    pub fn error(&self, subject: String, names: &str) -> StoreError {
        let detail = match self {
            Problem::Plain => {
                "it is not encrypted, but age_identities are configured; a replica is encrypted as a whole \
                 or not at all: copy it with `litevisor rekey`, begin a new replica under another path, or \
                 remove the age keys"
                    .to_owned()
            }
            Problem::Encrypted => {
                "it is encrypted with age, and no age_identities are configured: add the identity of one of \
                                   its recipients"
                    .to_owned()
            }
            Problem::NoIdentity { recipients } => format!(
                "it is encrypted for {recipients} recipients, and none of them is one of the age_identities \
                 (of {names}): add the identity that it was encrypted for; an identity that is no longer \
                 written for stays among age_identities as long as the replica has files for it"
            ),
            Problem::Passphrase => {
                "it is encrypted with a passphrase, which litevisor does not know: only X25519 recipients"
                    .to_owned()
            }
            Problem::Head(what) => format!("its age header is damaged: {what}"),
            Problem::Mac => "its age header was changed: the header's checksum is wrong".to_owned(),
            Problem::Chunk(index) => {
                format!("its encrypted content was changed: block {index} of 64 KiB is not what was written")
            }
            Problem::Truncated => "its encrypted content is cut short".to_owned(),
            Problem::Cipher => "the cipher, or the system's source of random numbers, failed".to_owned(),
        };
        StoreError::new(self.kind(), "read", subject, detail)
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Problem::Plain | Problem::Encrypted | Problem::NoIdentity { .. } | Problem::Passphrase => {
                StoreErrorKind::Key
            }
            Problem::Head(_) | Problem::Mac | Problem::Chunk(_) | Problem::Truncated => {
                StoreErrorKind::Damaged
            }
            Problem::Cipher => StoreErrorKind::Invalid,
        }
    }
}
