//! What litevisor logs in with: the private key and the password. Reads files, so it runs on the blocking
//! pool.

use crate::store::SftpSettings;
use russh::keys::{self, PrivateKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a login may be tried with. Read anew for each connection, so that a rotated key is picked up.
pub(super) struct Identity {
    pub key: Option<(PathBuf, Arc<PrivateKey>)>,
    pub password: Option<String>,
}

/// The names that ssh-keygen gives, in the order in which ssh tries them.
const USUAL: [&str; 3] = [".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"];

/// Blocks.
pub(super) fn load(settings: &SftpSettings, home: Option<&Path>) -> Result<Identity, String> {
    let password = settings.password.as_ref().map(|password| password.reveal().to_owned());
    let usual = || USUAL.iter().map(|name| home.map(|home| home.join(name)));
    let file = match &settings.key_file {
        Some(file) => Some(file.clone()),
        None if password.is_some() => None,
        None => usual().flatten().find(|file| file.exists()),
    };
    if file.is_none() && password.is_none() {
        return Err("there is nothing to log in with: give key_file or password".to_owned());
    }
    let passphrase = settings.key_passphrase.as_ref().map(|passphrase| passphrase.reveal());
    let key =
        file.map(|file| Ok::<_, String>((file.clone(), Arc::new(read(&file, passphrase)?)))).transpose()?;
    Ok(Identity { key, password })
}

fn read(file: &Path, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read key_file {}: {error}", file.display()))?;
    decode(&text, passphrase).map_err(|why| format!("cannot use key_file {}: {why}", file.display()))
}

fn decode(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    if !text.contains("PRIVATE KEY-----") && !text.starts_with("PuTTY-User-Key-File-") {
        return Err("it holds no private key (one begins with -----BEGIN … PRIVATE KEY-----)".to_owned());
    }
    let openssh = text.contains("BEGIN OPENSSH PRIVATE KEY");
    let encrypted = text.contains("ENCRYPTED");
    // The parsers of the other formats take a passphrase for a promise that the key is encrypted.
    let passphrase = passphrase.filter(|_| openssh || encrypted);
    keys::decode_secret_key(text, passphrase).map_err(|error| match error {
        keys::Error::KeyIsEncrypted => ENCRYPTED.to_owned(),
        _ if encrypted && passphrase.is_none() => ENCRYPTED.to_owned(),
        _ if passphrase.is_some() => {
            format!(
                "{error}; is key_passphrase right? `ssh-keygen -p -f FILE` rewrites a key in a format that \
                 is known"
            )
        }
        error => format!("{error}; `ssh-keygen -p -f FILE` rewrites a key in a format that is known"),
    })
}

const ENCRYPTED: &str = "it is encrypted: give key_passphrase (or key_passphrase_file), or a key without one";
