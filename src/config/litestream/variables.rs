//! `$VAR` and `${VAR}` of a Litestream configuration. Litestream replaces them in the file's text, before it
//! is YAML; here they are marked before and stay references, so that no value is ever printed. Pure.

use crate::config::toml_text::push_escaped;
use std::ffi::OsString;

/// What stands around a variable's name. From the private use area: no configuration holds them.
const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// A part of a marked text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// The text with its variables marked. The error is the line of a character that cannot be there.
pub fn mark(text: &str) -> Result<String, usize> {
    if let Some(at) = text.find([OPEN, CLOSE]) {
        return Err(text.get(..at).unwrap_or_default().matches('\n').count() + 1);
    }
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        marked.push_str(before);
        match name(after) {
            Some((name, next)) => {
                marked.extend([OPEN]);
                marked.push_str(name);
                marked.push(CLOSE);
                rest = next;
            }
            None => {
                marked.push('$');
                rest = after;
            }
        }
    }
    marked.push_str(rest);
    Ok(marked)
}

/// The name behind a `$`, as Go's os.Expand finds it, and what follows.
fn name(after: &str) -> Option<(&str, &str)> {
    if let Some(inside) = after.strip_prefix('{') {
        return inside.split_once('}').filter(|(name, _)| !name.contains(['\n', '$']));
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    // `$$`, `$1` and their like are names of one character there.
    let single = after.starts_with(|c: char| "*#$@!?-0123456789".contains(c));
    let end = if single { 1 } else { end };
    after.split_at_checked(end).filter(|_| end > 0)
}

pub fn pieces(marked: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, next) = after.split_once(CLOSE).unwrap_or((after, ""));
        found.extend((!before.is_empty()).then_some(Piece::Text(before)));
        found.push(Piece::Variable(name));
        rest = next;
    }
    found.extend((!rest.is_empty()).then_some(Piece::Text(rest)));
    found
}

/// The variable that is all of the text.
pub fn whole(marked: &str) -> Option<&str> {
    match pieces(marked).as_slice() {
        [Piece::Variable(name)] => Some(name),
        _ => None,
    }
}

pub fn has_variable(marked: &str) -> bool {
    marked.contains(OPEN)
}

/// A marked text that holds one variable.
pub fn variable(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// Why one of its variables cannot be taken over.
pub fn problem(marked: &str) -> Option<String> {
    let name = pieces(marked).into_iter().find_map(|piece| match piece {
        Piece::Variable(name) if !is_plain(name) => Some(name),
        _ => None,
    })?;
    Some(match name {
        "PID" => "uses $PID, which is another one at each start".into(),
        "$" => "has \"$$\", which Litestream replaces by nothing: write what is meant into a supervisor.toml"
            .into(),
        _ => {
            format!("uses ${{{name}}}, which Litestream replaces by nothing: it knows $VAR and ${{VAR}} only")
        }
    })
}

fn is_plain(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    letters && name != "PID" && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Its value as far as the environment has the variables; None when one is missing.
pub fn value(marked: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let mut text = String::new();
    for piece in pieces(marked) {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Variable(name) => text.push_str(env(name)?.to_str()?),
        }
    }
    Some(text)
}

/// As a string of our configuration. A value that `may_be_unset` and is all variable counts as not given when
/// that is empty, as it does in Litestream.
pub fn toml(marked: &str, may_be_unset: bool) -> String {
    if let (true, Some(name)) = (may_be_unset, whole(marked)) {
        return format!("\"${{{name}:-}}\"");
    }
    let mut out = String::from("\"");
    for piece in pieces(marked) {
        match piece {
            Piece::Text(text) => push_escaped(&mut out, text),
            Piece::Variable(name) => out.extend(["${", name, "}"]),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_go() {
        use Piece::{Text, Variable};
        for (text, expected) in [
            ("plain", vec![Text("plain")]),
            ("$A", vec![Variable("A")]),
            ("${A}", vec![Variable("A")]),
            ("x${A_1}y$B/z", vec![Text("x"), Variable("A_1"), Text("y"), Variable("B"), Text("/z")]),
            ("$AB-c", vec![Variable("AB"), Text("-c")]),
            ("a$$b", vec![Text("a"), Variable("$"), Text("b")]),
            ("$1a", vec![Variable("1"), Text("a")]),
            ("${A:-x}", vec![Variable("A:-x")]),
            ("a $ b", vec![Text("a $ b")]),
            ("5$", vec![Text("5$")]),
            ("${open", vec![Text("${open")]),
        ] {
            assert_eq!(pieces(&mark(text).unwrap()), expected, "{text}");
        }
        assert_eq!(mark("a\nb\u{E000}"), Err(2));
    }

    #[test]
    fn what_becomes_of_them() {
        let env = |name: &str| (name == "A").then(|| OsString::from("v"));
        for (text, toml_text, unset, known) in [
            ("x", "\"x\"", "\"x\"", Some("x")),
            ("$A", "\"${A}\"", "\"${A:-}\"", Some("v")),
            ("$A/x", "\"${A}/x\"", "\"${A}/x\"", Some("v/x")),
            ("$B", "\"${B}\"", "\"${B:-}\"", None),
            ("5$ \"q\" \\", "\"5$$ \\\"q\\\" \\\\\"", "\"5$$ \\\"q\\\" \\\\\"", Some("5$ \"q\" \\")),
        ] {
            let marked = mark(text).unwrap();
            assert_eq!(toml(&marked, false), toml_text, "{text}");
            assert_eq!(toml(&marked, true), unset, "{text}");
            assert_eq!(value(&marked, &env).as_deref(), known, "{text}");
            assert_eq!(problem(&marked), None);
        }
        for (text, part) in [("a$$b", "\"$$\""), ("${A:-x}", "${A:-x}"), ("$PID", "$PID"), ("$1", "${1}")] {
            assert!(problem(&mark(text).unwrap()).unwrap().contains(part), "{text}");
        }
    }
}
