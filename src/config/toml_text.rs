//! A text as a TOML string of our configuration, in which "$$" is a dollar sign. Pure.

use std::fmt::Write;

/// With its quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    push_escaped(&mut out, text);
    out.push('"');
    out
}

/// The inside of a TOML string that reads back as `text`.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // So that the output can be used as a configuration again.
            '$' => out.push_str("$$"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}
