//! `${VAR}` in the strings of the configuration. Pure: the environment is handed in.
//!
//! `${VAR}` must be defined, `${VAR:-text}` falls back when it is unset or empty, `$$` is a dollar sign, and
//! any other dollar sign stands for itself (so `["sh", "-c", "echo $HOME"]` reaches the shell as written). A
//! key whose whole value is `${VAR:-}` counts as not given while VAR is unset or empty.

use std::ffi::OsString;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The variables whose values are part of the text.
    pub variables: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    #[error("uses ${{{0}}}, which is not set: set it, or write ${{{0}:-default}}")]
    Undefined(String),
    #[error("uses ${{{0}}}, whose value is not valid UTF-8")]
    NotUtf8(String),
    #[error("has a \"${{\" without \"}}\": close it, or write \"$$\" for a dollar sign")]
    Unclosed,
    #[error(
        "has the invalid variable name \"{0}\": letters, digits and _ only; write \"$$\" for a dollar sign"
    )]
    BadName(String),
}

pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Expanded, ExpandError> {
    let mut out = Expanded::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.text.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or(ExpandError::Unclosed)?;
            push_value(&mut out, inside, env)?;
            rest = after;
        } else {
            out.text.push('$');
            rest = after;
        }
    }
    out.text.push_str(rest);
    Ok(out)
}

fn push_value(
    out: &mut Expanded,
    inside: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(), ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ExpandError::BadName(name.to_owned()));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => out.text.push_str(default),
        (Some(value), _) => {
            out.text.push_str(value.to_str().ok_or_else(|| ExpandError::NotUtf8(name.to_owned()))?);
            out.variables.push(name.to_owned());
        }
        (None, Some(default)) => out.text.push_str(default),
        (None, None) => return Err(ExpandError::Undefined(name.to_owned())),
    }
    Ok(())
}

/// The variable of a text that is `${VAR:-}` and nothing else.
pub fn may_be_unset(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix(":-}")?;
    (!name.contains(['$', '{', '}', ':'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "KEY" => Some("secret".into()),
            "_A1" => Some("x$Y".into()),
            "EMPTY" => Some("".into()),
            "BINARY" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        }
    }

    #[test]
    fn values_and_defaults() {
        for (text, expected, variables) in [
            ("plain", "plain", vec![]),
            ("${KEY}", "secret", vec!["KEY"]),
            ("a-${KEY}-${_A1}", "a-secret-x$Y", vec!["KEY", "_A1"]),
            ("${KEY:-other}", "secret", vec!["KEY"]),
            ("${NONE:-other}", "other", vec![]),
            ("${NONE:-}", "", vec![]),
            ("${EMPTY:-other}", "other", vec![]),
            ("${EMPTY}", "", vec!["EMPTY"]),
            ("$$${KEY}", "$secret", vec!["KEY"]),
            ("$${KEY}", "${KEY}", vec![]),
            ("$HOME costs 5$", "$HOME costs 5$", vec![]),
        ] {
            let found = expand(text, &env).unwrap();
            assert_eq!(found.text, expected, "{text}");
            assert_eq!(found.variables, variables, "{text}");
        }
    }

    #[test]
    fn whole_values_that_may_be_unset() {
        for (text, name) in [
            ("${A:-}", Some("A")),
            ("${A:-x}", None),
            ("${A}", None),
            ("x${A:-}", None),
            ("${A:-}${B:-}", None),
        ] {
            assert_eq!(may_be_unset(text), name, "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, expected) in [
            ("${NONE}", ExpandError::Undefined("NONE".into())),
            ("${BINARY}", ExpandError::NotUtf8("BINARY".into())),
            ("${KEY", ExpandError::Unclosed),
            ("${}", ExpandError::BadName("".into())),
            ("${1A}", ExpandError::BadName("1A".into())),
            ("${A B}", ExpandError::BadName("A B".into())),
            ("${KEY-x}", ExpandError::BadName("KEY-x".into())),
        ] {
            assert_eq!(expand(text, &env), Err(expected), "{text}");
        }
        let told = expand("${NONE}", &env).unwrap_err().to_string();
        assert_eq!(told, "uses ${NONE}, which is not set: set it, or write ${NONE:-default}");
    }
}
