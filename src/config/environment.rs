//! What a configuration needs of the process that reads it: variables, files and the working directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy)]
pub struct Environment<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub read: &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    /// Relative paths begin here.
    pub working_dir: &'a Path,
}

impl Environment<'_> {
    /// The value of a variable that is set, not empty and valid UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name)?.into_string().ok().filter(|value| !value.is_empty())
    }

    /// Absolute, without `.` and doubled slashes. `..` stays: it may lead through a symbolic link.
    pub fn absolute(&self, path: &str) -> PathBuf {
        super::url::absolute(Path::new(path), self.working_dir)
    }
}
