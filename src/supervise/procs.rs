//! Reads `/proc`: the processes, their users and their command lines. /proc may be missing, of another
//! namespace, or hidden.

use super::procfs::{Process, parse_lock_limit, parse_stat, parse_user};
use std::fs;

/// Every process that is shown. None without a usable `/proc`: not mounted, or another namespace's, whose
/// numbers mean other processes here.
pub(super) fn all() -> Option<Vec<Process>> {
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let numbered =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    Some(numbered.filter_map(|entry| parse_stat(&fs::read(entry.path().join("stat")).ok()?)).collect())
}

/// The real user of a process.
pub(super) fn user_of(pid: i32) -> Option<u32> {
    parse_user(&fs::read(format!("/proc/{pid}/status")).ok()?)
}

pub(super) fn parent_of(pid: i32) -> Option<i32> {
    Some(parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?.parent)
}

/// Its arguments, NUL after each.
pub(super) fn command_line(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// Living processes with this soft limit of file locks.
pub(super) fn with_lock_limit(limit: u64) -> Vec<i32> {
    let has = |process: &Process| {
        let limits = fs::read(format!("/proc/{}/limits", process.pid)).unwrap_or_default();
        process.alive && parse_lock_limit(&limits) == Some(limit)
    };
    all().unwrap_or_default().iter().filter(|process| has(process)).map(|process| process.pid).collect()
}

/// No process of this namespace has a higher number.
pub(super) fn highest_pid() -> i32 {
    /// The most that Linux allows.
    const MOST: i32 = 1 << 22;
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().map_or(MOST, |most: i32| most.min(MOST))
}
