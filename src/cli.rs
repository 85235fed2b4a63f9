//! The command line: arguments → an `Invocation`, or a text to print and the exit code. Opens no file.

mod json;
mod manual;
mod ops;
mod shell;

pub use json::{JsonKind, json_kind};

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
        /// `--gate LISTEN=APP`, in order.
        gates: Vec<String>,
        /// The databases are read-only copies of their replicas.
        follow: bool,
        command: Vec<OsString>,
    },
    /// A file is kept up with a replica, without an app.
    Follow {
        subject: OsString,
        out: PathBuf,
        poll: Option<Duration>,
        once: bool,
    },
    /// Without an app.
    Replicate {
        once: bool,
    },
    Restore(RestoreArgs),
    /// What a replica holds.
    List {
        subject: Option<OsString>,
        retention: bool,
        json: bool,
    },
    /// Whether a replica can be restored.
    Verify {
        subject: Option<OsString>,
        quick: bool,
        history: bool,
        json: bool,
    },
    /// Copy a replica, with other keys.
    Rekey(RekeyArgs),
    /// The state of the running supervisor.
    Status {
        socket: Option<PathBuf>,
        json: bool,
    },
    /// Waits until everything committed is in the replica.
    Sync {
        socket: Option<PathBuf>,
        db: Option<PathBuf>,
        timeout: Duration,
        json: bool,
    },
    /// The running supervisor takes over.
    Promote {
        socket: Option<PathBuf>,
        force: bool,
        timeout: Duration,
        json: bool,
    },
    /// The running supervisor releases its replica.
    HandOver {
        socket: Option<PathBuf>,
        timeout: Duration,
        json: bool,
    },
    Healthcheck {
        socket: Option<PathBuf>,
        live: bool,
        json: bool,
    },
    Check {
        /// Also try each replica.
        connect: bool,
        json: bool,
    },
    /// Print a litestream.yml as our own configuration.
    Import {
        file: PathBuf,
        json: bool,
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
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekeyArgs {
    /// A configured database's path or a replica's URL.
    pub subject: OsString,
    /// The copy's URL.
    pub to: String,
    pub identities: Option<PathBuf>,
    pub recipients: Option<PathBuf>,
    pub plain: bool,
}

/// Help, the version, completions, the manual, or an error of the command line: print this and exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub text: String,
    /// Mistakes go to stderr.
    pub to_stdout: bool,
    pub code: u8,
}

impl Printed {
    /// A mistake, without the usage.
    pub fn problem(&self) -> Option<&str> {
        let mistake = self.text.strip_prefix("error: ").filter(|_| self.code != 0)?;
        Some(mistake.split_once("\n\n").map_or(mistake, |(problem, _)| problem).trim_end())
    }
}

/// Container entrypoint for SQLite apps: restores, supervises, replicates, flushes.
#[derive(Parser)]
#[command(
    name = "litevisor",
    version,
    subcommand_required = true,
    disable_help_subcommand = true,
    // The overview fits on a small screen.
    help_template = "{about}\n{usage-heading} {usage}\n\n{all-args}\n\
                     Example: litevisor run --db app.db --replica s3://bucket/app -- /usr/bin/app\n"
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
    Follow(Follow),
    List(List),
    Verify(Verify),
    Rekey(Rekey),
    Check(Check),
    Status(ops::Status),
    Sync(ops::Sync),
    Promote(ops::Promote),
    #[command(name = "handover")]
    HandOver(ops::HandOver),
    Healthcheck(ops::Healthcheck),
    Import(Import),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Restore, start the app, replicate while it runs, flush at the end
#[derive(Args)]
#[command(after_help = "Without --config, --db and --replica stand for a configuration file.\n\
                  Exit: the app's status; 64 bad usage, 65 replica damaged, 69 replica away,\n\
                  74 last flush incomplete, 75 replica taken over, 78 bad configuration,\n\
                  126 and 127 when the command cannot be executed or found.\n\n\
                  Example:\n  litevisor run --db app.db --replica s3://bucket/app -- /usr/bin/app")]
struct Run {
    /// Database file, one for each --replica, in order
    #[arg(long, value_name = "PATH")]
    db: Vec<PathBuf>,
    /// Its replica: s3://bucket/prefix or file:///directory
    #[arg(long, value_name = "URL")]
    replica: Vec<String>,
    /// Hold the answers until they are durable (:80=3000)
    #[arg(long, value_name = "LISTEN=APP")]
    gate: Vec<String>,
    /// Beside read-only copies of the databases
    #[arg(long)]
    follow: bool,
    /// The app and its arguments; replaces the configured command
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = false)]
    command: Vec<OsString>,
}

/// Replicate databases of an app that litevisor does not start
#[derive(Args)]
#[command(after_help = "Restores missing databases, replaces none, and replicates until\n\
                  SIGTERM or SIGINT: then it flushes until no process has a database open.\n\
                  Exit: 0 stopped and complete; 65 not restored, or a file is not the replica's;\n\
                  66 no database (--once), 69 replica away, 74 last flush incomplete,\n\
                  75 replica taken over, 78 bad configuration.\n\n\
                  Example:\n  litevisor replicate --config supervisor.toml")]
struct Replicate {
    /// Restore nothing; end when everything is uploaded
    #[arg(long)]
    once: bool,
}

/// Restore databases from their replicas, without starting anything
#[derive(Args)]
#[command(after_help = "Exit: 0 restored; 64 bad usage, 65 replica damaged, 66 no replica or no such\n\
                  state, 69 replica not reachable, 78 bad configuration or the file exists.\n\n\
                  Example:\n  litevisor restore app.db -o old.db --timestamp 2026-05-04T12:00:00Z")]
struct Restore {
    /// A configured database, or a replica's URL; default: all databases
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// Write to this file instead of the database's own
    #[arg(short, long = "output", value_name = "OUT")]
    out: Option<PathBuf>,
    /// Restore the last commit at or before this time
    #[arg(long, value_name = "RFC3339", value_parser = moment, conflicts_with = "txid")]
    timestamp: Option<Moment>,
    /// Restore the state right after this transaction
    #[arg(long, value_name = "HEX", value_parser = txid)]
    txid: Option<Txid>,
    /// Exit 0 and do nothing if the replica is empty
    #[arg(long)]
    if_replica_exists: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, and write the log as JSON lines
    #[arg(long)]
    json: bool,
}

/// Keep a file up with a replica that another instance writes
#[derive(Args)]
#[command(after_help = "Until SIGTERM or SIGINT. Programs may read the file meanwhile; they see whole\n\
                  transactions. The replica is only read.\n\
                  Exit: 0; 64 bad usage, 65 replica damaged, 66 replica empty, 69 not reachable,\n\
                  78 bad configuration, or the file is no copy of this replica.\n\n\
                  Example:\n  litevisor follow -o /data/copy.db s3://bucket/app")]
struct Follow {
    /// A configured database, or a replica's URL
    #[arg(value_name = "DB | URL")]
    subject: OsString,
    /// The file
    #[arg(short, long = "output", value_name = "OUT")]
    out: PathBuf,
    /// Between two looks at the replica; default: 1s
    #[arg(long, value_name = "TIME", value_parser = ops::poll)]
    poll: Option<Duration>,
    /// End when the file has what is in the replica
    #[arg(long)]
    once: bool,
}

/// Show what replicas hold: snapshots, files, restorable times
#[derive(Args)]
#[command(after_help = "Exit: 0; 64 bad usage, 65 a gap or damage was found, 66 no replica,\n\
                  69 not reachable, 78 bad configuration.\n\n\
                  Example:\n  litevisor list s3://bucket/app --json")]
struct List {
    /// A configured database, a replica's URL or directory; default: all
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// Show what retention would keep and delete now
    #[arg(long)]
    retention: bool,
    /// Print JSON, and write the log as JSON lines
    #[arg(long)]
    json: bool,
}

/// Prove replicas: restore into a scratch file, check every checksum
#[derive(Args)]
#[command(after_help = "The scratch file is in $TMPDIR, else in the database's meta_dir, else beside the\n\
                  database, which is not touched.\n\
                  Exit: 0 sound; 64 bad usage, 65 damaged (the file is named), 66 no replica,\n\
                  69 not reachable, 78 bad configuration or no place for the scratch file.\n\n\
                  Example:\n  litevisor verify /data/app.db")]
struct Verify {
    /// A configured database, a replica's URL or directory; default: all
    #[arg(value_name = "DB | URL")]
    subject: Option<OsString>,
    /// Use SQLite's quick_check instead of integrity_check
    #[arg(long)]
    quick: bool,
    /// Show the records of the scheduled proofs instead
    #[arg(long, conflicts_with = "quick")]
    history: bool,
    /// Print JSON, and write the log as JSON lines
    #[arg(long)]
    json: bool,
}

/// Copy a replica to another place, encrypted for other keys
#[derive(Args)]
#[command(after_help = "The app must be stopped. The replica is only read; a copy that was cut off is\n\
                  continued. Change the configuration when it is done.\n\
                  Exit: 0 copied and read back; 64 bad usage, 65 damaged, 66 no replica,\n\
                  69 not reachable, 78 wrong keys, or the place holds another replica.\n\n\
                  Example:\n  litevisor rekey app.db --to s3://bucket/app-2 --identities new.txt")]
struct Rekey {
    /// A configured database, or a replica's URL
    #[arg(value_name = "DB | URL")]
    subject: OsString,
    /// An empty place for the copy
    #[arg(long, value_name = "URL")]
    to: String,
    /// Its age identities; default: the configured ones
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Its age recipients; default: those of the identities
    #[arg(long, value_name = "FILE")]
    recipients: Option<PathBuf>,
    /// Do not encrypt the copy
    #[arg(long, conflicts_with_all = ["identities", "recipients"])]
    plain: bool,
}

/// Check the configuration and print the effective settings
#[derive(Args)]
#[command(after_help = "--connect lists each replica, creates a small object there\n\
                  (litevisor-check-….txt; where conditions are probed, .litevisor-probe.tmp),\n\
                  reads it and deletes it. With [follow] it lists and reads only.\n\n\
                  Exit: 0 usable; 69 a replica is away or a right is missing (each is named),\n\
                  78 bad configuration, with every problem's line and key, wrong keys, or a\n\
                  store that cannot have the records of [handover].\n\n\
                  Example:\n  litevisor check --config supervisor.toml --connect")]
struct Check {
    /// Also test in each replica what litevisor needs to do
    #[arg(long)]
    connect: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print a litestream.yml as a supervisor.toml
#[derive(Args)]
#[command(after_help = "Comments name the keys without a counterpart. Variables stay references.\n\
                  `litevisor run --config litestream.yml` runs from it as it is.\n\
                  Exit: 0; 64 bad usage, 78 it cannot be converted, with every line and key.\n\n\
                  Example:\n  litevisor import /etc/litestream.yml > supervisor.toml")]
struct Import {
    /// Litestream's configuration, of version 0.3 or 0.5
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text)
        .ok_or_else(|| "a time is written as 2026-05-04T12:00:00Z or 2026-05-04T14:00:00.5+02:00".into())
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
        Commands::Follow(Follow { subject, out, poll, once }) => Action::Follow { subject, out, poll, once },
        Commands::List(List { subject, retention, json }) => Action::List { subject, retention, json },
        Commands::Verify(Verify { subject, quick, history, json }) => {
            Action::Verify { subject, quick, history, json }
        }
        Commands::Rekey(Rekey { subject, to, identities, recipients, plain }) => {
            Action::Rekey(RekeyArgs { subject, to, identities, recipients, plain })
        }
        Commands::Status(status) => status.action(),
        Commands::Sync(sync) => sync.action(),
        Commands::Promote(promote) => promote.action(),
        Commands::HandOver(hand_over) => hand_over.action(),
        Commands::Healthcheck(healthcheck) => healthcheck.action(),
        Commands::Check(Check { connect, json }) => Action::Check { connect, json },
        Commands::Import(Import { file, json }) => Action::Import { file, json },
        Commands::Completions(completions) => return Err(completions.printed()),
        Commands::Man(_) => return Err(shell::manual()),
    };
    Ok(Invocation { config, action })
}

impl Run {
    fn checked(self) -> Result<Action, Printed> {
        let databases = self.db.len();
        let replicas = self.replica.len();
        if databases != replicas {
            let message = format!(
                "--db and --replica come in pairs: there are {databases} --db and {replicas} --replica"
            );
            return Err(usage(&message, "run"));
        }
        let pairs = self.db.into_iter().zip(self.replica).collect();
        Ok(Action::Run { pairs, gates: self.gate, follow: self.follow, command: self.command })
    }
}

impl Restore {
    fn checked(self) -> Result<Action, Printed> {
        let Restore { subject, out, txid, timestamp, if_replica_exists, force, dry_run, json } = self;
        let is_url = subject.as_ref().is_some_and(|subject| subject.to_string_lossy().contains("://"));
        if is_url && out.is_none() {
            return Err(usage("a replica's URL needs -o OUT: where the database goes", "restore"));
        }
        if txid.is_some() && subject.is_none() {
            return Err(usage(
                "--txid needs one DB or URL: every database counts its own transactions",
                "restore",
            ));
        }
        let target = match (txid, timestamp) {
            (Some(txid), _) => Target::Txid(txid),
            (None, Some(timestamp)) => Target::Time(timestamp),
            (None, None) => Target::Latest,
        };
        Ok(Action::Restore(RestoreArgs { subject, out, target, if_replica_exists, force, dry_run, json }))
    }
}

/// An error that clap cannot detect, in clap's style.
fn usage(message: &str, command: &str) -> Printed {
    let mut root = Cli::command();
    root.build();
    let usage = match root.find_subcommand_mut(command) {
        Some(command) => command.render_usage().to_string(),
        None => root.render_usage().to_string(),
    };
    let text = format!("error: {message}\n\n{usage}\n\nFor more information, try '--help'.\n");
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
    let message = format!(
        "there is no command \"{name}\"{}",
        hint(name, root.get_subcommands().map(clap::Command::get_name))
    );
    let message = if message.ends_with('?') {
        message
    } else {
        format!("{message}; to run an app: litevisor run -- {name}")
    };
    usage(&message, "")
}

#[cfg(test)]
mod tests;
