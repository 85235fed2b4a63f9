//! Command line: clap only. In: argv. Out: an `Invocation`, or what to print and the exit code. Never opens anything.

mod ops;

use crate::config::nearest::hint;
use crate::exit;
use crate::model::{Moment, Txid};
use crate::replica::Target;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the user asked for, complete and consistent in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    pub config: Option<PathBuf>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Run {
        /// `--db PATH --replica URL`, in order.
        pairs: Vec<(PathBuf, String)>,
        command: Vec<OsString>,
    },
    /// Without an app.
    Replicate {
        once: bool,
    },
    Restore(RestoreArgs),
    /// What a replica holds.
    List {
        subject: Option<OsString>,
        json: bool,
    },
    /// Whether a replica can be restored.
    Verify {
        subject: Option<OsString>,
        quick: bool,
    },
    /// How the running supervisor stands.
    Status {
        socket: Option<PathBuf>,
        json: bool,
    },
    /// Until what is committed is in the replica.
    Sync {
        socket: Option<PathBuf>,
        db: Option<PathBuf>,
        timeout: Duration,
    },
    Healthcheck {
        socket: Option<PathBuf>,
        live: bool,
    },
    Check {
        /// Touch the replicas, too.
        connect: bool,
    },
    /// Print a litestream.yml as our own configuration.
    Import {
        file: PathBuf,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreArgs {
    /// A configured database's path or a replica's URL; None: every configured database.
    pub subject: Option<OsString>,
    pub out: Option<PathBuf>,
    pub target: Target,
    pub if_replica_exists: bool,
    pub force: bool,
    pub dry_run: bool,
}

/// The command line asks for nothing that could be done: print this and exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub text: String,
    /// Help and version go to stdout, mistakes to stderr.
    pub to_stdout: bool,
    pub code: u8,
}

/// Container entrypoint for SQLite apps: restores, supervises, replicates, flushes.
#[derive(Parser)]
#[command(
    name = "litevisor",
    version,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = "Example (`litevisor COMMAND --help` has one for each):\n  \
                  litevisor run --db /data/app.db --replica s3://bucket/app -- /usr/bin/app"
)]
struct Cli {
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "Configuration; default $LITEVISOR_CONFIG,\n./supervisor.toml, /etc/litevisor/supervisor.toml"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    Run(Run),
    Replicate(Replicate),
    Restore(Restore),
    List(List),
    Verify(Verify),
    Check(Check),
    Status(ops::Status),
    Sync(ops::Sync),
    Healthcheck(ops::Healthcheck),
    Import(Import),
}

/// Restore, start the app, replicate while it runs, flush at the end
#[derive(Args)]
#[command(after_help = "Without --config, --db and --replica stand for a configuration file.\n\
                  Exit: the app's status; 64 bad usage, 65 replica damaged, 69 replica away,\n\
                  74 last flush incomplete, 75 replica taken over, 78 bad configuration,\n\
                  126 and 127 when the command cannot be executed or found.\n\n\
                  Example:\n  litevisor run --db /data/app.db --replica s3://bucket/app -- /usr/bin/app")]
struct Run {
    /// Database file, one for each --replica, in the same order
    #[arg(long, value_name = "PATH")]
    db: Vec<PathBuf>,
    /// Its replica: s3://bucket/prefix or file:///directory
    #[arg(long, value_name = "URL")]
    replica: Vec<String>,
    /// The app and its arguments; replaces the configured command
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = false)]
    command: Vec<OsString>,
}

/// Replicate beside an app of somebody else: sidecar, cron
#[derive(Args)]
#[command(after_help = "Restores what is missing, replaces nothing that is there, and replicates until\n\
                  SIGTERM or SIGINT: then it flushes until nobody has a database open.\n\
                  Exit: 0 stopped and complete; 65 not restored, or a file is not the replica's;\n\
                  66 nothing there (--once), 69 replica away, 74 last flush incomplete,\n\
                  75 replica taken over, 78 bad configuration.\n\n\
                  Example:\n  litevisor replicate --config supervisor.toml")]
struct Replicate {
    /// Restore nothing; end when everything is uploaded
    #[arg(long)]
    once: bool,
}

/// Restore databases from their replicas, without starting anything
#[derive(Args)]
#[command(after_help = "Exit: 0 restored; 64 bad usage, 65 replica damaged, 66 nothing there or not that\n\
                  state, 69 not reachable, 78 bad configuration or a file is in the way.\n\n\
                  Example:\n  litevisor restore s3://bucket/app -o app.db --timestamp 2026-05-04T12:00:00Z")]
struct Restore {
    /// A configured database, or a replica's URL; default: all databases
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// Write to this file instead of the database's own
    #[arg(short, long = "output", value_name = "OUT")]
    out: Option<PathBuf>,
    /// Restore what had been committed by then, inclusive
    #[arg(long, value_name = "RFC3339", value_parser = moment, conflicts_with = "txid")]
    timestamp: Option<Moment>,
    /// Restore the state right after this transaction
    #[arg(long, value_name = "HEX", value_parser = txid)]
    txid: Option<Txid>,
    /// Exit 0 and do nothing where the replica is empty
    #[arg(long)]
    if_replica_exists: bool,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Show what replicas hold: snapshots, files, restorable times
#[derive(Args)]
#[command(after_help = "Exit: 0; 64 bad usage, 65 a gap or damage shows, 66 nothing is there,\n\
                  69 not reachable, 78 bad configuration.\n\n\
                  Example:\n  litevisor list s3://bucket/app --json")]
struct List {
    /// A configured database, a replica's URL or directory; default: all
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// For programs: one array with an object for each replica
    #[arg(long)]
    json: bool,
}

/// Prove replicas: restore into a scratch file, check every checksum
#[derive(Args)]
#[command(after_help = "The scratch file is in $TMPDIR, else beside the database, which is not touched.\n\
                  Exit: 0 sound; 64 bad usage, 65 damaged (the file is named), 66 nothing there,\n\
                  69 not reachable, 78 bad configuration or no place for the scratch file.\n\n\
                  Example:\n  litevisor verify /data/app.db")]
struct Verify {
    /// A configured database, a replica's URL or directory; default: all
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// Use SQLite's quick_check instead of integrity_check
    #[arg(long)]
    quick: bool,
}

/// Check the configuration, print what is in effect
#[derive(Args)]
#[command(after_help = "--connect lists each replica, creates one small object beside it\n\
                  (litevisor-check-….txt), reads it and deletes it. Nothing else is touched.\n\n\
                  Exit: 0 usable; 69 a replica is away or a right is missing (each is named),\n\
                  78 bad configuration, with every problem's line and key.\n\n\
                  Example:\n  litevisor check --config supervisor.toml --connect")]
struct Check {
    /// Also try in each replica what litevisor needs to do
    #[arg(long)]
    connect: bool,
}

/// Print a litestream.yml as a supervisor.toml
#[derive(Args)]
#[command(after_help = "Comments tell what has no counterpart, and why. Variables stay references.\n\
                  `litevisor run --config litestream.yml` runs from it as it is.\n\
                  Exit: 0; 64 bad usage, 78 it cannot be taken over, with every line and key.\n\n\
                  Example:\n  litevisor import /etc/litestream.yml > supervisor.toml")]
struct Import {
    /// Litestream's configuration, of version 0.3 or 0.5
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).ok_or_else(|| "a time is written as 2026-05-04T12:00:00Z or 2026-05-04T14:00:00.5+02:00".into())
}

fn txid(text: &str) -> Result<Txid, String> {
    match Txid::from_hex(text) {
        Some(txid) if txid > Txid::NONE => Ok(txid),
        _ => Err("a TXID is a hexadecimal number from 1 on, as in the names of LTX files".into()),
    }
}

/// `args` with the program's name in front.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Printed> {
    let Cli { config, command } = Cli::try_parse_from(args).map_err(|error| print(&error))?;
    let action = match command {
        Commands::Run(run) => run.checked()?,
        Commands::Replicate(Replicate { once }) => Action::Replicate { once },
        Commands::Restore(restore) => restore.checked()?,
        Commands::List(List { subject, json }) => Action::List { subject, json },
        Commands::Verify(Verify { subject, quick }) => Action::Verify { subject, quick },
        Commands::Status(status) => status.action(),
        Commands::Sync(sync) => sync.action(),
        Commands::Healthcheck(healthcheck) => healthcheck.action(),
        Commands::Check(Check { connect }) => Action::Check { connect },
        Commands::Import(Import { file }) => Action::Import { file },
    };
    Ok(Invocation { config, action })
}

impl Run {
    fn checked(self) -> Result<Action, Printed> {
        let (databases, replicas) = (self.db.len(), self.replica.len());
        if databases != replicas {
            let told = format!("--db and --replica come in pairs: there are {databases} --db and {replicas} --replica");
            return Err(usage(&told, "run"));
        }
        Ok(Action::Run { pairs: self.db.into_iter().zip(self.replica).collect(), command: self.command })
    }
}

impl Restore {
    fn checked(self) -> Result<Action, Printed> {
        let Restore { subject, out, txid, timestamp, if_replica_exists, force, dry_run } = self;
        let is_url = subject.as_ref().is_some_and(|subject| subject.to_string_lossy().contains("://"));
        if is_url && out.is_none() {
            return Err(usage("a replica's URL needs -o OUT: where the database goes", "restore"));
        }
        if txid.is_some() && subject.is_none() {
            return Err(usage("--txid needs one DB or URL: every database counts its own transactions", "restore"));
        }
        let target = match (txid, timestamp) {
            (Some(txid), _) => Target::Txid(txid),
            (None, Some(timestamp)) => Target::Time(timestamp),
            (None, None) => Target::Latest,
        };
        Ok(Action::Restore(RestoreArgs { subject, out, target, if_replica_exists, force, dry_run }))
    }
}

/// A mistake that clap cannot see, in its style.
fn usage(told: &str, command: &str) -> Printed {
    let mut root = Cli::command();
    root.build();
    let usage = match root.find_subcommand_mut(command) {
        Some(command) => command.render_usage().to_string(),
        None => root.render_usage().to_string(),
    };
    let text = format!("error: {told}\n\n{usage}\n\nFor more information, try '--help'.\n");
    Printed { text, to_stdout: false, code: exit::USAGE }
}

fn print(error: &clap::Error) -> Printed {
    let mut text = error.render().to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Printed { text, to_stdout: true, code: 0 },
        ErrorKind::InvalidSubcommand => match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) => unknown_command(name),
            _ => Printed { text, to_stdout: false, code: exit::USAGE },
        },
        _ => Printed { text, to_stdout: false, code: exit::USAGE },
    }
}

fn unknown_command(name: &str) -> Printed {
    let root = Cli::command();
    let told =
        format!("there is no command \"{name}\"{}", hint(name, root.get_subcommands().map(clap::Command::get_name)));
    let told = if told.ends_with('?') { told } else { format!("{told}; to run an app: litevisor run -- {name}") };
    usage(&told, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn read(line: &str) -> Result<Invocation, Printed> {
        parse(std::iter::once("litevisor").chain(line.split_whitespace()).map(OsString::from))
    }

    fn run(config: Option<&str>, pairs: &[(&str, &str)], command: &[&str]) -> Invocation {
        let pairs = pairs.iter().map(|(db, replica)| (PathBuf::from(db), (*replica).to_owned())).collect();
        let action = Action::Run { pairs, command: command.iter().map(OsString::from).collect() };
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
        };
        let line = "restore --force -o x.db s3://b/p --txid 2F --if-replica-exists";
        assert_eq!(read(line).map(|found| found.action), Ok(Action::Restore(args)));
        let none = read("restore --config f").unwrap();
        assert_eq!((none.config, none.action), (Some("f".into()), Action::Restore(RestoreArgs::default())));
        assert_eq!(read("check").map(|found| found.action), Ok(Action::Check { connect: false }));
        assert_eq!(read("check --connect").map(|found| found.action), Ok(Action::Check { connect: true }));
        assert_eq!(read("import x.yml").map(|found| found.action), Ok(Action::Import { file: "x.yml".into() }));
        let Ok(Invocation { action: Action::Restore(at), .. }) =
            read("restore --dry-run --timestamp 2026-11-22T08:01:19.453+02:00")
        else {
            panic!("restore")
        };
        assert_eq!((at.target, at.dry_run), (Target::Time(Moment(1_795_327_279_453)), true));
        assert_eq!(read("replicate").map(|found| found.action), Ok(Action::Replicate { once: false }));
        assert_eq!(read("replicate --once").map(|found| found.action), Ok(Action::Replicate { once: true }));
        let list = Action::List { subject: Some("file:///r".into()), json: true };
        assert_eq!(read("list --json file:///r").map(|found| found.action), Ok(list));
        let (socket, db) = (Some("/s".into()), Some("a.db".into()));
        for (line, action) in [
            ("status --json", Action::Status { socket: None, json: true }),
            ("sync", Action::Sync { socket: None, db: None, timeout: Duration::from_secs(30) }),
            ("sync a.db --timeout 1m30s --socket /s", Action::Sync { socket, db, timeout: Duration::from_secs(90) }),
            ("healthcheck --live", Action::Healthcheck { socket: None, live: true }),
        ] {
            assert_eq!(read(line).map(|found| found.action), Ok(action), "{line}");
        }
        let verify = Action::Verify { subject: None, quick: true };
        assert_eq!(read("verify --quick").map(|found| found.action), Ok(verify));
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
        let commands =
            ["run", "replicate", "restore", "list", "verify", "check", "import", "status", "sync", "healthcheck"];
        let lines = commands.map(|command| format!("{command} --help"));
        for line in lines.iter().map(String::as_str).chain(["--help", "-h"]) {
            let printed = read(line).unwrap_err();
            assert_eq!((printed.code, printed.to_stdout), (0, true), "{line}");
            let (rows, columns) =
                (printed.text.lines().count(), printed.text.lines().map(|row| row.chars().count()).max());
            assert!(rows <= 24 && columns <= Some(80), "{line}: {rows} x {columns:?}\n{}", printed.text);
            assert!(printed.text.contains("Example"), "{line}");
        }
        assert_eq!(read("--version").unwrap_err().text, format!("litevisor {}\n", env!("CARGO_PKG_VERSION")));
    }
}
