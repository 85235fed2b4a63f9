//! `litevisor import`: a litestream.yml as the supervisor.toml that means the same, on stdout. Prints references to variables as
//! they stand, never their values; changes nothing.

use super::{env, outside, refuse};
use crate::config::{Additions, Purpose, litestream, load, parse};
use crate::observe::{complain, say};
use std::path::Path;

pub fn import(file: &Path) -> u8 {
    let converted = outside(|outside| litestream::convert(&load::read_text(file, outside)?, file, &env));
    let converted = match converted {
        Ok(converted) => converted,
        Err(error) => return refuse(error),
    };
    say(&converted.text);
    converted.warnings.iter().for_each(|warning| complain(&format!("not taken over: {warning}")));
    // Variables may be set elsewhere only: what is missing here is told, and is no failure.
    let made = outside(|outside| {
        parse(Some((&converted.text, Path::new("supervisor.toml"))), &Additions::default(), Purpose::Check, outside)
    });
    if let Err(error) = made {
        error.problems.iter().for_each(|problem| complain(&format!("`litevisor check` will say: {problem}")));
    }
    0
}
