//! "Did you mean": the valid name nearest to what was written. Pure.

/// The candidate that `written` was probably meant to be, or None when nothing is close.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    // About one slip in three letters, at least one.
    let limit = (written.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `, did you mean "x"?` or nothing: the tail of an error about a wrong name.
pub fn hint<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, candidates).map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default()
}

/// Edit distance in which two swapped neighbours count as one slip (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (row, l) in left.chars().enumerate() {
        let mut line = vec![row + 1];
        let mut last = row + 1;
        for (column, r) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (at(&above, column) + usize::from(l != *r)).min(at(&above, column + 1) + 1).min(last + 1);
            let swapped = previous == Some(*r) && column > 0 && right.get(column - 1) == Some(&l);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            line.push(best);
            last = best;
        }
        before = std::mem::replace(&mut above, line);
        previous = Some(l);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("grace", "grace", 0),
            ("garce", "grace", 1),
            ("regoin", "region", 1),
            ("gracee", "grace", 1),
            ("comand", "command", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn only_close_names_are_offered() {
        let names = ["grace", "app_timeout", "pre_sync_timeout"];
        for (written, expected) in [
            ("garce", Some("grace")),
            ("GRACE", Some("grace")),
            ("app-timeout", Some("app_timeout")),
            ("presync_timeout", Some("pre_sync_timeout")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
        assert_eq!(hint("garce", names), ", did you mean \"grace\"?");
        assert_eq!(hint("colour", names), "");
    }
}
