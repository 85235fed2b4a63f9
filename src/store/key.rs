//! Which keys are valid, and the names of temporary files: pure. A key never leaves the replica's root and
//! never looks like a temporary file.

/// Suffix of files that are not published yet. No reader takes them for part of the replica.
pub(super) const TEMP_SUFFIX: &str = ".tmp";

/// What a file at `target` is called until it is complete. `number` is random: in a container we are always
/// process 1, and a network file system has writers on many machines.
pub(super) fn temporary(target: &str, number: u64) -> String {
    format!("{target}.{number:016x}{TEMP_SUFFIX}")
}

/// Whether a temporary name was given here, by this version or an earlier one (`NAME.<pid>.<counter>.tmp`),
/// and not by another tool: Litestream's are `NAME.tmp`, or have the time in nanoseconds.
pub(super) fn is_own_temporary(name: &str) -> bool {
    let Some((rest, last)) = name.strip_suffix(TEMP_SUFFIX).and_then(|rest| rest.rsplit_once('.')) else {
        return false;
    };
    let is_number =
        |text: &str| !text.is_empty() && text.len() < 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    let random = last.len() == 16 && last.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    random
        || is_number(last)
            && rest.rsplit_once('.').is_some_and(|(name, pid)| !name.is_empty() && is_number(pid))
}

/// A key that may name an object: relative, no empty or dotted component, no temporary name.
pub(super) fn is_object(key: &str) -> bool {
    !key.ends_with(TEMP_SUFFIX) && key.split('/').all(is_component)
}

/// A prefix that may be listed: "", or components with a last one that may be incomplete or empty.
pub(super) fn is_prefix(prefix: &str) -> bool {
    let parents = prefix.rsplit_once('/').map_or("", |(parents, _)| parents);
    !prefix.contains('\0')
        && !prefix.starts_with('/')
        && (parents.is_empty() || parents.split('/').all(is_component))
}

pub(super) fn is_component(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_keys_are_objects() {
        for key in ["a", "ltx/0/0000000000000001-0000000000000001.ltx", "a/..b", "a.tmp/b", "0000/x"] {
            assert!(is_object(key), "{key}");
        }
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0b", "a.ltx.1.0.tmp"] {
            assert!(!is_object(key), "{key}");
        }
    }

    #[test]
    fn temporary_names_are_known_again() {
        let name = temporary("/r/ltx/0/a.ltx", 0xab);
        assert_eq!(name, "/r/ltx/0/a.ltx.00000000000000ab.tmp");
        for ours in [name.as_str(), "a.ltx.1.0.tmp", "a.ltx.40123.17.tmp", "a.ltx.ffffffffffffffff.tmp"] {
            assert!(is_own_temporary(ours) && !is_object(ours), "{ours}");
        }
        let litestream = ["a.ltx.tmp", "a.ltx.17.1795327279453000000.tmp"];
        for other in
            litestream.into_iter().chain(["1.0.tmp", "a.ltx", ".tmp", "0123456789abcdef.tmpx", "a.1.0.tmp.x"])
        {
            assert!(!is_own_temporary(other), "{other}");
        }
    }

    #[test]
    fn a_prefix_may_end_anywhere_but_not_climb() {
        for prefix in ["", "ltx/", "ltx/0", "ltx/0/", "a/.", "a/.."] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["/", "/a", "../", "a/../b", "a//b", "a\0"] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }
}
