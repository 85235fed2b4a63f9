//! What the app finds when it starts: working directories that are hard to keep, variables that name a
//! process, files that are no program here, and none of our secrets.

use crate::child::stdout;
use crate::support::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// systemd and others start services with SIGPIPE ignored, and the app may rely on it.
#[test]
fn an_ignored_sigpipe_stays_ignored() {
    for mode in modes() {
        for (before, expected) in [("SIG_IGN", 1 << 12), ("SIG_DFL", 0)] {
            let wrapper = format!(
                "import os, signal, sys
signal.signal(13, signal.{before})
os.execv(sys.argv[1], sys.argv[1:])"
            );
            let mut command = wrapped_in_python(mode, &wrapper);
            command.args(["grep", "SigIgn", "/proc/self/status"]);
            let (status, out, log) = output(command, &[] as &[&str]);
            assert_eq!(status, 0, "{log}");
            let ignored = u64::from_str_radix(&String::from_utf8(out).unwrap().trim()[8..], 16).unwrap();
            assert_eq!(ignored & 1 << 12, expected, "{mode:?}: {before}");
        }
    }
}

/// systemd's watchdog names the process that it expects to hear from: the app, once it has a pid.
#[test]
fn watchdog_pid() {
    for mode in modes() {
        let wrapper =
            ["sh", "-c", "export WATCHDOG_USEC=1000000 WATCHDOG_PID=$$ LISTEN_PID=$$; exec \"$@\"", "sh"];
        let app = ["sh", "-c", "[ $WATCHDOG_PID = $$ ] && [ $LISTEN_PID = $$ ] && echo mine"];
        assert_eq!(stdout(mode, &wrapper, &Settings::default(), &app), "mine\n", "{mode:?}");
    }
}

/// Root without the rights that make it root, in a directory that only the app's user may enter.
#[test]
fn a_directory_that_only_the_app_may_enter() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let there = dir.path().canonicalize().unwrap().join("own");
    fs::create_dir(&there).unwrap();
    std::os::unix::fs::chown(&there, Some(12345), Some(12345)).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o700)).unwrap();
    let enter =
        format!("cd {}; exec setpriv --bounding-set -dac_override,-dac_read_search \"$@\"", there.display());
    for mode in modes() {
        let settings = Settings { user: Some("12345:12345".into()), ..Settings::default() };
        let text = stdout(mode, &["sh", "-c", &enter, "sh"], &settings, &["/bin/pwd"]);
        assert_eq!(text.trim(), there.to_str().unwrap(), "{mode:?}");
        // Before a restart we have left it.
        let lives = path(&dir, &format!("lives-{mode:?}"));
        fs::write(&lives, "").unwrap();
        fs::set_permissions(&lives, fs::Permissions::from_mode(0o666)).unwrap();
        let settings = Settings { app: vec![ON_FAILURE.into(), QUICK.into()], ..settings };
        let script = format!("pwd; echo x >> {lives}; [ $(wc -l < {lives}) = 2 ]");
        let text = stdout(mode, &["sh", "-c", &enter, "sh"], &settings, &["sh", "-c", &script]);
        let line = format!("{}\n", there.display());
        assert_eq!(text, line.repeat(2), "{mode:?}");
    }
}

const ON_FAILURE: &str = "restart=\"on-failure\"";
const QUICK: &str = "backoff={ limit = 3, delay = \"20ms\" }";

/// It was there when a shell entered it.
#[test]
fn a_directory_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let there = path(&dir, "gone");
    let enter = format!("mkdir {there}; cd {there}; rmdir {there}; exec \"$@\"");
    for mode in modes() {
        let mut command = command(mode, &["sh", "-c", &enter, "sh"], &Settings::default());
        command.args(["/bin/sh", "-c", "echo runs; exit 4"]);
        let mut run = start_command(mode, command);
        assert_eq!(run.status(), 4, "{mode:?}: {}", run.whole_log());
        assert_eq!(run.rest(), ["runs"], "{mode:?}");
        // Removed between two lives: the app is started again, and told where.
        let settings = Settings::app(&[ON_FAILURE, QUICK]);
        let script = format!("if [ -d {there} ]; then rmdir {there}; exit 1; fi; pwd");
        let enter = format!("mkdir {there}; cd {there}; exec \"$@\"");
        let mut command = self::command(mode, &["sh", "-c", &enter, "sh"], &settings);
        command.args(["/bin/sh", "-c", &script]);
        let mut run = start_command(mode, command);
        assert_eq!(run.status(), 0, "{mode:?}: {}", run.whole_log());
        assert_eq!(run.rest(), ["/"], "{mode:?}");
    }
}

/// A program for another machine is no script.
#[test]
fn a_program_for_another_machine_is_named_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let program = path(&dir, "program");
    // 64 bit, little endian, executable, machine 243: RISC-V.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0\x01\0\0\0".to_vec();
    elf.resize(4096, 0);
    fs::write(&program, elf).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &[&program]);
        assert_eq!(run.status(), 126, "{mode:?}");
        let log = run.whole_log();
        assert!(log.contains(&program) && log.contains("RISC-V"), "{mode:?}: {log}");
    }
}

/// Whoever types `kill -ABRT 1`, and systemd's watchdog, mean the app.
#[test]
fn signals_that_are_faults_when_nobody_sends_them() {
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &[python(), "-S", "-c", SIGNAL_PRINTER]);
        run.expect("ready");
        for signal in [4, 5, 6, 7, 8, 11, 31] {
            run.signal(signal);
            run.expect(&signal.to_string());
        }
        run.signal(TERM);
        assert_eq!(run.status(), 0, "{mode:?}");
        let mut run = sh(mode, "echo ready; exec sleep 1000");
        run.expect("ready");
        run.signal(6);
        assert_eq!(run.status(), 134, "{mode:?}: the app's end is ours");
    }
}

/// Without root the app may read what its own user's processes hold.
#[test]
fn our_secrets_are_not_in_our_environment() {
    let wrapper: &[&str] =
        if is_root() { &["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"] } else { &[] };
    // The secret is of no use here: nobody answers, and the app is started on what is there.
    let secret = "AKIDSECRETxyz";
    let look = "{ tr '\\0' '\\n' < /proc/$PPID/environ; } 2>&1 | grep -c -e AKIDSECRET -e denied; { head -c \
        1 < /proc/$PPID/mem; } 2>&1 | grep -c denied; env | grep -c AKIDSECRET; echo $KEPT; exit 0";
    for mode in modes() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let config = path(&dir, "supervisor.toml");
        let text = format!(
            "[restore]\ntimeout = \"1s\"\n[[database]]\npath = \"{0}/app.db\"\non_restore_failure = \"start\"\n\
             [database.replica]\nurl = \"s3://bucket/app\"\nendpoint = \"http://127.0.0.1:9\"\nregion = \"x\"\n\
             access_key_id = \"${{MY_KEY}}\"\nsecret_access_key = \"${{MY_SECRET}}\"\n",
            dir.path().display()
        );
        fs::write(&config, text).unwrap();
        let mut command = bare(mode, wrapper);
        command.args(["run", "--config", &config, "--", "sh", "-c", look]);
        command
            .env("MY_KEY", secret)
            .env("MY_SECRET", secret)
            .env("AWS_SESSION_TOKEN", secret)
            .env("KEPT", "kept");
        let mut run = start_command(mode, command);
        assert_eq!(run.status(), 74, "{mode:?}: nothing was replicated");
        // What is not denied would show the secret; its own environment has none.
        assert_eq!(run.rest(), ["1", "1", "0", "kept"], "{mode:?}: {}", run.whole_log());
        if !is_root() {
            continue;
        }
        // Root may look, and finds nothing in the environment.
        let mut command = bare(mode, &[]);
        command.args(["run", "--config", &config, "--", "sh", "-c"]);
        command.arg("tr '\\0' '\\n' < /proc/$PPID/environ | grep -c -e AKIDSECRET; tr '\\0' '\\n' < /proc/$PPID/environ | grep KEPT");
        command
            .env("MY_KEY", secret)
            .env("MY_SECRET", secret)
            .env("AWS_SESSION_TOKEN", secret)
            .env("KEPT", "kept");
        let mut run = start_command(mode, command);
        assert_eq!(run.status(), 74, "{mode:?}");
        assert_eq!(run.rest(), ["0", "KEPT=kept"], "{mode:?}: {}", run.whole_log());
    }
}
