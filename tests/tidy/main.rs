//! Style as a test: the rules of the house, held over the whole tree; and for each rule a sample that breaks
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod circles;
mod crates;
mod rules;
mod source;

use rules::File;
use std::path::Path;

/// Path and text of every text file under `directory` that belongs to the project.
fn tree(directory: &str, extension: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut left) = (Vec::new(), vec![root.join(directory)]);
    while let Some(path) = left.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if matches!(name.as_str(), "target" | ".git" | ".cache") {
            continue;
        }
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name.ends_with(extension) && name != "Cargo.lock" {
            let inside = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            // What is no text is no source.
            found.extend(std::fs::read_to_string(&path).ok().map(|text| (inside, text)));
        }
    }
    assert!(!found.is_empty(), "nothing found in {directory}: the rules would hold nothing");
    found
}

fn files(tree: &[(String, String)]) -> Vec<File<'_>> {
    tree.iter().map(|(path, text)| File { path, text }).collect()
}

fn hold(directories: &[&str], extension: &str, rule: impl Fn(&File) -> Vec<String>) {
    let trees: Vec<_> = directories.iter().map(|directory| tree(directory, extension)).collect();
    let wrong: Vec<String> = trees.iter().flat_map(|tree| files(tree)).flat_map(|file| rule(&file)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn imports_go_down_the_table_only() {
    hold(&["src"], ".rs", rules::imports_go_down);
}

#[test]
fn no_imports_run_in_a_circle() {
    let wrong = circles::circles(&files(&tree("src", ".rs")));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    hold(&["src", "tests", "examples", "benches"], ".rs", rules::says_what_it_owns);
}

#[test]
fn files_are_short() {
    hold(&["src", "tests", "examples", "benches"], ".rs", rules::is_not_too_long);
}

#[test]
fn functions_are_short() {
    hold(&["src", "examples", "benches"], ".rs", rules::functions_are_short);
}

#[test]
fn words_are_used_at_home_only() {
    hold(&["src"], ".rs", rules::words_are_at_home);
}

#[test]
fn exactly_one_file_reaps() {
    assert_eq!(rules::one_file_reaps(&files(&tree("src", ".rs"))), Vec::<String>::new());
}

#[test]
fn no_file_is_dead() {
    assert_eq!(rules::nothing_is_dead(&files(&tree("src", ".rs"))), Vec::<String>::new());
}

#[test]
fn the_tree_names_no_machine_and_no_registry() {
    hold(&[""], "", rules::names_no_place);
}

#[test]
fn scripts_read_pipes_to_their_end() {
    hold(&["docker", "tests", "examples", "benches"], ".sh", rules::pipes_are_read_to_their_end);
}

#[test]
fn duplicates_and_known_advisories_have_reasons() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let wrong = crates::wrong(&read("Cargo.lock"), &read("deny.toml"), &crates::ADVISORIES);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

mod samples {
    use super::rules::{self, File};
    use super::source;
    use super::{circles, crates};

    fn broken(rule: impl Fn(&File) -> Vec<String>, path: &str, text: &str) -> bool {
        !rule(&File { path, text }).is_empty()
    }

    #[test]
    fn imports() {
        let table = [
            ("src/restore/plan.rs", "use crate::model::Txid;", false),
            ("src/restore/plan.rs", "use crate::restore::survey;", false),
            ("src/restore/plan.rs", "use crate::{store::Store, ltx};", false),
            ("src/restore/plan.rs", "use crate::replicate::watch;", true),
            ("src/restore/plan.rs", "use crate::{model::Txid, config::Config};", true),
            ("src/model/txid.rs", "fn f() { crate::wal::scan() }", true),
            ("src/store/s3.rs", "use crate::sqlite::pages;", true),
            ("src/run/engine.rs", "use crate::config::Config;", false),
            ("src/config/mod.rs", "use crate::run::engine;", true),
            ("src/cli.rs", "use crate::commands::restore;", true),
            ("src/main.rs", "use litevisor::{cli, commands};", false),
            ("src/novel/mod.rs", "", true),
            ("src/model/txid.rs", "// crate::wal\nconst A: &str = \"crate::wal\";", false),
            ("src/model/txid.rs", "#[cfg(test)]\nmod tests { use crate::wal; }", false),
            ("src/model/txid.rs", "#[cfg(test)]\nmod tests { use crate::wal; }\nuse crate::ltx;", true),
        ];
        for (path, text, wrong) in table {
            assert_eq!(broken(rules::imports_go_down, path, text), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn crates_and_exceptions() {
        let lock = |packages: &[(&str, &str)]| {
            let one = |(name, version): &(&str, &str)| {
                format!("[[package]]\nname = {name:?}\nversion = {version:?}\n")
            };
            packages.iter().map(one).collect::<String>()
        };
        let deny = |skip: &str, ignore: &str| {
            format!("[bans]\nskip = [{skip}]\n[advisories]\nignore = [{ignore}]\n")
        };
        let (two, one) = (lock(&[("a", "1.0.0"), ("a", "2.0.0")]), lock(&[("a", "2.0.0")]));
        let skip = "{ crate = \"a@1.0.0\", reason = \"because of another\" }";
        let ignore = "{ id = \"R-1\", reason = \"it cannot be reached\" }";
        for (lock, skip, ignore, advisories, problems) in [
            (&two, skip, "", &[][..], 0),
            (&two, "", "", &[], 1),
            (&one, skip, "", &[], 1),
            (&two, "{ crate = \"a@1.0.0\" }", "", &[], 1),
            (&one, "", ignore, &[("R-1", "a")], 0),
            (&one, "", "", &[("R-1", "a")], 1),
            (&one, "", ignore, &[("R-1", "gone")], 1),
            (&one, "", ignore, &[], 1),
        ] {
            let wrong = crates::wrong(lock, &deny(skip, ignore), advisories);
            assert_eq!(wrong.len(), problems, "{lock} {skip} {ignore}: {wrong:?}");
        }
    }

    #[test]
    fn openings_and_lengths() {
        assert!(broken(rules::says_what_it_owns, "src/a.rs", "use std::fs;\n"));
        assert!(broken(rules::is_not_too_long, "src/a.rs", &"\n".repeat(501)));
        assert!(!broken(rules::is_not_too_long, "src/a.rs", &"\n".repeat(500)));
        let function = |lines: usize| {
            format!("impl A {{\n    pub fn a(&self) -> u8 {{{}}}\n}}\n", "\n".repeat(lines - 1))
        };
        assert!(broken(rules::functions_are_short, "src/a.rs", &function(71)));
        assert!(!broken(rules::functions_are_short, "src/a.rs", &function(70)));
        let braces_in_literals =
            function(40).replacen("{\n\n", "{ let _ = (\"{\", '{', r#\"{\"#); // {\n\n", 1);
        assert!(!broken(rules::functions_are_short, "src/a.rs", &braces_in_literals.repeat(2)));
    }

    #[test]
    fn words() {
        let table = [
            ("src/run/mod.rs", "nix::sys::wait::waitpid(None, None)", true),
            ("src/supervise/reap.rs", "waitpid(None, None)", false),
            ("src/replicate/upload.rs", "let proof = Quiet::attest();", true),
            ("src/supervise/reap.rs", "let proof = Quiet::attest();", false),
            ("src/run/mod.rs", "let proof = Restored::attest();", true),
            ("src/supervise/app.rs", "use std::process::Command;", true),
            ("src/supervise/app.rs", "tokio::process::Command::new(a)", true),
            ("src/store/file.rs", "rusqlite::Connection::open(a)", true),
            ("src/sqlite/hold.rs", "rusqlite::Connection::open(a)", false),
            ("src/commands/list.rs", "println!(\"a\")", true),
            ("src/commands/list.rs", "eprintln!(\"a\")", true),
            ("src/commands/list.rs", "writeln!(out, \"println!\")", false),
        ];
        for (path, text, wrong) in table {
            assert_eq!(broken(rules::words_are_at_home, path, text), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn whole_trees() {
        let file = |path, text| File { path, text };
        let reapers = [file("src/supervise/a.rs", "waitpid()"), file("src/supervise/b.rs", "waitid()")];
        assert!(!rules::one_file_reaps(&reapers).is_empty());
        assert!(rules::one_file_reaps(&reapers[..1]).is_empty());
        let roots = [
            file("src/lib.rs", "pub mod a;\n// mod c;"),
            file("src/a/mod.rs", "mod b;"),
            file("src/a/b.rs", ""),
        ];
        assert_eq!(rules::nothing_is_dead(&roots), Vec::<String>::new());
        for path in ["src/c.rs", "src/a/d.rs", "src/e/mod.rs"] {
            let with_dead =
                [file("src/lib.rs", "pub mod a;\n// mod c;"), file("src/a/mod.rs", "mod b;"), file(path, "")];
            assert_eq!(rules::nothing_is_dead(&with_dead).len(), 1, "{path}");
        }
    }

    #[test]
    fn circles_of_imports() {
        let file = |path, text| File { path, text };
        for (a, b, mod_file, circle) in [
            ("use super::b::B;", "use super::a::A;", "", true),
            ("use crate::x::b::{B, C};", "use crate::{x::a::A, y};", "", true),
            ("use super::b::B;", "use std::fmt;", "", false),
            ("use super::b::B;", "", "use a::A;", false),
            ("use super::X;", "", "pub struct X;\nuse a::A;", false),
            ("use super::X;", "use super::a::A;", "pub use b::X;\nmod a;", true),
            ("use super::X;", "", "pub use b::X;\nmod a;", false),
            ("use super::b::B;", "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}", "", false),
        ] {
            let files = [file("src/x/a.rs", a), file("src/x/b.rs", b), file("src/x/mod.rs", mod_file)];
            assert_eq!(!circles::circles(&files).is_empty(), circle, "{a} | {b} | {mod_file}");
        }
    }

    #[test]
    fn places() {
        for word in rules::foreign_words() {
            assert!(broken(rules::names_no_place, "README.md", &format!("see {word} there")), "{word}");
        }
        assert!(!broken(rules::names_no_place, "README.md", "a crate of the registry"));
    }

    #[test]
    fn pipes() {
        let rule = rules::pipes_are_read_to_their_end;
        assert!(broken(rule, "docker/a.sh", "set -euo pipefail\npodman logs a | grep -q b"));
        assert!(broken(rule, "docker/a.sh", "# Sourced by b.sh\nls | head -1"));
        assert!(!broken(rule, "docker/a.sh", "set -euo pipefail\ngrep -q b <<<\"$(podman logs a)\""));
    }

    #[test]
    fn literals_and_comments_are_blanked() {
        let blanked = source::code("a /* b /* c */ d */ e \"f\\\"g\" 'h' '\\'' r#\"i\"j\"# 'life k // l\nm");
        let words: Vec<&str> = blanked.split_whitespace().collect();
        assert_eq!(words, ["a", "e", "'life", "k", "m"]);
        assert!(blanked.contains('\n'));
    }
}
