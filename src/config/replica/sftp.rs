//! The keys of sftp:// replicas.

use super::Reading;
use crate::config::section::Section;

pub fn read(section: &mut Section<'_, '_>, reading: &mut Reading<'_>) {
    let password = reading.secret(section, "password");
    let key_file = reading.file(section, "key_file");
    let host_key = section.text("host_key").map(|at| at.value.text);
    let known_hosts_file = reading.file(section, "known_hosts_file");
    let sftp = &mut reading.store.sftp;
    (sftp.password, sftp.key_file, sftp.host_key, sftp.known_hosts_file) =
        (password, key_file, host_key, known_hosts_file);
}
