//! Text of others (an app, a file's name, a service's answer) as one line of bounded length.

/// Control characters become blanks; what is longer than `most` bytes is cut at a character's end.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line: String =
        text.trim().chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    line.truncate(line.floor_char_boundary(most));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_stays_one_line() {
        for (text, most, line) in [
            ("a b", 9, "a b"),
            ("  a\nMAINPID=1\r\n", 99, "a MAINPID=1"),
            ("a\0b\u{1b}[31m", 99, "a b [31m"),
            ("ééé", 3, "é"),
            ("abc", 0, ""),
        ] {
            assert_eq!(one_line(text, most), line, "{text:?}");
        }
    }
}
