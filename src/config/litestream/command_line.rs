//! `exec`, a line → the words of the command, as the library that Litestream uses splits it: quotes and
//! backslashes, no shell. Pure.

use super::variables::{self, Piece};
use std::ffi::OsString;

/// The words, still marked, and what was cut off behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub words: Vec<String>,
    pub cut: Option<String>,
}

#[derive(Default)]
struct Splitter {
    done: Vec<String>,
    word: Option<String>,
    single: bool,
    double: bool,
    back: bool,
    escaped: bool,
}

/// The error is the rest of a sentence. A variable's value is looked at, too: Litestream splits what it is
/// made of.
pub fn split(marked: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Words, String> {
    let mut splitter = Splitter::default();
    let all = variables::pieces(marked);
    for (index, piece) in all.iter().enumerate() {
        match piece {
            Piece::Variable(name) => splitter.variable(name, env)?,
            Piece::Text(text) => {
                if let Some(rest) = splitter.text(text)? {
                    // Everything behind it, too: nothing of it is run.
                    let after = all.iter().skip(index + 1).map(|piece| match piece {
                        Piece::Text(text) => (*text).to_owned(),
                        Piece::Variable(name) => format!("${{{name}}}"),
                    });
                    let cut = Some(std::iter::once(rest.to_owned()).chain(after).collect());
                    splitter.end();
                    return Ok(Words { words: splitter.done, cut });
                }
            }
        }
    }
    if splitter.escaped || splitter.single || splitter.double || splitter.back {
        return Err("has a quote that is not closed".into());
    }
    splitter.end();
    Ok(Words { words: splitter.done, cut: None })
}

impl Splitter {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end(&mut self) {
        self.done.extend(self.word.take());
    }

    fn quoted(&self) -> bool {
        self.single || self.double || self.back
    }

    /// What follows an operator of a shell, beginning with it.
    fn text<'t>(&mut self, text: &'t str) -> Result<Option<&'t str>, String> {
        for (at, c) in text.char_indices() {
            match c {
                _ if self.escaped => {
                    self.escaped = false;
                    self.push(match c {
                        't' => '\t',
                        'n' => '\n',
                        other => other,
                    });
                }
                '\\' if !self.single => self.escaped = true,
                ' ' | '\t' | '\r' | '\n' if !self.quoted() => self.end(),
                '"' if !self.single => {
                    self.double = !self.double;
                    self.word.get_or_insert_default();
                }
                '\'' if !self.double => {
                    self.single = !self.single;
                    self.word.get_or_insert_default();
                }
                '`' if !self.single && !self.double => {
                    self.back = !self.back;
                    self.push(c);
                }
                '(' | ')' if !self.quoted() => return Err("has a parenthesis outside of quotes".into()),
                ';' | '&' | '|' | '<' | '>' if !self.quoted() => return Ok(text.get(at..)),
                other => self.push(other),
            }
        }
        Ok(None)
    }

    fn variable(&mut self, name: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), String> {
        let value = env(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
        let special = |c: char| "'\"\\`();&|<>".contains(c);
        if !self.quoted() && value.contains(special) || self.double && value.contains(['"', '\\']) {
            return Err(format!(
                "uses ${{{name}}}, whose value holds quotes or signs of a shell: write the command out, or \
                 give it after \"--\""
            ));
        }
        self.escaped = false;
        if self.quoted() || !value.contains(char::is_whitespace) {
            variables::variable(name).chars().for_each(|c| self.push(c));
            return Ok(());
        }
        self.text(&value).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "ONE" => Some("one".into()),
            "TWO" => Some("two words".into()),
            "BAD" => Some("a; b".into()),
            _ => None,
        }
    }

    #[test]
    fn as_litestream_splits() {
        for (line, words, cut) in [
            ("", vec![], None),
            ("  app  --port 80 ", vec!["app", "--port", "80"], None),
            ("sh -c 'a && b; c'", vec!["sh", "-c", "a && b; c"], None),
            ("a \"b 'c' \\\" d\" ''", vec!["a", "b 'c' \" d", ""], None),
            ("a\\ b 'c\\d' e\"f\"g", vec!["a b", "c\\d", "efg"], None),
            ("app && other", vec!["app"], Some("&& other")),
            ("app >log ${ONE}", vec!["app"], Some(">log ${ONE}")),
            ("${ONE} $TWO \"$TWO\"", vec!["${ONE}", "two", "words", "${TWO}"], None),
            ("x$ONE/y $NONE", vec!["x${ONE}/y", "${NONE}"], None),
            ("'$BAD'", vec!["${BAD}"], None),
        ] {
            let found = split(&variables::mark(line).unwrap(), &env).unwrap();
            let shown: Vec<String> = found.words.iter().map(|word| shown(word)).collect();
            assert_eq!(shown, words, "{line}");
            assert_eq!(found.cut.as_deref(), cut, "{line}");
        }
        for line in ["a 'b", "a \"b", "a\\", "a (b)", "$BAD"] {
            assert!(split(&variables::mark(line).unwrap(), &env).is_err(), "{line}");
        }
    }

    fn shown(marked: &str) -> String {
        let piece = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Variable(name) => format!("${{{name}}}"),
        };
        variables::pieces(marked).iter().map(piece).collect()
    }
}
