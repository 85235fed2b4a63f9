//! Command lines, against what they ask for or what is printed.

use super::*;
use std::os::unix::ffi::OsStringExt;

fn read(line: &str) -> Result<Invocation, Printed> {
    parse(std::iter::once("litevisor").chain(line.split_whitespace()).map(OsString::from))
}

fn run(config: Option<&str>, pairs: &[(&str, &str)], command: &[&str]) -> Invocation {
    let pairs = pairs.iter().map(|(db, replica)| (PathBuf::from(db), (*replica).to_owned())).collect();
    let action = Action::Run {
        pairs,
        gates: Vec::new(),
        follow: false,
        command: command.iter().map(OsString::from).collect(),
    };
    Invocation { config: config.map(PathBuf::from), action }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn run_takes_options_anywhere_before_the_command() {
    for (line, expected) in [
        ("run", run(None, &[], &[])),
        ("run -- app --flag", run(None, &[], &["app", "--flag"])),
        ("run app --flag", run(None, &[], &["app", "--flag"])),
        ("run app --config x", run(None, &[], &["app", "--config", "x"])),
        ("run -- app -- x", run(None, &[], &["app", "--", "x"])),
        ("run -- --config x", run(None, &[], &["--config", "x"])),
        ("--config f run -- app", run(Some("f"), &[], &["app"])),
        ("run --config=f app", run(Some("f"), &[], &["app"])),
        ("run --db a --replica ra -- app", run(None, &[("a", "ra")], &["app"])),
        (
            "run --db a --db b --config f --replica ra --replica rb app",
            run(Some("f"), &[("a", "ra"), ("b", "rb")], &["app"]),
        ),
    ] {
        assert_eq!(read(line), Ok(expected), "{line}");
    }
}

#[test]
fn gates_are_given_one_by_one() {
    let action =
        read("run --gate :8080=3000 --db a --gate unix:/s=3001 --replica ra -- app --gate x").unwrap().action;
    let Action::Run { gates, command, .. } = action else { panic!("run") };
    assert_eq!((gates, command.len()), (vec![":8080=3000".to_owned(), "unix:/s=3001".to_owned()], 3));
}

#[test]
fn arguments_need_not_be_utf8() {
    let raw = OsString::from_vec(vec![b'a', 0xff]);
    let args = ["litevisor".into(), "run".into(), "--".into(), raw.clone()];
    let Ok(Invocation { action: Action::Run { command, .. }, .. }) = parse(args) else { panic!("run") };
    assert_eq!(command, [raw]);
}

#[test]
fn restore_and_check() {
    let args = RestoreArgs {
        subject: Some("s3://b/p".into()),
        out: Some("x.db".into()),
        target: Target::Txid(Txid(0x2f)),
        if_replica_exists: true,
        force: true,
        dry_run: false,
        json: false,
    };
    let line = "restore --force -o x.db s3://b/p --txid 2F --if-replica-exists";
    assert_eq!(read(line).map(|found| found.action), Ok(Action::Restore(args)));
    let none = read("restore --config f").unwrap();
    assert_eq!((none.config, none.action), (Some("f".into()), Action::Restore(RestoreArgs::default())));
    assert_eq!(read("check").map(|found| found.action), Ok(Action::Check { connect: false, json: false }));
    assert_eq!(
        read("check --connect").map(|found| found.action),
        Ok(Action::Check { connect: true, json: false })
    );
    assert_eq!(
        read("import x.yml").map(|found| found.action),
        Ok(Action::Import { file: "x.yml".into(), json: false })
    );
    let Ok(Invocation { action: Action::Restore(at), .. }) =
        read("restore --dry-run --timestamp 2026-11-22T08:01:19.453+02:00")
    else {
        panic!("restore")
    };
    assert_eq!((at.target, at.dry_run), (Target::Time(Moment(1_795_327_279_453)), true));
    assert_eq!(read("replicate").map(|found| found.action), Ok(Action::Replicate { once: false }));
    assert_eq!(read("replicate --once").map(|found| found.action), Ok(Action::Replicate { once: true }));
    let list = Action::List { subject: Some("file:///r".into()), retention: false, json: true };
    assert_eq!(read("list --json file:///r").map(|found| found.action), Ok(list));
    let (socket, db) = (Some("/s".into()), Some("a.db".into()));
    for (line, action) in [
        ("status --json", Action::Status { socket: None, json: true }),
        ("sync", Action::Sync { socket: None, db: None, timeout: Duration::from_secs(30), json: false }),
        (
            "sync a.db --timeout 1m30s --socket /s",
            Action::Sync { socket, db, timeout: Duration::from_secs(90), json: false },
        ),
        (
            "promote",
            Action::Promote { socket: None, force: false, timeout: Duration::from_secs(60), json: false },
        ),
        (
            "promote --force --timeout 5s --socket /s",
            Action::Promote {
                socket: Some("/s".into()),
                force: true,
                timeout: Duration::from_secs(5),
                json: false,
            },
        ),
        ("handover --json", Action::HandOver { socket: None, timeout: Duration::from_secs(60), json: true }),
        ("healthcheck --live", Action::Healthcheck { socket: None, live: true, json: false }),
    ] {
        assert_eq!(read(line).map(|found| found.action), Ok(action), "{line}");
    }
    let (subject, out) = ("s3://b/p".into(), "c.db".into());
    let follow = Action::Follow { subject, out, poll: Some(Duration::from_millis(500)), once: true };
    assert_eq!(read("follow --once -o c.db s3://b/p --poll 500ms").map(|found| found.action), Ok(follow));
    let Ok(Invocation { action: Action::Run { follow: true, .. }, .. }) = read("run --follow -- app") else {
        panic!("run")
    };
    let rekey = RekeyArgs {
        subject: "a.db".into(),
        to: "s3://b/q".into(),
        identities: Some("k".into()),
        recipients: None,
        plain: false,
    };
    assert_eq!(
        read("rekey a.db --to s3://b/q --identities k").map(|found| found.action),
        Ok(Action::Rekey(rekey.clone()))
    );
    let plain = RekeyArgs { identities: None, plain: true, ..rekey };
    assert_eq!(read("rekey --plain --to s3://b/q a.db").map(|found| found.action), Ok(Action::Rekey(plain)));
    let verify = Action::Verify { subject: None, quick: true, history: false, json: false };
    assert_eq!(read("verify --quick").map(|found| found.action), Ok(verify));
}

#[test]
fn commands_that_print_an_outcome_take_json() {
    let reports = ["restore", "list", "verify", "check", "import x.yml"];
    let requests = ["status", "sync", "promote", "handover", "healthcheck"];
    for command in reports.into_iter().chain(requests) {
        let action = read(&format!("{command} --json")).unwrap().action;
        assert!(format!("{action:?}").contains("json: true"), "{action:?}");
    }
    for command in ["run", "replicate --once", "follow -o x.db s3://b/p --once", "rekey a.db --to s3://b/q"] {
        assert!(read(&format!("{command} --json")).is_err(), "{command}");
    }
}

#[test]
fn mistakes_are_64_on_stderr() {
    for (line, part) in [
        ("", "Usage: litevisor"),
        ("-- app", "to run an app: litevisor run -- app"),
        ("rnu -- app", "did you mean \"run\"?"),
        ("sync --timeout 0s", "more than 0s"),
        ("sync --timeout 2", "has no unit"),
        ("run --wrong", "--wrong"),
        ("run --db a -- app", "1 --db and 0 --replica"),
        ("restore s3://b/p", "needs -o OUT"),
        ("restore --txid 5", "--txid needs one DB or URL"),
        ("restore x --txid 0", "from 1 on"),
        ("restore x --txid zz", "hexadecimal"),
        ("restore --timestamp yesterday", "2026-05-04T12:00:00Z"),
        ("restore --timestamp 2026-01-01T00:00:00", "2026-05-04T12:00:00Z"),
        ("restore x --timestamp 2026-01-01T00:00:00Z --txid 5", "cannot be used with"),
        ("import", "<FILE>"),
        ("rekey a.db", "--to"),
        ("rekey a.db --to s3://b/q --plain --identities k", "cannot be used with"),
        ("follow s3://b/p", "--output"),
        ("follow -o x.db", "<DB | URL>"),
        ("follow -o x.db s3://b/p --poll 1ms", "at least 100ms"),
        ("check extra", "extra"),
    ] {
        let printed = read(line).unwrap_err();
        assert!(printed.text.contains(part), "{line}: {}", printed.text);
        assert!(printed.text.contains("--help"), "{line}: {}", printed.text);
        assert_eq!((printed.code, printed.to_stdout), (64, false), "{line}");
    }
}

#[test]
fn help_fits_a_small_screen_and_shows_an_example() {
    let commands = [
        "run",
        "replicate",
        "restore",
        "follow",
        "list",
        "verify",
        "rekey",
        "check",
        "import",
        "status",
        "sync",
        "promote",
        "handover",
        "healthcheck",
    ];
    let lines = commands.map(|command| format!("{command} --help"));
    for line in lines.iter().map(String::as_str).chain(["--help", "-h"]) {
        let printed = read(line).unwrap_err();
        assert_eq!((printed.code, printed.to_stdout), (0, true), "{line}");
        let (rows, columns) =
            (printed.text.lines().count(), printed.text.lines().map(|row| row.chars().count()).max());
        // The list of commands may scroll by a few lines.
        let most = if line.starts_with('-') { 30 } else { 24 };
        assert!(rows <= most && columns <= Some(80), "{line}: {rows} x {columns:?}\n{}", printed.text);
        assert!(printed.text.contains("Example"), "{line}");
    }
    assert_eq!(read("--version").unwrap_err().text, format!("litevisor {}\n", env!("CARGO_PKG_VERSION")));
}
