//! The keys of sftp:// replicas.

use super::{Reading, given};
use crate::config::section::Section;

pub fn read(section: &mut Section<'_, '_>, reading: &mut Reading<'_>) {
    if let (true, Some(place)) = (reading.store.sftp.password.is_some(), given(section, "password")) {
        section.complain(&place, "is given in the url too: keep one of the two");
    }
    if let (Some(place), None) = (given(section, "key_passphrase"), section.written("key_file")) {
        section.complain(&place, "needs key_file beside it");
    }
    if let (Some(place), Some(_)) = (section.written("known_hosts_file"), section.written("host_key")) {
        section.complain(&place, "cannot be given together with host_key: keep one of the two");
    }
    let password = reading.secret(section, "password");
    let key_file = reading.file(section, "key_file");
    let key_passphrase = reading.secret(section, "key_passphrase");
    let host_key = section.text("host_key").map(|at| at.value.text);
    let known_hosts_file = reading.file(section, "known_hosts_file");
    let sftp = &mut reading.store.sftp;
    sftp.password = password.or(sftp.password.take());
    (sftp.key_file, sftp.key_passphrase, sftp.host_key, sftp.known_hosts_file) =
        (key_file, key_passphrase, host_key, known_hosts_file);
}
