//! `litevisor check`: is the configuration usable, and what does it come to. Prints no secret; touches no replica.

use super::load;
use crate::config::{Additions, Loaded, Purpose, show};
use crate::observe::{complain, say};
use std::path::Path;

pub fn check(file: Option<&Path>) -> u8 {
    let Loaded { checked, file } = match load(file, &Additions::default(), Purpose::Check) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    checked.warnings.iter().for_each(|warning| complain(warning));
    let source = file.map(|file| format!("# from {}\n", file.display())).unwrap_or_default();
    say(&format!("{source}{}", show::show(&checked.config)));
    0
}
