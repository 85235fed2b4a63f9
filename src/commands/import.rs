//! `litevisor import`: prints a litestream.yml as the supervisor.toml that means the same. References to
//! variables are printed as they are written, never their values.

use super::document::{self, merged};
use super::error::{CommandError, ErrorKind};
use super::setup::{env, with_environment};
use crate::config::{Additions, Purpose, litestream, load, parse};
use crate::observe::{complain, say};
use serde_json::{Value, json};
use std::path::Path;

pub fn import(file: &Path, as_json: bool) -> Result<u8, CommandError> {
    let converted = with_environment(|environment| {
        litestream::convert(&load::read_text(file, environment)?, file, &env)
    })?;
    // A variable may be set only where the configuration is used: one that is missing here is no failure.
    let checked = with_environment(|environment| {
        parse(
            Some((&converted.text, Path::new("supervisor.toml"))),
            &Additions::default(),
            Purpose::Check,
            environment,
        )
    });
    let problems: Vec<String> = checked
        .err()
        .into_iter()
        .flat_map(|error| error.problems)
        .map(|problem| problem.to_string())
        .collect();
    if as_json {
        let config: Value = toml::from_str(&converted.text)
            .map_err(|error| CommandError::new(ErrorKind::Internal, format!("cannot print JSON: {error}")))?;
        let text = &converted.text;
        let warnings = &converted.warnings;
        let own = json!({ "toml": text, "config": config, "not_taken_over": warnings, "problems": problems });
        document::print(&merged(document::outcome(0, None), own));
        return Ok(0);
    }
    say(&converted.text);
    converted.warnings.iter().for_each(|warning| complain(&format!("not taken over: {warning}")));
    problems.iter().for_each(|problem| complain(&format!("`litevisor check` will say: {problem}")));
    Ok(0)
}
