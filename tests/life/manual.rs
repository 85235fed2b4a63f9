//! `litevisor man` and `litevisor completions`, judged by groff and the shells.

use crate::support::asking::{client, said};
use std::process::{Command, Stdio};

fn printed(words: &[&str]) -> String {
    let said = said(client(words).output().unwrap());
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    said.out
}

/// The commands of `--help`.
fn commands() -> Vec<String> {
    let help = printed(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    list.lines()
        .map_while(|line| Some(line.strip_prefix("  ")?.split_whitespace().next()?.to_owned()))
        .collect()
}

/// The options of a command's `--help`, long and short.
fn options(command: &str) -> Vec<String> {
    let help = printed(&[command, "--help"]);
    let (_, list) = help.split_once("Options:\n").unwrap();
    let words = list
        .lines()
        .take_while(|line| line.starts_with(' '))
        .filter(|line| line.trim_start().starts_with('-'));
    let names = words.flat_map(|line| {
        line.split([' ', ','])
            .take_while(|word| word.is_empty() || word.starts_with('-'))
            .filter(|word| !word.is_empty())
            .map(String::from)
            .collect::<Vec<_>>()
    });
    names.collect()
}

/// Runs a program with a text on its stdin: stdout and stderr.
fn through(program: &str, words: &[&str], text: &str) -> (bool, String, String) {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}: run tests/setup.sh"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|threads| {
        threads.spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
        child.wait_with_output().unwrap()
    });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_manual_page_is_readable_and_complete() {
    let roff = printed(&["man"]);
    let (good, page, wrong) = through("groff", &["-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=80n"], &roff);
    assert!(good && wrong.is_empty(), "{wrong}");
    for heading in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "SIGNALS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "SEE ALSO",
    ] {
        assert!(page.lines().any(|line| line == heading), "{heading}\n{page}");
    }
    let wide: Vec<&str> = page.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let broken: Vec<&str> = page
        .lines()
        .filter(|line| line.ends_with('‐') || line.contains('`') || line.contains("\\"))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let all = commands();
    assert!(all.len() > 14, "{all:?}");
    for command in all {
        let (_, section) =
            page.split_once(&format!("\n   litevisor {command}\n")).unwrap_or_else(|| panic!("{command}"));
        let section = section.split("\n   litevisor ").next().unwrap();
        for option in options(&command)
            .into_iter()
            .filter(|name| !["--config", "-h", "--help"].contains(&name.as_str()))
        {
            assert!(
                section.contains(&format!("{option} ")) || section.contains(&format!("{option}\n")),
                "{command} {option}"
            );
        }
    }
    // The examples can be copied: their hyphens are hyphens.
    assert!(page.contains("litevisor run --db app.db --replica s3://bucket/app -- /usr/bin/app\n"), "{page}");
}

/// What bash completes at the end of `line`.
fn bash(line: &str) -> Vec<String> {
    let script = format!(
        "{}\nCOMP_WORDS=({line} \"\")\n[[ '{line}' == *' ' ]] || unset 'COMP_WORDS[-1]'\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         cur=${{COMP_WORDS[COMP_CWORD]}}; prev=${{COMP_WORDS[COMP_CWORD-1]}}\n_litevisor litevisor \"$cur\" \"$prev\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        printed(&["completions", "bash"])
    );
    let (good, found, wrong) = through("bash", &["--norc", "-s"], &script);
    assert!(good && wrong.is_empty(), "{line}: {wrong}");
    found.lines().map(String::from).collect()
}

#[test]
fn bash_completes() {
    let all = bash("litevisor ");
    for command in commands() {
        assert!(all.contains(&command), "{command}: {all:?}");
        let found = bash(&format!("litevisor {command} --"));
        for option in options(&command).into_iter().filter(|option| option.starts_with("--")) {
            assert!(found.contains(&option), "{command} {option}: {found:?}");
        }
    }
    for (line, expected) in [
        ("litevisor re", &["replicate", "restore", "rekey"][..]),
        ("litevisor restore --ti", &["--timestamp"]),
        ("litevisor --config /x.toml list --re", &["--retention"]),
        ("litevisor completions fi", &["fish"]),
        ("litevisor run --nothing", &[""]),
        ("litevisor check --config /etc/os-rele", &["/etc/os-release"]),
    ] {
        assert_eq!(bash(line), expected, "{line}");
    }
}

/// zsh and fish read their scripts, and fish completes.
#[test]
fn other_shells_take_their_scripts() {
    let zsh = format!(
        "autoload -U compinit; compinit -u -D; {}\nprint $_comps[litevisor]",
        printed(&["completions", "zsh"])
    );
    let (good, said, wrong) = through("zsh", &["-f", "-s"], &zsh);
    assert!(good && wrong.is_empty() && said.trim() == "_litevisor", "{said}{wrong}");
    let fish = printed(&["completions", "fish"]);
    let ask = format!("{fish}\ncomplete -C 'litevisor restore --dr'\ncomplete -C 'litevisor heal'");
    let (good, said, wrong) = through("fish", &["--no-config"], &ask);
    assert!(good && wrong.is_empty(), "{wrong}");
    assert!(said.contains("--dry-run\t") && said.contains("healthcheck\t"), "{said}");
    for (shell, part) in [("elvish", "edit:completion"), ("powershell", "Register-ArgumentCompleter")] {
        assert!(printed(&["completions", shell]).contains(part), "{shell}");
    }
}
