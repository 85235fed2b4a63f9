//! What the app finds: argv, environment, descriptors, signals, limits and ids exactly as given.

use super::support::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

pub fn stdout(mode: Mode, wrapper: &[&str], settings: &Settings, app: &[&str]) -> String {
    let (status, out, log) = output(command(mode, wrapper, settings), app);
    assert_eq!(status, 0, "{mode:?}: {app:?}\n{log}");
    String::from_utf8(out).unwrap()
}

#[test]
fn argv_exact() {
    let words = [b"%s|".as_slice(), b"", b"--", b"-x", b"a  b", b"\xff\xfe", b"--config", b"'\"$HOME"];
    for mode in modes() {
        let mut app = vec![OsStr::new("/usr/bin/printf")];
        app.extend(words.map(OsStr::from_bytes));
        let (status, out, log) = output(command(mode, &[], &Settings::default()), &app);
        assert_eq!(status, 0, "{log}");
        assert_eq!(out, b"|--|-x|a  b|\xff\xfe|--config|'\"$HOME|", "{mode:?}");
    }
}

#[test]
fn env_exact() {
    for mode in modes() {
        let unshare_needs = std::env::var("PATH").unwrap();
        let mut command = command(mode, &[], &Settings::default());
        command
            .env_clear()
            .env("PATH", &unshare_needs)
            .env("ODD", OsStr::from_bytes(b"\xff=\n"))
            .env("EMPTY", "");
        let (status, out, log) = output(command, &["/bin/cat", "/proc/self/environ"]);
        assert_eq!(status, 0, "{log}");
        let expected = [b"EMPTY=\0ODD=\xff=\n\0PATH=".as_slice(), unshare_needs.as_bytes(), b"\0"].concat();
        assert_eq!(out, expected, "{mode:?}");
    }
}

#[test]
fn env_empty() {
    for mode in modes() {
        let command = command(mode, &["/usr/bin/env", "-i"], &Settings::default());
        let absolute =
            command.get_args().chain([command.get_program()]).any(|word| word.as_bytes().contains(&b'/'));
        assert!(absolute, "the init must be found without PATH");
        let (status, out, log) = output(command, &["/bin/cat", "/proc/self/environ"]);
        assert_eq!((status, out.as_slice()), (0, b"".as_slice()), "{mode:?}: {log}");
    }
}

#[test]
fn path_lookup() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("forbidden")).unwrap();
    std::fs::write(dir.path().join("forbidden/the-app"), "").unwrap();
    std::fs::create_dir(dir.path().join("there")).unwrap();
    std::fs::write(dir.path().join("there/the-app"), "#!/bin/sh\necho $0 $1; exit 6\n").unwrap();
    let program = dir.path().join("there/the-app");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for mode in modes() {
        let mut command = command(mode, &[], &Settings::default());
        let rest = std::env::var("PATH").unwrap();
        let path = format!("/no/such:{0}/forbidden:{0}/there:{rest}", dir.path().display());
        command.env("PATH", path).args(["the-app", "x"]);
        let mut run = start_command(mode, command);
        run.expect(&format!("{} x", program.display()));
        assert_eq!(run.status(), 6, "{mode:?}");
    }
}

const LIST: [&str; 3] = ["/bin/sh", "-c", "echo /proc/$$/fd/*"];

fn fds(mode: Mode, wrapper: &str) -> Vec<i32> {
    let text = stdout(mode, &["sh", "-c", wrapper, "sh"], &Settings::default(), &LIST);
    text.split_whitespace().map(|path| path.rsplit('/').next().unwrap().parse().unwrap()).collect()
}

/// The shell may hold a descriptor on the directory it lists, so compare with what it has without an init.
fn fds_alone(wrapper: &str) -> usize {
    let words = [&["-c", wrapper, "sh"][..], &LIST].concat();
    let out = std::process::Command::new("sh").args(words).output().unwrap().stdout;
    String::from_utf8(out).unwrap().split_whitespace().count()
}

#[test]
fn fds_no_leak() {
    for mode in modes() {
        let plain = "exec \"$@\"";
        assert_eq!(fds(mode, plain).len(), fds_alone(plain), "{mode:?}");
    }
}

#[test]
fn fds_passed() {
    for mode in modes() {
        let passed = "exec 7</dev/null 9</dev/null; exec \"$@\"";
        let both = fds(mode, passed);
        assert!(
            both.contains(&7) && both.contains(&9) && both.len() == fds_alone(passed),
            "{mode:?}: {both:?}"
        );
    }
}

/// (blocked, ignored) in the app, when the init was started after `before`.
fn signal_sets(mode: Mode, before: &str) -> (u64, u64) {
    let wrapper = format!(
        "import os, signal, sys
{before}
os.execv(sys.argv[1], sys.argv[1:])"
    );
    // Not through a shell, which clears its mask.
    let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let (status, out, log) = output(wrapped_in_python(mode, &wrapper), &show);
    assert_eq!(status, 0, "{mode:?}: {log}");
    let text = String::from_utf8(out).unwrap();
    // 32 and 33 are the C library's: its posix_spawn leaves them ignored in whatever the tests start.
    let sets: Vec<u64> =
        text.lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap() & !(0b11 << 31)).collect();
    (sets[0], sets[1])
}

#[test]
fn mask_clean() {
    for mode in modes() {
        assert_eq!(signal_sets(mode, "pass").0, 0, "{mode:?}");
    }
}

#[test]
fn dispositions_clean() {
    for mode in modes() {
        assert_eq!(signal_sets(mode, "pass").1, 0, "{mode:?}");
    }
}

#[test]
fn mask_inherited_or_reset() {
    for mode in modes() {
        let (blocked, _) = signal_sets(mode, "signal.pthread_sigmask(signal.SIG_SETMASK, {12})");
        assert!([0, 1 << 11].contains(&blocked), "{mode:?}: {blocked:x}");
    }
}

#[test]
fn ignored_inherited() {
    for mode in modes() {
        let (_, ignored) = signal_sets(mode, "signal.signal(1, signal.SIG_IGN)");
        assert_eq!(ignored, 1, "{mode:?}");
    }
}

#[test]
fn cwd() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().canonicalize().unwrap();
    for mode in modes() {
        let wrapper = format!("cd {}; exec \"$@\"", there.display());
        let text = stdout(mode, &["sh", "-c", &wrapper, "sh"], &Settings::default(), &["/bin/pwd"]);
        assert_eq!(text.trim(), there.to_str().unwrap(), "{mode:?}");
    }
}

#[test]
fn umask_nice_oom() {
    let wrapper = "umask 0137; echo 500 > /proc/$$/oom_score_adj; exec nice -n 3 \"$@\"";
    let own = std::process::Command::new("nice").output().unwrap();
    let own: i32 = String::from_utf8(own.stdout).unwrap().trim().parse().unwrap();
    let nice = (own + 3).min(19);
    for mode in modes() {
        let app = ["sh", "-c", "umask; nice; cat /proc/$$/oom_score_adj"];
        let text = stdout(mode, &["sh", "-c", wrapper, "sh"], &Settings::default(), &app);
        assert_eq!(text, format!("0137\n{nice}\n500\n"), "{mode:?}");
    }
}

#[test]
fn rlimit_nofile() {
    for mode in modes() {
        let wrapper = ["sh", "-c", "ulimit -S -n 123; exec \"$@\"", "sh"];
        let text = stdout(mode, &wrapper, &Settings::default(), &["sh", "-c", "ulimit -S -n"]);
        assert_eq!(text.trim(), "123", "{mode:?}");
    }
}

/// A dump of the init would hold the store's keys; the app's dumps are its own affair.
#[test]
fn rlimit_core() {
    for mode in modes() {
        let wrapper = ["sh", "-c", "ulimit -S -c 7; exec \"$@\"", "sh"];
        let app = ["sh", "-c", "ulimit -S -c; grep core /proc/$PPID/limits"];
        let text = stdout(mode, &wrapper, &Settings::default(), &app);
        let (own, ours) = text.split_once('\n').unwrap();
        assert_eq!(own, "7", "{mode:?}");
        assert_eq!(ours.split_whitespace().nth(4), Some("1"), "{mode:?}: {ours}");
    }
}

#[test]
fn no_new_privs() {
    let show = ["grep", "NoNewPrivs", "/proc/self/status"];
    for mode in modes() {
        assert_eq!(stdout(mode, &[], &Settings::default(), &show), "NoNewPrivs:\t0\n", "{mode:?}");
        let wrapper = ["setpriv", "--no-new-privs"];
        assert_eq!(stdout(mode, &wrapper, &Settings::default(), &show), "NoNewPrivs:\t1\n", "{mode:?}");
    }
}

/// The init itself has no privileges.
#[test]
fn unprivileged() {
    let wrapper: &[&str] =
        if is_root() { &["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"] } else { &[] };
    for mode in modes() {
        let mut command = command(mode, wrapper, &Settings::default());
        command.args(["sh", "-c", "trap 'exit 8' TERM; id -u; while :; do sleep .01; done"]);
        let mut run = start_command(mode, command);
        let uid = run.line();
        assert!(!is_root() || uid == "12345", "{mode:?}: {uid}");
        run.signal(TERM);
        assert_eq!(run.status(), 8, "{mode:?}");
    }
}

/// Socket activation names a pid: the app's, once it has one.
#[test]
fn listen_pid() {
    for mode in modes() {
        let wrapper = ["sh", "-c", "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\" 3</dev/null", "sh"];
        let app =
            ["sh", "-c", "[ $LISTEN_PID = $$ ] && [ $LISTEN_FDS = 1 ] && [ -e /proc/$$/fd/3 ] && echo mine"];
        assert_eq!(stdout(mode, &wrapper, &Settings::default(), &app), "mine\n", "{mode:?}");
    }
}
