//! What tells one setup from another (`app.setup_when = "changed"`): `app.setup_id`, or the arguments and the
//! programs' content.

use super::settings::AppSettings;
use crate::model::checksum::Crc64;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
const LARGEST_SCRIPT: u64 = 16 << 20;
/// How a database file begins.
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

/// None: a program cannot be found or read. Files that the arguments name count with their content, too:
/// scripts.
pub fn setup_digest(app: &AppSettings) -> Option<String> {
    let mut digest = Crc64::default();
    let mut text = |word: &OsStr| {
        digest.update(&(word.len() as u64).to_be_bytes());
        digest.update(word.as_bytes());
    };
    app.setup.commands.iter().flatten().for_each(|word| text(word));
    if let Some(id) = &app.setup.id {
        text(id.as_ref());
        return Some(name(&digest));
    }
    // The app itself is part of it: a new build of it may bring another migration.
    for command in app.setup.commands.iter().chain([&app.command]) {
        let (program, arguments) = command.split_first()?;
        add(&mut digest, &find(app, program)?)?;
        for argument in
            arguments.iter().map(|argument| directory(app).join(argument)).filter(|path| is_script(path))
        {
            add(&mut digest, &argument)?;
        }
    }
    Some(name(&digest))
}

fn name(digest: &Crc64) -> String {
    format!("{:016x}", digest.value())
}

fn directory(app: &AppSettings) -> PathBuf {
    app.working_dir.clone().unwrap_or_default()
}

/// The file that `execvp` would take.
fn find(app: &AppSettings, program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(directory(app).join(program));
    }
    let given = app.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let path: OsString = given.or_else(|| std::env::var_os("PATH"))?;
    std::env::split_paths(&path)
        .map(|entry| directory(app).join(entry).join(program))
        .find(|file| file.is_file())
}

/// A file that an argument names, but for what is data: a database, or a large file.
fn is_script(path: &Path) -> bool {
    let is_small = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST_SCRIPT);
    let mut head = [0; SQLITE.len()];
    is_small && open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_err() || head != *SQLITE)
}

#[expect(clippy::disallowed_methods, reason = "this process has no database open before the engine starts")]
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

fn add(digest: &mut Crc64, path: &Path) -> Option<()> {
    let mut file = open(path).ok()?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).ok()?;
        if read == 0 {
            return Some(());
        }
        digest.update(chunk.get(..read)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::SetupSettings;

    fn digest(dir: &Path, id: Option<&str>, argument: &str) -> Option<String> {
        let commands = vec![vec!["./migrate".into(), argument.into(), "script.sql".into()]];
        setup_digest(&AppSettings {
            working_dir: Some(dir.into()),
            setup: SetupSettings { commands, id: id.map(str::to_owned), ..SetupSettings::default() },
            ..AppSettings::of(&["./app"])
        })
    }

    #[test]
    fn another_program_argument_script_or_id_is_another_setup() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(digest(dir.path(), None, "--yes"), None, "there is no program");
        ["migrate", "app", "script.sql"].iter().for_each(|name| write(name, "1"));
        write("data.db", "SQLite format 3\0 1");
        let mut seen = std::collections::BTreeSet::new();
        let mut is_new = |digest: Option<String>| seen.insert(digest.unwrap());
        assert!(is_new(digest(dir.path(), None, "--yes")));
        assert!(!is_new(digest(dir.path(), None, "--yes")), "the same setup");
        assert!(is_new(digest(dir.path(), None, "data.db")));
        write("data.db", "SQLite format 3\0 2");
        assert!(!is_new(digest(dir.path(), None, "data.db")), "data are not the setup");
        assert!(is_new(digest(dir.path(), None, "--no")));
        for changed in ["migrate", "app", "script.sql"] {
            write(changed, "2");
            assert!(is_new(digest(dir.path(), None, "--yes")), "{changed}");
        }
        assert!(is_new(digest(dir.path(), Some("v1"), "--yes")));
        write("migrate", "3");
        assert!(!is_new(digest(dir.path(), Some("v1"), "--yes")), "the id alone counts");
        assert!(is_new(digest(dir.path(), Some("v2"), "--yes")));
    }
}
