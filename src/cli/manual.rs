//! The manual page, from the command line's definition and `manual/sections.txt`. Pure.

mod roff;

use clap::{Arg, Command};
use roff::{blocks, bold, escaped, italic, item};

const SECTIONS: &str = include_str!("manual/sections.txt");
/// The lines of `SECTIONS` in whose places the generated parts come.
const SYNOPSIS: &str = "@synopsis\n";
const COMMANDS: &str = "@commands\n";

/// `root` is built: its commands have the options that are valid everywhere.
pub fn page(root: &Command) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page =
        format!(".TH LITEVISOR 1 \"\" \"litevisor {version}\" \"litevisor\"\n.nr HY 0\n.nh\n.ad l\n");
    let (before, rest) = SECTIONS.split_once(SYNOPSIS).unwrap_or_default();
    let (between, after) = rest.split_once(COMMANDS).unwrap_or_default();
    page += &blocks(before);
    page += &format!(
        ".nf\n{} [{}] {} [...]\n.fi\n",
        bold("litevisor"),
        bold("--config") + " " + &italic("FILE"),
        italic("COMMAND")
    );
    page += &blocks(between);
    root.get_subcommands().for_each(|command| page += &of_command(command));
    page += &blocks(after);
    page
}

fn of_command(command: &Command) -> String {
    let mut out = format!(".SS litevisor {}\n", escaped(command.get_name()));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    out += &format!("{}\n.PP\n{}", synopsis(usage), blocks(&format!("{about}.")));
    let positional = command.get_positionals();
    let options = command.get_opts().chain(command.get_arguments().filter(|arg| is_flag(arg)));
    for arg in positional.chain(options).filter(|arg| !is_everywhere(arg)) {
        out += &item(&term(arg), &meaning(arg));
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    out + ".PP\n" + &blocks(&paragraphs(&after))
}

/// Words in capitals are what the user gives.
fn synopsis(usage: &str) -> String {
    let word = |word: &str| {
        let is_given = word.chars().any(char::is_uppercase) && !word.contains("--");
        if is_given { escaped(word) } else { bold(word) }
    };
    usage.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn is_flag(arg: &Arg) -> bool {
    !arg.is_positional() && !arg.get_action().takes_values()
}

/// They are described once, under OPTIONS.
fn is_everywhere(arg: &Arg) -> bool {
    ["config", "help", "version"].contains(&arg.get_id().as_str())
}

/// `-o, --output OUT`.
fn term(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| bold(&format!("-{short}")));
    let long = arg.get_long().map(|long| bold(&format!("--{long}")));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let value = (!is_flag(arg)).then(|| italic(&arg.get_value_names().unwrap_or_default().join(" ")));
    let names = (!names.is_empty()).then(|| names.join(", "));
    names.into_iter().chain(value).collect::<Vec<_>>().join(" ")
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if !is_flag(arg) {
        let words: Vec<_> =
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        for (before, values) in [(": ", words.join(", ")), ("; default: ", default.join(" "))] {
            text += &(if values.is_empty() { String::new() } else { format!("{before}{values}") });
        }
    }
    text + "."
}

/// The text below the options as blocks: what is indented, and the exit statuses, are blocks of their own.
fn paragraphs(after_help: &str) -> String {
    format!("\n{after_help}").replace(":\n  ", ":\n\n  ").replace("\nExit: ", "\n\n`Exit status:` ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn built() -> Command {
        let mut root = super::super::Cli::command();
        root.build();
        root
    }

    #[test]
    fn every_command_and_option_is_there() {
        let (root, page) = (built(), page(&built()));
        for command in root.get_subcommands() {
            let (_, section) = page.split_once(&format!(".SS litevisor {}\n", command.get_name())).unwrap();
            let section = section.split(".SS ").next().unwrap();
            for arg in command.get_arguments().filter(|arg| !is_everywhere(arg)) {
                assert!(
                    section.contains(&format!(".TP\n{}\n", term(arg))),
                    "{}: {}",
                    command.get_name(),
                    term(arg)
                );
            }
            assert!(section.contains(".EX\n"), "{} has an example", command.get_name());
        }
        for part in [SYNOPSIS, COMMANDS] {
            assert!(SECTIONS.contains(part) && !page.contains(part.trim_end()), "{part}");
        }
    }

    /// The page and docs/exit-status.md have the same statuses.
    #[test]
    fn every_exit_status() {
        let documented = include_str!("../../docs/exit-status.md");
        let page = page(&built());
        let codes = documented
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" |").map(|(code, _)| code));
        let codes: Vec<_> =
            codes.filter(|code| code.starts_with(|first: char| first.is_ascii_digit())).collect();
        assert!(codes.len() > 9, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!(".TP\n{}\n", bold(code))), "{code}");
        }
    }
}
