//! What the sections of one file share: the world outside, the lines of the text, and the problems found so far.

use super::litestream::Origin;
use super::problem::{Place, Problem};
use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The world as far as the configuration needs it.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    pub read: &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    /// Relative paths begin here.
    pub working_dir: &'a Path,
}

/// What all sections of one file share.
pub struct Reader<'a> {
    pub outside: Outside<'a>,
    pub file: PathBuf,
    /// Byte offset of each line's end, to turn offsets into lines.
    line_ends: Vec<usize>,
    /// Where each line of the text comes from, when it was made from another file: problems are told of that one.
    origins: &'a [Origin],
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub fn new(outside: Outside<'a>, file: &Path, text: &str, origins: &'a [Origin]) -> Reader<'a> {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Reader { outside, file: file.to_owned(), line_ends, origins, problems: RefCell::default() }
    }

    pub fn place(&self, offset: usize, key: String) -> Place {
        let line = self.line_ends.partition_point(|end| *end < offset) + 1;
        let file = Some(self.file.clone());
        match self.origins.get(line - 1) {
            Some(origin) if origin.line > 0 => Place { file, line: origin.line, key: origin.key.clone() },
            Some(_) => Place { file, line: 0, key },
            None => Place { file, line, key },
        }
    }

    pub fn complain(&self, place: &Place, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place: place.clone(), message: message.into() });
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}
