//! Keys of the age tool.

use std::process::Command;

pub struct Key {
    pub identity: String,
    pub recipient: String,
}

pub fn key() -> Key {
    let output = Command::new("age-keygen").output().expect("age-keygen is missing: run tests/setup.sh");
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        |begin: &str| text.lines().find_map(|line| line.strip_prefix(begin).map(str::to_owned)).unwrap();
    Key { recipient: line("# public key: "), identity: format!("AGE-SECRET-KEY-{}", line("AGE-SECRET-KEY-")) }
}

impl Key {
    /// Of `[database.replica]`.
    pub fn settings(&self) -> String {
        format!("age_identities = \"{}\"\n", self.identity)
    }
}
