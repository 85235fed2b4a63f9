//! What the app finds: argv, environment, descriptors, signals, limits and ids exactly as given.

use super::support::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn stdout(mode: Mode, wrapper: &[&str], settings: &Settings, app: &[&str]) -> String {
    let (status, out, log) = output(command(mode, wrapper, settings), app);
    assert_eq!(status, 0, "{mode:?}: {app:?}\n{log}");
    String::from_utf8(out).unwrap()
}

#[test]
fn argv_is_exact() {
    let words = [b"%s|".as_slice(), b"", b"--", b"-x", b"a  b", b"\xff\xfe", b"--config", b"'\"$HOME"];
    for mode in MODES {
        let mut app = vec![OsStr::new("/usr/bin/printf")];
        app.extend(words.map(OsStr::from_bytes));
        let (status, out, log) = output(command(mode, &[], &Settings::default()), &app);
        assert_eq!(status, 0, "{log}");
        assert_eq!(out, b"|--|-x|a  b|\xff\xfe|--config|'\"$HOME|", "{mode:?}");
    }
}

#[test]
fn environment_is_exact() {
    for mode in MODES {
        let unshare_needs = std::env::var("PATH").unwrap();
        let mut command = command(mode, &[], &Settings::default());
        command.env_clear().env("PATH", &unshare_needs).env("ODD", OsStr::from_bytes(b"\xff=\n")).env("EMPTY", "");
        let (status, out, log) = output(command, &["/bin/cat", "/proc/self/environ"]);
        assert_eq!(status, 0, "{log}");
        let expected = [b"EMPTY=\0ODD=\xff=\n\0PATH=".as_slice(), unshare_needs.as_bytes(), b"\0"].concat();
        assert_eq!(out, expected, "{mode:?}");
    }
}

#[test]
fn an_empty_environment_stays_empty() {
    for mode in MODES {
        let command = command(mode, &["/usr/bin/env", "-i"], &Settings::default());
        let (status, out, log) = output(command, &["/bin/cat", "/proc/self/environ"]);
        assert_eq!((status, out.as_slice()), (0, b"".as_slice()), "{mode:?}: {log}");
    }
}

#[test]
fn descriptors_of_ours_stay_here_and_those_of_others_pass() {
    let list = ["/bin/sh", "-c", "echo /proc/$$/fd/*"];
    for mode in MODES {
        let fds = |wrapper: &[&str]| {
            let text = stdout(mode, wrapper, &Settings::default(), &list);
            let mut fds: Vec<i32> =
                text.split_whitespace().map(|p| p.rsplit('/').next().unwrap().parse().unwrap()).collect();
            fds.sort_unstable();
            fds
        };
        // The shell may hold a descriptor on the directory it lists, so compare with what it has without us.
        let alone = |wrapper: &str| {
            let words = [&["-c", wrapper, "sh"][..], &list].concat();
            let out = std::process::Command::new("sh").args(words).output().unwrap().stdout;
            String::from_utf8(out).unwrap().split_whitespace().count()
        };
        let plain = "exec \"$@\"";
        let passed = "exec 7</dev/null 9</dev/null; exec \"$@\"";
        assert_eq!(fds(&["sh", "-c", plain, "sh"]).len(), alone(plain), "{mode:?}");
        let both = fds(&["sh", "-c", passed, "sh"]);
        assert!(both.contains(&7) && both.contains(&9) && both.len() == alone(passed), "{mode:?}: {both:?}");
    }
}

#[test]
fn started_without_standard_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        let note = path(&dir, &format!("{mode:?}"));
        let wrapper = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
        let app = format!("echo here > {note}; exit 4");
        let (status, ..) = output(command(mode, &wrapper, &Settings::default()), &["sh", "-c", &app]);
        assert_eq!((status, read(&note).as_str()), (4, "here\n"), "{mode:?}");
    }
}

#[test]
fn standard_streams_are_the_apps() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let file = path(&dir, "out");
        let wrapper = format!("echo words | exec \"$@\" > {file}");
        let mut command = command(mode, &["sh", "-c", &wrapper, "sh"], &Settings::default());
        command.args(["sh", "-c", "cat; readlink /proc/$$/fd/1"]);
        let (status, out, log) = output(command, &[] as &[&str]);
        assert_eq!((status, out.as_slice()), (0, b"".as_slice()), "{mode:?}: {log}");
        assert_eq!(read(&file), format!("words\n{file}\n"), "{mode:?}: only the app writes to stdout");
    }
}

#[test]
fn signals_are_as_we_found_them() {
    // Not through a shell, which clears its mask.
    let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let wrapper = "import os, signal, sys
signal.signal(13, signal.SIG_DFL); signal.signal(25, signal.SIG_DFL); BEFORE
os.execv(sys.argv[1], sys.argv[1:])";
    let table = [
        ("pass", 0, 0),
        ("signal.signal(1, signal.SIG_IGN)", 0, 1u64),
        ("signal.pthread_sigmask(signal.SIG_SETMASK, {12})", 1 << 11, 0),
    ];
    for mode in MODES {
        for (before, blocked, ignored) in table {
            let wrapper = wrapper.replace("BEFORE", before);
            let text = stdout(mode, &[python(), "-S", "-c", &wrapper], &Settings::default(), &show);
            // 32 and 33 are the C library's: its posix_spawn leaves them ignored in whatever the tests start.
            let sets = text.lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap() & !(0b11 << 31));
            assert_eq!(sets.collect::<Vec<_>>(), [blocked, ignored], "{mode:?}: {before}\n{text}");
        }
    }
}

#[test]
fn umask_limits_niceness_and_directory_pass() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().canonicalize().unwrap();
    let set = format!("cd {}; umask 0137; ulimit -S -n 123; exec nice -n 3 \"$@\"", there.display());
    let app = "umask; ulimit -n; nice; pwd; echo ready; exec sleep 1000";
    for mode in MODES {
        let mut command = command(mode, &["sh", "-c", &set, "sh"], &Settings::default());
        command.args(["sh", "-c", app]);
        let run = start_command(mode, command);
        for line in ["0137", "123", "3", there.to_str().unwrap(), "ready"] {
            run.expect(line);
        }
        until("we leave the directory", || {
            std::fs::read_link(format!("/proc/{}/cwd", run.init)).is_ok_and(|cwd| cwd.as_os_str() == "/")
        });
    }
}

#[test]
fn the_working_directory_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().canonicalize().unwrap();
    std::os::unix::fs::symlink("/bin/pwd", there.join("app")).unwrap();
    let settings = |dir: &str| Settings { working_dir: Some(dir.into()), ..Settings::default() };
    for mode in MODES {
        // A relative command is looked for there.
        let text = stdout(mode, &[], &settings(there.to_str().unwrap()), &["./app"]);
        assert_eq!(text.trim(), there.to_str().unwrap(), "{mode:?}");
        let (status, _, log) = output(command(mode, &[], &settings("/no/such")), &["pwd"]);
        assert_eq!(status, 126, "{mode:?}");
        assert!(log.contains("/no/such") && log.contains("No such file"), "{log}");
    }
}

#[test]
fn its_own_process_group() {
    for mode in MODES {
        let text = stdout(mode, &[], &Settings::default(), &["sh", "-c", "cut -d' ' -f1,5 /proc/$$/stat"]);
        let (pid, group) = text.trim().split_once(' ').unwrap();
        assert_eq!(pid, group, "{mode:?}");
    }
}

#[test]
fn another_user_for_good() {
    let settings = |user: &str| Settings { user: Some(user.into()), ..Settings::default() };
    let show = "grep -E '^(Uid|Gid|Groups)' /proc/self/status | tr -s '\\t ' ' '; echo $HOME $USER $LOGNAME; \
        setpriv --reuid 0 true 2>/dev/null && echo regained; exit 0";
    let show = ["sh", "-c", show];
    for mode in MODES {
        let (status, _, log) = output(command(mode, &[], &settings("no-such-user")), &["true"]);
        assert_eq!(status, 78, "{mode:?}");
        assert!(log.contains("no-such-user") && log.contains("/etc/passwd"), "{log}");
        if !is_root() {
            let (status, _, log) = output(command(mode, &[], &settings("12345:12345")), &["true"]);
            assert_eq!(status, 126, "{mode:?}: {log}");
            continue;
        }
        let text = stdout(mode, &[], &settings("12345:23456"), &show);
        let ids = "Uid: 12345 12345 12345 12345\nGid: 23456 23456 23456 23456\nGroups: 23456 \n/\n";
        assert_eq!(text, ids, "{mode:?}");
        let text = stdout(mode, &[], &settings("nobody"), &show);
        assert!(text.ends_with("nobody nobody\n") && !text.contains(" 0 "), "{mode:?}: {text}");
        // The parent-death signal must come after the change of user, which clears it.
        let run = start(mode, &settings("12345:12345"), &["sh", "-c", "echo ready; exec sleep 1000"]);
        run.expect("ready");
        let app = children_of(run.init)[0].pid;
        run.signal(KILL);
        until("the app is gone", || stat(app).is_none_or(|stat| stat.state == 'Z'));
    }
}

#[test]
fn no_new_privileges_when_asked_for() {
    let show = ["grep", "NoNewPrivs", "/proc/self/status"];
    for mode in MODES {
        assert_eq!(stdout(mode, &[], &Settings::default(), &show), "NoNewPrivs:\t0\n", "{mode:?}");
        let asked = Settings { no_new_privs: true, ..Settings::default() };
        assert_eq!(stdout(mode, &[], &asked, &show), "NoNewPrivs:\t1\n", "{mode:?}");
    }
}
