//! Import circles between the files of src/: what a file imports (`use`) must not lead back to it. A name
//! that a module re-exports (`pub use`) is imported from where it is defined; what a file takes from the
//! module that it is a part of is no import.

use super::rules::File;
use super::source::{code, without_tests};
use std::collections::{BTreeMap, BTreeSet};

type Module = Vec<String>;

/// `["gate", "held"]` for src/gate/held.rs, `["gate"]` for src/gate.rs and src/gate/mod.rs.
fn module(path: &str) -> Option<Module> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut parts: Module = inside.split('/').map(str::to_owned).collect();
    parts.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    Some(parts)
}

/// The paths of a `use` tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn paths(tree: &str) -> Vec<Module> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split("::").map(|name| first_word(name).to_owned()).collect()];
    };
    let group = rest.rsplit_once('}').map_or(rest, |(group, _)| group);
    let head: Module =
        head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let joined = |path: Module| head.iter().cloned().chain(path).collect();
    branches(group).into_iter().flat_map(paths).map(joined).collect()
}

/// The name without `as other`.
fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Parts between the commas that are in no inner group.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0, 0);
    let mut found = Vec::new();
    for (at, char) in group.char_indices().chain([(group.len(), ',')]) {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(group[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|branch| !branch.is_empty());
    found
}

/// The module that a path of `use` names, as seen from `own`; None: a foreign crate.
fn resolved(own: &[String], path: &[String], known: &BTreeSet<Module>) -> Option<Module> {
    let mut at: Module = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => own.to_vec(),
        // `use child::Name`
        name if known.contains(&[own, &[name.to_owned()]].concat()) => own.to_vec(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            name => {
                at.push(name.to_owned());
                if !known.contains(&at) {
                    at.pop();
                    break;
                }
            }
        }
    }
    Some(at)
}

/// The paths after `word`, in the shipped part of the file.
fn statements(file: &File, words: &[&str]) -> Vec<Module> {
    let shipped = without_tests(&code(file.text));
    let after =
        |statement: &str| words.iter().find_map(|word| Some(statement.trim().strip_prefix(word)?.to_owned()));
    shipped.split(';').filter_map(after).flat_map(|tree| paths(&tree)).collect()
}

/// Names that modules re-export, and the modules that have them.
type ReExports = BTreeMap<(Module, String), Module>;

fn re_exports(modules: &BTreeMap<Module, &File>, known: &BTreeSet<Module>) -> ReExports {
    let of_module = |(own, file): (&Module, &&File)| {
        let paths = statements(file, &["pub use ", "pub(crate) use ", "pub(super) use "]);
        let named = paths
            .into_iter()
            .filter_map(|path| Some(((own.clone(), path.last()?.clone()), resolved(own, &path, known)?)));
        named.collect::<Vec<_>>()
    };
    modules.iter().flat_map(of_module).collect()
}

fn imports(file: &File, own: &Module, known: &BTreeSet<Module>, re_exports: &ReExports) -> BTreeSet<Module> {
    let target = |path: Module| {
        let mut at = resolved(own, &path, known)?;
        let name = path.last()?;
        while let Some(home) = re_exports.get(&(at.clone(), name.clone())).filter(|home| **home != at) {
            at = home.clone();
        }
        (!own.starts_with(&at)).then_some(at)
    };
    statements(file, &["use "]).into_iter().filter_map(target).collect()
}

/// Each circle once, as the names of its modules.
pub fn circles(files: &[File]) -> Vec<String> {
    let is_shipped = |file: &&File| !file.path.ends_with("tests.rs") && !file.path.contains("/tests/");
    let named = files.iter().filter(is_shipped).filter_map(|file| Some((module(file.path)?, file)));
    let modules: BTreeMap<Module, &File> = named.collect();
    let known: BTreeSet<Module> = modules.keys().cloned().collect();
    let re_exports = re_exports(&modules, &known);
    let mut edges: BTreeMap<Module, BTreeSet<Module>> =
        modules.iter().map(|(own, file)| (own.clone(), imports(file, own, &known, &re_exports))).collect();
    // What imports nothing that is left, and what nothing imports, is in no circle.
    loop {
        let sources: BTreeSet<Module> = edges.keys().cloned().collect();
        let targets: BTreeSet<Module> = edges.values().flatten().cloned().collect();
        let before = edges.len();
        edges.iter_mut().for_each(|(_, to)| to.retain(|module| sources.contains(module)));
        edges.retain(|module, to| !to.is_empty() && targets.contains(module));
        if edges.len() == before {
            break;
        }
    }
    let show = |module: &Module| if module.is_empty() { "lib".to_owned() } else { module.join("::") };
    edges
        .iter()
        .map(|(from, to)| {
            format!("{} imports {}", show(from), to.iter().map(show).collect::<Vec<_>>().join(", "))
        })
        .collect()
}
