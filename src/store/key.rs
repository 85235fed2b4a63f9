//! Which keys are ours to use: pure. A key never leaves the replica's root and never looks like a temporary file.

/// Suffix of files that are not published yet. No reader takes them for part of the replica.
pub(super) const TEMP_SUFFIX: &str = ".tmp";

/// A key that may name an object: relative, no empty or dotted component, no temporary name.
pub(super) fn is_object(key: &str) -> bool {
    !key.ends_with(TEMP_SUFFIX) && !key.contains('\0') && key.split('/').all(is_component)
}

/// A prefix that may be listed: "", or components with a last one that may be incomplete or empty.
pub(super) fn is_prefix(prefix: &str) -> bool {
    let parents = prefix.rsplit_once('/').map_or("", |(parents, _)| parents);
    !prefix.contains('\0') && !prefix.starts_with('/') && (parents.is_empty() || parents.split('/').all(is_component))
}

fn is_component(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".."
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
    fn a_prefix_may_end_anywhere_but_not_climb() {
        for prefix in ["", "ltx/", "ltx/0", "ltx/0/", "a/.", "a/.."] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["/", "/a", "../", "a/../b", "a//b", "a\0"] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }
}
