//! `litevisor check`: is the configuration usable, and what does it come to. Prints no secret; touches no replica, unless asked
//! to `connect`.

use super::{connect, load, logged};
use crate::config::{Additions, Loaded, LogLevel, LogSettings, Purpose, show};
use crate::observe::{complain, say};
use std::path::Path;

pub fn check(file: Option<&Path>, connecting: bool) -> u8 {
    let Loaded { checked, file } = match load(file, &Additions::default(), Purpose::Check) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    checked.warnings.iter().chain(&checked.platform.warning).for_each(|warning| complain(warning));
    let source = file.map(|file| format!("# from {}\n", file.display())).unwrap_or_default();
    say(&format!("{source}{}", show::show(&checked.config)));
    if !connecting {
        return 0;
    }
    // What the stores say about themselves belongs to the answer; what they are busy with does not.
    let quiet = LogSettings { level: LogLevel::Warn, ..checked.config.log };
    logged(&quiet, &[], || connect::connect(&checked.config))
}
