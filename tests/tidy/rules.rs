//! The style rules. Each takes one file's path and text (or the whole tree's) and returns what is wrong,
//! ready to print.

use super::source::{code, has_word, item_end, without_tests};
use std::collections::BTreeMap;

pub const FILE_LINES_MAX: usize = 500;
pub const FUNCTION_LINES_MAX: usize = 70;

/// Who may import whom: a module's row; lower rows only.
const ROWS: [&[&str]; 9] = [
    &["model"],
    &["rights", "wal"],
    &["sqlite", "store", "ltx", "local_state"],
    &["v3"],
    &["replica"],
    &["lineage"],
    &["restore", "replicate", "supervise", "gate", "handover"],
    &["run", "lifecycle", "exit", "config", "observe"],
    &["main", "cli", "commands"],
];

/// In its own row, only these see the others.
const SEE_SIDEWAYS: [&str; 2] = ["run", "main"];

pub struct File<'a> {
    /// From the repository's root.
    pub path: &'a str,
    pub text: &'a str,
}

impl File<'_> {
    /// `restore` for src/restore/plan.rs and src/restore.rs.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split('/').next().map(|name| name.strip_suffix(".rs").unwrap_or(name))
    }

    /// What is shipped: no comments, no literals, no tests.
    fn shipped(&self) -> String {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return String::new();
        }
        without_tests(&code(self.text))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path)
    }
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

pub fn imports_go_down(file: &File) -> Vec<String> {
    let Some(own) = file.module().filter(|module| *module != "lib") else { return Vec::new() };
    let Some(own_row) = row(own) else {
        return vec![file.wrong(format!("module `{own}` has no row in architecture.md"))];
    };
    let shipped = file.shipped();
    let mut wrong = Vec::new();
    for other in imported_modules(&shipped) {
        match row(&other) {
            _ if other == own => {}
            None => wrong.push(file.wrong(format!("imports `{other}`, which has no row"))),
            Some(row) if row < own_row || (row == own_row && SEE_SIDEWAYS.contains(&own)) => {}
            Some(row) => wrong
                .push(file.wrong(format!("`{own}` (row {own_row}) must not import `{other}` (row {row})"))),
        }
    }
    wrong
}

/// First names after `crate::` and `litevisor::`, also in `crate::{a, b::c}`.
fn imported_modules(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "litevisor::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                None => found.push(first_name(rest)),
                Some(_) => found.extend(names_in_group(&rest[..item_end(rest, 0)])),
            }
        }
    }
    // `crate::Thing` is a re-export of the root, `crate::NAME!` a macro: neither is a module.
    found.retain(|name| name.starts_with(|char: char| char.is_lowercase()));
    found
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

fn names_in_group(group: &str) -> Vec<String> {
    let (mut depth, mut names) = (0, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && matches!(char, '{' | ',') {
            names.push(first_name(&group[at + 1..]));
        }
    }
    names
}

pub fn says_what_it_owns(file: &File) -> Vec<String> {
    if file.text.starts_with("//!") { Vec::new() } else { vec![file.wrong("does not open with `//!`")] }
}

pub fn is_not_too_long(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= FILE_LINES_MAX { Vec::new() } else { vec![file.wrong(format!("{lines} lines; split it"))] }
}

pub fn functions_are_short(file: &File) -> Vec<String> {
    let code = file.shipped();
    let mut wrong = Vec::new();
    for (at, _) in
        code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric()))
    {
        let name = first_name(&code[at + 3..]);
        let lines = code[at..item_end(&code, at)].lines().count();
        if !name.is_empty() && lines > FUNCTION_LINES_MAX {
            wrong.push(file.wrong(format!("fn {name} has {lines} lines")));
        }
    }
    wrong
}

/// A word that is at home in some places only.
struct Home {
    word: &'static str,
    /// Path prefixes.
    homes: &'static [&'static str],
    why: &'static str,
}

const HOMES: [Home; 13] = [
    Home {
        word: "Quiet::attest",
        homes: &["src/supervise", "src/run/"],
        why: "only who waited for all may say that all is quiet",
    },
    Home {
        word: "AppTreeExited::attest",
        homes: &["src/supervise"],
        why: "only who waited for all may say that they are gone",
    },
    Home {
        word: "Restored::attest",
        homes: &["src/restore", "src/run/engine.rs"],
        why: "only a finished restore may say so",
    },
    Home { word: "waitpid", homes: &["src/supervise"], why: "one reaper" },
    Home { word: "waitid", homes: &["src/supervise"], why: "one reaper" },
    Home { word: "tokio::process", homes: &[], why: "it reaps by itself and steals statuses" },
    Home {
        word: "process::Command",
        homes: &[],
        why: "it reaps by itself; processes are started by supervise",
    },
    Home { word: "rusqlite", homes: &["src/sqlite"], why: "the descriptor rule has one owner" },
    Home { word: "println!", homes: &[], why: "panics on a closed pipe" },
    Home { word: "eprintln!", homes: &[], why: "panics on a closed pipe" },
    Home { word: "print!", homes: &[], why: "panics on a closed pipe" },
    Home { word: "eprint!", homes: &[], why: "panics on a closed pipe" },
    Home { word: "dbg!", homes: &[], why: "panics on a closed pipe" },
];

pub fn words_are_at_home(file: &File) -> Vec<String> {
    let shipped = file.shipped();
    let strays = HOMES.iter().filter(|home| !home.homes.iter().any(|prefix| file.path.starts_with(prefix)));
    strays
        .filter(|home| has_word(&shipped, home.word))
        .map(|home| file.wrong(format!("`{}`: {}", home.word, home.why)))
        .collect()
}

pub fn one_file_reaps(files: &[File]) -> Vec<String> {
    let waits = |file: &&File| ["waitpid", "waitid"].iter().any(|word| has_word(&file.shipped(), word));
    let reapers: Vec<&str> = files.iter().filter(waits).map(|file| file.path).collect();
    if reapers.len() <= 1 {
        Vec::new()
    } else {
        vec![format!("more than one file waits for children: {reapers:?}")]
    }
}

/// Every file is named by a `mod` of its parent.
pub fn nothing_is_dead(files: &[File]) -> Vec<String> {
    let codes: BTreeMap<&str, String> = files.iter().map(|file| (file.path, code(file.text))).collect();
    let mut wrong = Vec::new();
    for file in files {
        let (directory, name) = file.path.trim_end_matches(".rs").rsplit_once('/').unwrap_or(("", file.path));
        let (directory, name) = if name == "mod" {
            directory.rsplit_once('/').unwrap_or(("", directory))
        } else {
            (directory, name)
        };
        if directory == "src" && matches!(name, "main" | "lib") {
            continue;
        }
        let parents = if directory == "src" {
            vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()]
        } else {
            vec![format!("{directory}/mod.rs"), format!("{directory}.rs")]
        };
        let declared = |parent: &String| {
            codes.get(parent.as_str()).is_some_and(|code| has_word(code, &format!("mod {name};")))
        };
        if !parents.iter().any(declared) {
            wrong.push(file.wrong("no `mod` leads here"));
        }
    }
    wrong
}

/// Words that belong to somebody's machine or to a registry, put together here so that this file does not
/// hold them.
pub fn foreign_words() -> Vec<String> {
    let parts: [(&str, &str); 9] = [
        ("/wo", "rk/"),
        ("/tmp/", "wt/"),
        ("/tmp/", "peers"),
        ("crates", ".io"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("registry.npmjs", ".org"),
        ("deb.debian", ".org"),
        ("proxy.golang", ".org"),
    ];
    parts.iter().map(|(first, second)| format!("{first}{second}")).collect()
}

pub fn names_no_place(file: &File) -> Vec<String> {
    let words = foreign_words();
    let line_of = |word: &String| file.text.lines().position(|line| line.contains(word.as_str()));
    words
        .iter()
        .filter_map(|word| Some(file.wrong(format!("line {}: names `{word}`", line_of(word)? + 1))))
        .collect()
}

/// Under `pipefail`, a reader that ends before its writer makes the whole pipe fail, but only sometimes.
pub fn pipes_are_read_to_their_end(file: &File) -> Vec<String> {
    let impatient =
        |line: &&str| [" | grep -q", " | head", " | grep -m"].iter().any(|reader| line.contains(reader));
    let wrong =
        file.text.lines().filter(|_| file.text.contains("pipefail") || file.text.starts_with("# Sourced by"));
    wrong.filter(impatient).map(|line| file.wrong(format!("reads a pipe in part: {}", line.trim()))).collect()
}
