//! argv, environment and the candidate paths of the program, ready for exec. Pure.

use super::settings::AppSettings;
use super::user::Identity;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// execvp's, when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Variables that name a process by its PID: the receiver of passed sockets, and the process that systemd's
/// watchdog expects messages from.
pub(super) const NAMES_US: [&str; 2] = ["LISTEN_PID=", "WATCHDOG_PID="];

/// A word that no C string can hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HoldsNul(pub(super) OsString);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// In this order, relative to the working directory.
    pub(super) candidates: Vec<CString>,
    /// The entries of `env` that name litevisor's PID, where the app's is meant.
    pub(super) names_us: Vec<usize>,
}

impl Command {
    pub(super) fn new(
        settings: &AppSettings,
        inherited: &[CString],
        identity: Option<&Identity>,
    ) -> Result<Command, HoldsNul> {
        let argv = settings
            .command
            .iter()
            .map(|word| c_string(word.as_bytes().to_vec()))
            .collect::<Result<_, _>>()?;
        let env = environment(settings, inherited, identity);
        let program = settings.command.first().map(|word| word.as_bytes()).unwrap_or_default();
        let path = env.iter().find_map(|entry| entry.strip_prefix(b"PATH="));
        let candidates = candidates(program, path).into_iter().map(c_string).collect::<Result<_, _>>()?;
        let env: Vec<CString> = env.into_iter().map(c_string).collect::<Result<_, _>>()?;
        let ours = NAMES_US.map(|name| format!("{name}{}", std::process::id()));
        let names_us = |entry: &CString| ours.iter().any(|ours| entry.as_bytes() == ours.as_bytes());
        let names_us =
            env.iter().enumerate().filter(|(_, entry)| names_us(entry)).map(|(index, _)| index).collect();
        Ok(Command { argv, env, candidates, names_us })
    }
}

fn c_string(bytes: Vec<u8>) -> Result<CString, HoldsNul> {
    CString::new(bytes).map_err(|error| HoldsNul(OsString::from_vec(error.into_vec())))
}

/// A word with a slash is the file itself; an empty entry of PATH is the working directory.
fn candidates(program: &[u8], path: Option<&[u8]>) -> Vec<Vec<u8>> {
    if program.is_empty() || program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let directory = |entry: &[u8]| if entry.is_empty() { b".".to_vec() } else { entry.to_vec() };
    path.unwrap_or(DEFAULT_PATH)
        .split(|&b| b == b':')
        .map(|entry| [directory(entry), b"/".to_vec(), program.to_vec()].concat())
        .collect()
}

/// The inherited variables, byte for byte and in order, without the removed ones; then the user's; then the
/// configured ones.
fn environment(settings: &AppSettings, inherited: &[CString], identity: Option<&Identity>) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = inherited.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    for name in &settings.env_remove {
        unset(&mut env, name);
    }
    if let Some(identity) = identity {
        set(&mut env, "HOME".as_ref(), identity.home.as_deref().unwrap_or("/").as_ref());
        for name in ["USER", "LOGNAME"] {
            match &identity.name {
                Some(user) => set(&mut env, name.as_ref(), user.as_ref()),
                None => unset(&mut env, name.as_ref()),
            }
        }
    }
    for (name, value) in &settings.env {
        set(&mut env, name, value);
    }
    env
}

fn names(entry: &[u8], name: &OsStr) -> bool {
    entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
}

fn unset(env: &mut Vec<Vec<u8>>, name: &OsStr) {
    env.retain(|entry| !names(entry, name));
}

/// Replaces an existing variable in place.
fn set(env: &mut Vec<Vec<u8>>, name: &OsStr, value: &OsStr) {
    let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
    match env.iter_mut().find(|old| names(old, name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(command: &[&str]) -> AppSettings {
        AppSettings::of(command)
    }

    fn c(words: &[&[u8]]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).unwrap()).collect()
    }

    #[test]
    fn where_the_program_is_looked_for() {
        let cases: [(&str, Option<&str>, &[&str]); 6] = [
            ("/bin/app", Some("/x"), &["/bin/app"]),
            ("./app", Some("/x"), &["./app"]),
            ("app", Some("/x:/y"), &["/x/app", "/y/app"]),
            ("app", Some(":/y:"), &["./app", "/y/app", "./app"]),
            ("app", None, &["/bin/app", "/usr/bin/app"]),
            ("", Some("/x"), &[""]),
        ];
        for (program, path, expected) in cases {
            let found = candidates(program.as_bytes(), path.map(str::as_bytes));
            let expected: Vec<Vec<u8>> = expected.iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(found, expected, "{program} in {path:?}");
        }
    }

    #[test]
    fn bytes_pass_unchanged() {
        let inherited = c(&[b"A=1", b"no equals sign", b"B=\xff\xfe", b"A=2", b"="]);
        let command = Command::new(&settings(&["/x", "", "--", "a b"]), &inherited, None).unwrap();
        assert_eq!(command.env, inherited);
        assert_eq!(command.argv, c(&[b"/x", b"", b"--", b"a b"]));
    }

    #[test]
    fn removed_then_user_then_configured() {
        let mut settings = settings(&["app"]);
        settings.env_remove = vec!["SECRET".into(), "MISSING".into()];
        settings.env = vec![("HOME".into(), "/data".into()), ("PATH".into(), "/mine".into())];
        let user = Identity {
            uid: 1,
            gid: 1,
            groups: vec![1],
            name: Some("app".into()),
            home: Some("/home/app".into()),
        };
        let inherited = c(&[b"SECRET=1", b"SECRETS=2", b"HOME=/root", b"USER=root", b"SECRET=3"]);
        let command = Command::new(&settings, &inherited, Some(&user)).unwrap();
        assert_eq!(
            command.env,
            c(&[b"SECRETS=2", b"HOME=/data", b"USER=app", b"LOGNAME=app", b"PATH=/mine"])
        );
        assert_eq!(command.candidates, c(&[b"/mine/app"]), "the child's PATH counts");
    }

    #[test]
    fn a_number_without_an_entry_gets_no_name() {
        let user = Identity { uid: 5, gid: 5, groups: vec![5], name: None, home: None };
        let inherited = c(&[b"USER=root", b"LOGNAME=root", b"HOME=/root"]);
        let command = Command::new(&settings(&["/x"]), &inherited, Some(&user)).unwrap();
        assert_eq!(command.env, c(&[b"HOME=/"]));
    }

    #[test]
    fn the_process_is_renamed_only_when_it_is_us() {
        let (listen, watchdog) =
            (format!("LISTEN_PID={}", std::process::id()), format!("WATCHDOG_PID={}", std::process::id()));
        for (entries, found) in [
            ([listen.as_str(), "B=2"], vec![1]),
            ([&listen, &watchdog], vec![1, 2]),
            (["LISTEN_PID=1", &watchdog], vec![2]),
            (["LISTEN_PID=", "WATCHDOG_PID=1"], vec![]),
        ] {
            let inherited = c(&[b"A=1", entries[0].as_bytes(), entries[1].as_bytes()]);
            let command = Command::new(&settings(&["/x"]), &inherited, None).unwrap();
            assert_eq!(command.names_us, found, "{entries:?}");
        }
    }

    #[test]
    fn a_nul_is_named() {
        assert_eq!(Command::new(&settings(&["a\0b"]), &[], None), Err(HoldsNul("a\0b".into())));
    }
}
