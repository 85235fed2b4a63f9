//! Whether the arguments ask for JSON, also those that cannot be parsed: a program that reads stdout gets a
//! document for each failure.

use std::ffi::OsString;

/// The kind of document that a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// An object for each database.
    Array,
    Object,
}

/// `args` with the program's name in front. None: text.
pub fn json_kind(args: &[OsString]) -> Option<JsonKind> {
    let ours = || args.iter().skip(1).take_while(|arg| *arg != "--");
    let mut is_value = false;
    let command = ours().find(|arg| {
        let is_command = !is_value && !arg.to_string_lossy().starts_with('-');
        is_value = *arg == "--config";
        is_command
    });
    let command = command?.to_str()?;
    if !ours().any(|arg| arg == "--json") {
        return None;
    }
    match command {
        "restore" | "list" | "verify" => Some(JsonKind::Array),
        // What follows the command of an app is the app's.
        "run" => None,
        _ => Some(JsonKind::Object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_document() {
        for (line, expected) in [
            ("", None),
            ("--json", None),
            ("list", None),
            ("list --json", Some(JsonKind::Array)),
            ("--config run verify --wrong --json", Some(JsonKind::Array)),
            ("--config=run --json restore", Some(JsonKind::Array)),
            ("status --json", Some(JsonKind::Object)),
            ("statsu --json", Some(JsonKind::Object)),
            ("run app --json", None),
            ("list -- --json", None),
        ] {
            let args: Vec<OsString> =
                std::iter::once("litevisor").chain(line.split_whitespace()).map(Into::into).collect();
            assert_eq!(json_kind(&args), expected, "{line}");
        }
    }
}
