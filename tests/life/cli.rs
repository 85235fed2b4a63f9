//! The command line of the built program: help, exit statuses, text and JSON, the configuration's problems,
//! hidden secrets.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The program in a directory of its own, with an environment of its own.
fn litevisor(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
    command.current_dir(dir).env_clear().stdin(Stdio::null()).args(args);
    command
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Said {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

const ONE: &str = "[[database]]\npath = \"/d/one.db\"\n[database.replica]\nurl = \"file:///r/one\"\n";

#[test]
fn help_and_version_go_to_stdout() {
    let dir = dir(&[]);
    for (args, part) in [
        (vec!["--help"], "Usage: litevisor"),
        (vec!["run", "--help"], "Usage: litevisor run"),
        (vec!["restore", "--help"], "Usage: litevisor restore"),
        (vec!["list", "--help"], "Usage: litevisor list"),
        (vec!["verify", "--help"], "Usage: litevisor verify"),
        (vec!["check", "-h"], "Usage: litevisor check"),
        (vec!["--version"], concat!("litevisor ", env!("CARGO_PKG_VERSION"))),
    ] {
        let said = said(&mut litevisor(dir.path(), &args));
        assert_eq!(said.code, Some(0), "{args:?}");
        assert!(said.out.contains(part) && said.err.is_empty(), "{args:?}: {}{}", said.out, said.err);
    }
}

#[test]
fn bad_usage_is_64_with_the_usage_on_stderr() {
    let dir = dir(&[]);
    for args in [
        &[][..],
        &["--", "/bin/true"],
        &["frobnicate"],
        &["run", "--wrong"],
        &["run", "--db", "/d/a.db", "--", "/bin/true"],
        &["restore", "s3://bucket/p"],
        &["restore", "--txid", "5"],
        &["import"],
    ] {
        let said = said(&mut litevisor(dir.path(), args));
        assert_eq!(said.code, Some(64), "{args:?}: {}", said.err);
        assert!(said.err.contains("Usage: litevisor") && said.out.is_empty(), "{args:?}: {}", said.err);
    }
}

#[test]
fn a_bad_configuration_is_78_and_every_problem_has_its_line() {
    let text = "[app]\ncomand = [\"/bin/true\"]\n\n[shutdown]\ngrace = 10\n\n[[database]]\npath = \"/d/a.db\"\n\
                [database.replica]\nurl = \"xs://b/p\"\nendpiont = \"x\"\naccess_key_id = \"${LV_TEST_NOT_SET}\"\n";
    let dir = dir(&[("my.toml", text)]);
    for args in [
        &["check", "--config", "my.toml"][..],
        &["run", "--config", "my.toml", "--", "/bin/true"],
        &["restore", "--config", "my.toml"],
    ] {
        let said = said(&mut litevisor(dir.path(), args));
        assert_eq!(said.code, Some(78), "{args:?}");
        let expected = [
            "litevisor: my.toml:2: app.comand is an unknown key, did you mean \"command\"?",
            "litevisor: my.toml:5: shutdown.grace has no unit (\"10\")",
            "litevisor: my.toml:10: database.replica.url has the unknown scheme xs://",
            "litevisor: my.toml:11: database.replica.endpiont is an unknown key, did you mean \"endpoint\"?",
            "litevisor: my.toml:12: database.replica.access_key_id uses ${LV_TEST_NOT_SET}, which is not set",
        ];
        for part in expected {
            assert!(said.err.contains(part), "{part}\n{}", said.err);
        }
    }
}

#[test]
fn without_a_configuration_it_says_where_it_looked() {
    let dir = dir(&[]);
    let said = said(&mut litevisor(dir.path(), &["run", "--", "/bin/true"]));
    assert_eq!(said.code, Some(78));
    for part in [
        "$LITEVISOR_CONFIG",
        "supervisor.toml",
        "/etc/litevisor/supervisor.toml",
        "--config",
        "litevisor run --db /data/app.db --replica s3://bucket/app -- /usr/bin/app",
    ] {
        assert!(said.err.contains(part), "{part}\n{}", said.err);
    }
}

#[test]
fn the_configuration_is_searched_in_order() {
    let other = |name: &str| ONE.replace("one", name);
    let dir = dir(&[("supervisor.toml", ONE), ("env.toml", &other("two")), ("named.toml", &other("three"))]);
    let shown = |args: &[&str], env: &[(&str, &str)]| {
        let said = said(litevisor(dir.path(), args).envs(env.iter().copied()));
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    };
    let env = [("LITEVISOR_CONFIG", "env.toml")];
    assert!(shown(&["check"], &[]).contains("/d/one.db"));
    assert!(shown(&["check"], &env).contains("/d/two.db"));
    assert!(shown(&["check", "--config", "named.toml"], &env).contains("/d/three.db"));
    let missing = said(litevisor(dir.path(), &["check"]).env("LITEVISOR_CONFIG", "absent.toml"));
    assert_eq!(missing.code, Some(78));
    assert_eq!(
        missing.err, "litevisor: absent.toml: does not exist\n",
        "a named file is not searched elsewhere"
    );
}

#[test]
fn check_never_shows_a_secret() {
    let text = "[app]\ncommand = [\"/app\"]\nenv = { TOKEN = \"${LV_S}\" }\n[[database]]\npath = \"/d/a.db\"\n\
                [database.replica]\nurl = \"s3://bucket/a\"\naccess_key_id = \"${LV_K}\"\nsecret_access_key = \"${LV_S}\"\n\
                session_token_file = \"token\"\nsse_c_key = \"${LV_S}\"\n";
    let dir = dir(&[("supervisor.toml", text), ("token", "hidden-token\n")]);
    let env = [("LV_K", "hidden-key"), ("LV_S", "hidden-secret")];
    let said = said(litevisor(dir.path(), &["check"]).envs(env));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!said.out.contains("hidden") && !said.err.contains("hidden"), "{}{}", said.out, said.err);
    for part in ["secret_access_key = \"***\"", "session_token = \"***\"", "url = \"s3://bucket/a\"", "LV_S"]
    {
        assert!(said.out.contains(part), "{part}\n{}", said.out);
    }
}

#[test]
fn problems_never_show_a_secret() {
    let replica = |keys: &str| format!("[[database]]\npath = \"/d/a.db\"\n[database.replica]\n{keys}\n");
    for keys in [
        "url = \"s3://AKIA:hidden@bucket/p\"",
        "url = \"s3://b/p\"\nsecret_access_key = \"hidden\"",
        "url = \"s3://b/p\"\nsecret_access_key = [\"hidden\"]",
        "url = \"s3://b/p?secret=hidden\"",
        "url = \"s3://b/p\"\nendpoint = \"https://me:hidden@host\"",
        "url = \"s3://b/p\"\nsecret_acess_key = \"hidden\"",
        "url = \"s3://b/p\"\nsecret_access_key = \"hidden",
        "url = \"s3://b/p\"\nsecret_access_key = hidden",
    ] {
        let dir = dir(&[("supervisor.toml", &replica(keys))]);
        let said = said(&mut litevisor(dir.path(), &["check"]));
        assert_eq!(said.code, Some(78), "{keys}");
        assert!(!said.err.contains("hidden"), "{keys}: {}", said.err);
    }
}

#[test]
fn a_directory_of_databases_is_shown_and_restored_from() {
    let text = "[[database]]\ndir = \"tenants\"\nwatch = true\n[database.replica]\nurl = \"replicas\"\n";
    let dir = dir(&[("supervisor.toml", text)]);
    let check = said(&mut litevisor(dir.path(), &["check"]));
    assert_eq!(check.code, Some(0), "{}", check.err);
    for part in ["/tenants\"\npattern = \"*.db\"\nwatch = true\n", "/replicas\"\n"] {
        assert!(check.out.contains(part), "{part}\n{}", check.out);
    }
    // Nothing is there, and that is no failure; a name is one of its databases or none.
    assert_eq!(said(&mut litevisor(dir.path(), &["restore"])).code, Some(0));
    let one = said(&mut litevisor(dir.path(), &["restore", "tenants/a.db"]));
    assert_eq!(one.code, Some(66), "{}", one.err);
    let none = said(&mut litevisor(dir.path(), &["restore", "tenants/a.sqlite"]));
    assert_eq!(none.code, Some(64), "{}", none.err);
    assert!(none.err.contains("/tenants/*.db"), "{}", none.err);
}

#[test]
fn a_configuration_without_databases() {
    let dir = dir(&[("supervisor.toml", "[app]\ncommand = [\"/app\"]\n")]);
    let check = said(&mut litevisor(dir.path(), &["check"]));
    assert_eq!(check.code, Some(0));
    assert!(check.err.contains("NOTHING IS REPLICATED"), "{}", check.err);
    let restore = said(&mut litevisor(dir.path(), &["restore"]));
    assert_eq!(restore.code, Some(78));
    assert!(restore.err.contains("supervisor.toml: there is no [[database]]"), "{}", restore.err);
}

#[test]
fn restore_refuses_what_it_cannot_mean() {
    let dir = dir(&[("there.db", "somebody's data")]);
    let two = format!("{}{}", ONE, ONE.replace("one", "two")).replace("/d/one.db", "there.db");
    std::fs::write(dir.path().join("supervisor.toml"), two).unwrap();
    for (args, code, part) in [
        (vec!["restore", "-o", "x.db"], 64, "-o needs one database: 2 are configured"),
        (vec!["restore", "/d/twoo.db"], 64, "did you mean \"/d/two.db\"?"),
        (vec!["restore", "there.db"], 78, "is there already: --force replaces it"),
        (vec!["restore", "/d/two.db", "-o", "there.db"], 78, "is there already: --force replaces it"),
        (vec!["restore", "file:///r/x", "-o", "there.db"], 78, "is there already: --force replaces it"),
        (vec!["restore", "xs://b/p", "-o", "x.db"], 78, "has the unknown scheme"),
    ] {
        let said = said(&mut litevisor(dir.path(), &args));
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.err);
        assert!(said.err.contains(part), "{args:?}: {}", said.err);
    }
    assert_eq!(std::fs::read(dir.path().join("there.db")).unwrap(), b"somebody's data");
}

#[test]
fn the_log_of_a_one_shot_command_in_a_pipe_is_text_unless_json_is_requested() {
    let one = ONE.replace("/d/one.db", "there.db");
    let config = |format: &str| format!("{one}[log]\nformat = \"{format}\"\n");
    let dir = dir(&[("there.db", "x"), ("auto.toml", &one), ("json.toml", &config("json"))]);
    std::fs::write(dir.path().join("text.toml"), config("text")).unwrap();
    for (args, json) in [
        (&["restore", "--config", "auto.toml"][..], false),
        (&["restore", "--config", "text.toml"], false),
        (&["restore", "--config", "json.toml"], true),
        (&["restore", "--config", "auto.toml", "--json"], true),
        (&["restore", "--config", "text.toml", "--json"], true),
        (&["verify", "--config", "auto.toml"], false),
        (&["verify", "--config", "auto.toml", "--json"], true),
        (&["verify", "--config", "json.toml"], true),
    ] {
        for (variable, key, level) in [("UNRELATED", "level", "error"), ("K_SERVICE", "severity", "ERROR")] {
            let said = said(litevisor(dir.path(), args).env(variable, "x"));
            assert!(said.code != Some(0) && !said.err.is_empty(), "{args:?}: {}", said.err);
            for line in said.err.lines().map(str::trim_end) {
                let found = serde_json::from_str::<serde_json::Value>(line);
                assert_eq!(found.is_ok(), json, "{args:?}: {line}");
                match found {
                    Ok(line) => assert_eq!(line[key], level, "{args:?}: {line}"),
                    Err(_) => {
                        assert!(line.starts_with("20") && line.contains("Z ERROR "), "{args:?}: {line}")
                    }
                }
            }
        }
    }
}

/// stdout as JSON.
fn printed(said: &Said) -> serde_json::Value {
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {}{}", said.out, said.err))
}

#[test]
fn one_shot_commands_print_text_in_a_pipe_and_json_with_json() {
    let replica = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/s1-v05-tiny/replica");
    let text = format!("[[database]]\npath = \"out.db\"\n[database.replica]\nurl = \"{replica}\"\n");
    let yml = "dbs:\n  - path: /d/a.db\n    replica:\n      url: file:///r/a\n";
    let dir = dir(&[("supervisor.toml", &text), ("litestream.yml", yml)]);
    let run = |args: &[&str]| said(&mut litevisor(dir.path(), args));
    for (args, part) in [
        (&["list"][..], "restorable  TXID "),
        (&["verify"], " is sound\n"),
        (&["check"], "[[database]]\n"),
        (&["import", "litestream.yml"], "[[database]]\n"),
        (&["restore", "--dry-run"], ": would be made\n"),
    ] {
        let text = run(args);
        assert!(text.code == Some(0) && text.out.contains(part), "{args:?}: {}{}", text.out, text.err);
        assert!(serde_json::from_str::<serde_json::Value>(&text.out).is_err(), "{args:?}: {}", text.out);
        let json = run(&[args, &["--json"]].concat());
        assert_eq!(json.code, Some(0), "{args:?}: {}", json.err);
        let value = printed(&json);
        assert!(value.is_array() || value.is_object(), "{args:?}: {value}");
    }
    assert_eq!(run(&["run", "--json"]).code, Some(64));
    assert!(!dir.path().join("out.db").exists());
    let plan = printed(&run(&["restore", "--dry-run", "--json"]));
    assert_eq!((&plan[0]["action"], plan[0]["problem"].is_null()), (&"create".into(), true), "{plan}");
    let verified = printed(&run(&["verify", "--json"]));
    assert!(verified[0]["sound"] == true && verified[0]["restored"]["txid"].is_string(), "{verified}");
    let shown = printed(&run(&["check", "--json"]));
    assert!(shown["config"]["database"][0]["path"].as_str().unwrap().ends_with("/out.db"), "{shown}");
    let imported = printed(&run(&["import", "litestream.yml", "--json"]));
    assert_eq!(imported["config"]["database"][0]["path"], "/d/a.db", "{imported}");

    let restored = run(&["restore", "--json"]);
    let value = printed(&restored);
    assert_eq!(value[0]["restored"]["txid"], plan[0]["txid"], "{value}");
    assert!(
        restored.err.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{}",
        restored.err
    );
    std::fs::remove_file(dir.path().join("out.db")).unwrap();
    let text = run(&["restore"]);
    assert!(text.code == Some(0) && text.err.contains(" INFO  restored "), "{}", text.err);
    let refused = run(&["restore", "--json"]);
    let value = printed(&refused);
    assert_eq!(refused.code, Some(78), "{}", refused.err);
    assert!(value[0]["restored"].is_null(), "{value}");
    assert!(value[0]["problem"].as_str().unwrap().contains("is there already"), "{value}");
}

/// With nobody at the other end nothing may panic: as PID 1 that would take the container down.
#[test]
fn closed_pipes_change_nothing() {
    let dir = dir(&[("there.db", "x"), ("supervisor.toml", &ONE.replace("/d/one.db", "there.db"))]);
    for (args, code) in [(&["check"][..], 0), (&["--help"], 0), (&["restore"], 78), (&["run"], 78), (&[], 64)]
    {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let status = litevisor(dir.path(), args).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

/// `2>&-`: the descriptor is not there at all.
#[test]
fn closed_descriptors_change_nothing() {
    let dir = dir(&[("there.db", "x"), ("supervisor.toml", &ONE.replace("/d/one.db", "there.db"))]);
    let script = format!("exec '{}' restore 0<&- 1>&- 2>&-", env!("CARGO_BIN_EXE_litevisor"));
    let status = Command::new("/bin/sh").arg("-c").arg(script).current_dir(dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(78));
}

#[test]
fn the_example_is_a_configuration() {
    let dir = dir(&[("supervisor.toml", include_str!("../../supervisor.toml.example"))]);
    let said = said(&mut litevisor(dir.path(), &["check"]));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn restore_takes_a_replica_as_url_and_as_directory() {
    let dir = dir(&[]);
    let replica = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/s1-v05-tiny/replica");
    let expected =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/s1-v05-tiny/restored.db")).unwrap();
    for (number, subject) in
        [format!("file://{replica}"), replica.to_owned(), format!("{replica}/")].iter().enumerate()
    {
        let out = format!("{number}.db");
        let said = said(&mut litevisor(dir.path(), &["restore", subject, "-o", &out]));
        assert_eq!(said.code, Some(0), "{subject}: {}", said.err);
        assert!(std::fs::read(dir.path().join(out)).unwrap() == expected, "{subject}");
    }
    let nothing = dir.path().to_str().unwrap();
    let empty = said(&mut litevisor(dir.path(), &["restore", nothing, "-o", "none.db"]));
    assert!(empty.code == Some(66) && empty.err.contains(" ERROR "), "{}", empty.err);
    let asked =
        said(&mut litevisor(dir.path(), &["restore", nothing, "-o", "none.db", "--if-replica-exists"]));
    assert!(asked.code == Some(0) && !asked.err.contains(" ERROR "), "{}", asked.err);
}

#[test]
fn an_unknown_user_is_named_with_its_key() {
    let text = format!("[app]\nuser = \"nobody-has-this-name\"\n{ONE}");
    let dir = dir(&[("supervisor.toml", &text)]);
    let said = said(&mut litevisor(dir.path(), &["run", "--", "/bin/true"]));
    assert_eq!(said.code, Some(78), "{}", said.err);
    assert!(said.err.contains("`user` under [app]: user `nobody-has-this-name`"), "{}", said.err);
}

/// JSON cannot hold such a name: it must not end the command.
#[test]
fn a_name_that_is_not_utf_8_is_restored_and_printed() {
    use std::os::unix::ffi::OsStrExt;
    let dir = dir(&[]);
    let replica = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/s1-v05-tiny/replica");
    let out = std::ffi::OsStr::from_bytes(b"a\xff.db");
    for (args, code) in
        [(&["--dry-run", "--json"][..], 0), (&["--json"], 0), (&["--json"], 78), (&["--force"], 0)]
    {
        let said = said(litevisor(dir.path(), &["restore", replica, "-o"]).arg(out).args(args));
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.err);
        assert!(
            args == ["--force"] || printed(&said)[0]["database"] == "a\u{fffd}.db",
            "{args:?}: {}",
            said.out
        );
    }
    assert!(dir.path().join(out).exists());
}
