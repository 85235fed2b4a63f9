//! Plain text → roff for `man`. Pure. A block is a heading (`# NAME`), an item (a term, then a line that
//! begins with `: `), an example (indented lines) or a paragraph; an empty line ends it. The first one has no
//! space above. What is between backquotes is bold.

/// Lines of the source are no longer: `man` fills paragraphs itself.
const WIDTH: usize = 78;

pub fn blocks(text: &str) -> String {
    let mut out = String::new();
    for text in text.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
        let is_first = out.lines().next_back().is_none_or(|line| line.starts_with(".SH "));
        let block = block(text);
        out += block.strip_prefix(".PP\n").filter(|_| is_first).unwrap_or(&block);
    }
    out
}

fn block(text: &str) -> String {
    if let Some(heading) = text.strip_prefix("# ") {
        return format!(".SH {}\n", escaped(heading));
    }
    if text.starts_with(' ') {
        return example(text);
    }
    match text.split_once("\n: ") {
        Some((term, meaning)) => item(&inline(term), meaning),
        None => format!(".PP\n{}", filled(text)),
    }
}

/// `term` is roff, `meaning` is text.
pub fn item(term: &str, meaning: &str) -> String {
    format!(".TP\n{}\n{}", protected(term), filled(meaning))
}

fn example(text: &str) -> String {
    let lines: String = text
        .lines()
        .map(|line| protected(&escaped(line.strip_prefix("  ").unwrap_or(line))) + "\n")
        .collect();
    format!(".PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n")
}

/// Each sentence begins a line, as `man` wants it for the space between them.
fn filled(text: &str) -> String {
    let mut lines = vec![String::new()];
    let mut is_bold = false;
    for word in text.split_whitespace() {
        let marked = marked(word, &mut is_bold);
        let Some(line) = lines.last_mut() else { continue };
        let ends =
            line.ends_with(['.', '?', '!']) && word.starts_with(|c: char| c.is_uppercase() || c == '`');
        if line.is_empty() {
            line.push_str(&marked);
        } else if ends || line.len() + 1 + marked.len() > WIDTH {
            lines.push(marked);
        } else {
            line.push(' ');
            line.push_str(&marked);
        }
    }
    lines.iter().map(|line| protected(line) + "\n").collect()
}

fn inline(text: &str) -> String {
    marked(text, &mut false)
}

fn marked(text: &str, is_bold: &mut bool) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        if at > 0 {
            *is_bold = !*is_bold;
            out.push_str(if *is_bold { "\\fB" } else { "\\fP" });
        }
        out.push_str(&escaped(part));
    }
    out
}

pub fn bold(text: &str) -> String {
    format!("\\fB{}\\fP", escaped(text))
}

pub fn italic(text: &str) -> String {
    format!("\\fI{}\\fP", escaped(text))
}

/// So that each character prints as itself, and can be copied from the page into a shell.
pub fn escaped(text: &str) -> String {
    let one = |char| match char {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        '\'' => "\\(aq".to_owned(),
        '`' => "\\(ga".to_owned(),
        '^' => "\\(ha".to_owned(),
        '~' => "\\(ti".to_owned(),
        '…' => "\\&...".to_owned(),
        char => char.to_string(),
    };
    text.chars().map(one).collect()
}

/// A line of text that begins with a dot would be a request.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_block() {
        for (text, expected) in [
            ("# SEE ALSO", ".SH SEE ALSO\n"),
            (
                "`$TMPDIR`\n: Where it\nis. Else beside `a b`.",
                ".TP\n\\fB$TMPDIR\\fP\nWhere it is.\nElse beside \\fBa b\\fP.\n",
            ),
            ("  run --db a\n    .x", ".RS 4\n.EX\nrun \\-\\-db a\n  .x\n.EE\n.RE\n"),
            ("it's a\\b", "it\\(aqs a\\eb\n"),
            (".hidden", "\\&.hidden\n"),
            ("a\n\n\nb", "a\n.PP\nb\n"),
        ] {
            assert_eq!(blocks(text), expected, "{text}");
        }
        let long = filled(&"word ".repeat(40));
        assert!(long.lines().count() > 2 && long.lines().all(|line| line.len() <= WIDTH), "{long}");
    }
}
