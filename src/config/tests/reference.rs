//! docs/configuration.md, held to the code: every key that the parser knows is a row, every row is a key, and
//! every default that is written as a value is the one in effect.

use super::{problems, read};

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// A heading of the page, and the configuration around its rows.
const SECTIONS: [(&str, &str, &str); 14] = [
    ("`[app]`", "[app]\ncommand = [\"x\"]\n", ""),
    ("`[shutdown]`", "[shutdown]\n", ""),
    ("`[restore]`", "[restore]\n", ""),
    ("`[[database]]`", "[[database]]\npath = \"/d/a.db\"\n", "[database.replica]\nurl = \"/r\"\n"),
    ("`[[database]]` with `dir`", "[[database]]\ndir = \"/d\"\n", "[database.replica]\nurl = \"/r\"\n"),
    ("`[database.replica]`", "[[database]]\npath = \"/d/a.db\"\n[database.replica]\nurl = \"/r\"\n", ""),
    (
        "`[[gate]]`",
        "[[gate]]\nlisten = \":8080\"\napp = \"3000\"\n",
        "[[database]]\npath = \"/d/a.db\"\n[database.replica]\nurl = \"/r\"\n",
    ),
    ("`[handover]`", "[handover]\n", ""),
    ("`[follow]`", "[follow]\n", ""),
    ("`[verify]`", "[verify]\n", ""),
    ("`[notify]`", "[notify]\n", ""),
    ("`[heartbeat]`", "[heartbeat]\n", ""),
    ("`[status]`", "[status]\n", ""),
    ("`[log]`", "[log]\n", ""),
];

/// The keys of a section's rows, and their defaults as TOML where they are.
fn rows(heading: &str) -> Vec<(String, Option<String>)> {
    let start = format!("\n## {heading}\n");
    let (_, section) =
        REFERENCE.split_once(&start).unwrap_or_else(|| panic!("docs/configuration.md has no {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let table = section.split("| key |").nth(1).unwrap_or_else(|| panic!("{heading} has no table of keys"));
    let mut rows = Vec::new();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let default = cells[3]
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
            .filter(|cell| !cell.contains('`'));
        // Values begin like this; a variable's name does not.
        let default =
            default.filter(|text| text.starts_with(['"', '[', '{', 't', 'f']) || text.parse::<u64>().is_ok());
        for key in cells[1].split(", ") {
            rows.push((key.trim_matches('`').to_owned(), default.map(str::to_owned)));
        }
    }
    rows
}

/// What the parser would take in place of a wrong key at this place.
fn known(before: &str, table: &str, after: &str) -> Vec<String> {
    let wrong = if table.is_empty() { "qqqqqqqqqqqq".to_owned() } else { format!("{table}.qqqqqqqqqqqq") };
    let told = problems(&format!("{before}{wrong} = 1\n{after}"));
    let line = told.iter().find_map(|line| Some(line.split_once("valid here: ")?.1));
    line.unwrap_or_else(|| panic!("{told:#?}")).split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    for (heading, before, after) in SECTIONS {
        let rows = rows(heading);
        let documented = |key: &str| rows.iter().any(|(row, _)| row == key);
        for key in known(before, "", after) {
            let inside: Vec<&str> =
                rows.iter().filter_map(|(row, _)| row.strip_prefix(&format!("{key}."))).collect();
            if !inside.is_empty() {
                let all = known(before, &key, after);
                assert!(all.iter().all(|name| inside.contains(&name.as_str())), "{heading}: {key}: {all:?}");
                continue;
            }
            // Of the two kinds of entries each has the place of its own; what both have stands once.
            let elsewhere = heading.starts_with("`[[database]]`")
                && (key == "replica"
                    || ["`[[database]]`", "`[[database]]` with `dir`"].iter().any(|other| {
                        *other != heading
                            && self::rows(other).iter().any(|(row, _)| row.split('.').next() == Some(&key))
                    }));
            assert!(documented(&key) || elsewhere, "docs/configuration.md, {heading}: {key} is missing");
        }
    }
    for section in known("", "", "") {
        let forms = [format!("`[{section}]`"), format!("`[[{section}]]`")];
        assert!(
            SECTIONS.iter().any(|(heading, ..)| forms.contains(&(*heading).to_owned())),
            "{section} has no section"
        );
    }
}

#[test]
fn every_documented_default_is_in_effect() {
    let mut compared = 0;
    for (heading, before, after) in SECTIONS {
        let bare = read(&format!("{before}{after}"));
        for (key, default) in rows(heading) {
            let Some(default) = default else { continue };
            let written = read(&format!("{before}{key} = {default}\n{after}"));
            assert_eq!(written, bare, "{heading}: {key} = {default}");
            compared += 1;
        }
    }
    assert!(compared > 25, "{compared}");
}
