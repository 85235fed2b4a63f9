//! The keys of sftp:// replicas.

use super::{Reading, ReplicaSection, either};

pub fn read(section: &ReplicaSection, reading: &mut Reading<'_>) {
    let document = reading.document;
    if let (true, Some(location)) =
        (reading.store.sftp.password.is_some(), either(&section.password, &section.password_file))
    {
        document.complain(location, "is given in the url too: keep one of the two");
    }
    if let (Some(location), false) =
        (either(&section.key_passphrase, &section.key_passphrase_file), section.key_file.is_written())
    {
        document.complain(location, "needs key_file beside it");
    }
    if section.host_key.is_written() {
        let message = "cannot be given together with host_key: keep one of the two";
        document.complain_if_written(&section.known_hosts_file, message);
    }
    let password = reading.secret(&section.password, &section.password_file).secret;
    let key_passphrase = reading.secret(&section.key_passphrase, &section.key_passphrase_file).secret;
    let sftp = &mut reading.store.sftp;
    sftp.password = password.or(sftp.password.take());
    sftp.key_passphrase = key_passphrase;
    sftp.key_file = document.path(&section.key_file);
    sftp.host_key = section.host_key.value.clone();
    sftp.known_hosts_file = document.path(&section.known_hosts_file);
}
