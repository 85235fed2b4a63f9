//! /proc/PID/stat and who belongs to the app's tree. Pure.

use std::collections::{HashMap, HashSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// It can still do something: not a zombie, or a zombie leader with living threads.
    pub(super) alive: bool,
    pub(super) kernel: bool,
    /// Start time in ticks; with the pid it names a process for good.
    pub(super) started: u64,
}

/// A process for good: pids come back.
pub(super) type Identity = (i32, u64);

impl Process {
    pub(super) fn identity(&self) -> Identity {
        (self.pid, self.started)
    }
}

const PF_KTHREAD: u64 = 0x0020_0000;

/// `PID (NAME) STATE PPID PGRP …`; NAME may hold blanks and parentheses, so the last `)` counts.
pub(super) fn parse_stat(text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let pid = number(text.get(..open)?.trim_ascii())?;
    let fields: Vec<&[u8]> =
        text.get(close + 1..)?.split(|&b| b == b' ' || b == b'\n').filter(|f| !f.is_empty()).collect();
    // Numbered from 3 in proc(5).
    let field = |n: usize| fields.get(n - 3).copied();
    let zombie = matches!(field(3)?, b"Z" | b"X");
    Some(Process {
        pid,
        parent: number(field(4)?)?,
        group: number(field(5)?)?,
        kernel: number::<u64>(field(9)?)? & PF_KTHREAD != 0,
        alive: !zombie || number::<i64>(field(20)?)? > 1,
        started: number(field(22)?)?,
    })
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whose processes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// PID 1: everybody in the namespace, also those that entered it from outside.
    Namespace,
    /// Subreaper: our descendants.
    Descendants,
}

/// The living processes that may write to what the app writes to: all in `scope` and all in the app's group, but not
/// ourselves, not the kernel's, and not `bystanders` (who were there before the app, say a `tee` for its log).
pub(super) fn tree(
    all: &[Process],
    me: i32,
    scope: Scope,
    app_group: Option<i32>,
    bystanders: &HashSet<Identity>,
) -> Vec<Process> {
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let in_scope = |process: &Process| match scope {
        Scope::Namespace => true,
        Scope::Descendants => Some(process.group) == app_group || descends(process.pid, me, &parents),
    };
    all.iter()
        .filter(|p| p.pid != me && p.alive && !p.kernel && !bystanders.contains(&p.identity()) && in_scope(p))
        .copied()
        .collect()
}

/// Bounded by the number of processes: a listing that changed while it was read may hold a circle.
fn descends(pid: i32, ancestor: i32, parents: &HashMap<i32, i32>) -> bool {
    let mut current = pid;
    for _ in 0..parents.len() {
        match parents.get(&current) {
            Some(&parent) if parent == ancestor => return true,
            Some(&parent) => current = parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Process {
        Process { pid, parent, group, alive: true, kernel: false, started: 1 }
    }

    fn pids(found: &[Process]) -> Vec<i32> {
        found.iter().map(|p| p.pid).collect()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"42 (a) b (c) S 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 9999 1 2 3\n";
        let expected = Process { pid: 42, parent: 7, group: 40, alive: true, kernel: false, started: 9999 };
        assert_eq!(parse_stat(line), Some(expected));
    }

    #[test]
    fn zombies_are_dead_unless_a_thread_lives() {
        let line = |threads: &str| format!("42 (x) Z 7 40 39 0 -1 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 9999");
        assert_eq!(parse_stat(line("1").as_bytes()).map(|p| p.alive), Some(false));
        assert_eq!(parse_stat(line("2").as_bytes()).map(|p| p.alive), Some(true));
    }

    #[test]
    fn half_a_line_is_nothing() {
        for line in ["", "42", "42 (x)", "42 (x) S 1", "x (x) S 7 40 39 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 9999"] {
            assert_eq!(parse_stat(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn this_very_process_parses() {
        let me = std::fs::read("/proc/self/stat").unwrap();
        let me = parse_stat(&me).unwrap();
        assert_eq!(me.pid, std::process::id() as i32);
        assert!(me.alive && !me.kernel && me.started > 0);
    }

    #[test]
    fn who_counts() {
        let me = 10;
        let none = HashSet::new();
        let mut all = vec![
            process(10, 5, 10),
            process(11, 10, 11), // the app
            process(12, 11, 11), // its helper
            process(13, 10, 13), // a daemon in its own session, adopted
            process(14, 13, 13),
            process(20, 5, 20), // somebody else's
            process(21, 1, 11), // in the app's group, not our descendant
        ];
        assert_eq!(pids(&tree(&all, me, Scope::Descendants, Some(11), &none)), [11, 12, 13, 14, 21]);
        assert_eq!(pids(&tree(&all, me, Scope::Descendants, None, &none)), [11, 12, 13, 14]);
        assert_eq!(pids(&tree(&all, me, Scope::Namespace, Some(11), &none)), [11, 12, 13, 14, 20, 21]);
        let bystander = HashSet::from([(13, 1)]);
        assert_eq!(pids(&tree(&all, me, Scope::Descendants, None, &bystander)), [11, 12, 14]);
        let recycled = HashSet::from([(13, 0)]);
        assert_eq!(pids(&tree(&all, me, Scope::Descendants, None, &recycled)), [11, 12, 13, 14]);
        all[2].alive = false;
        all[3].kernel = true;
        assert_eq!(pids(&tree(&all, me, Scope::Namespace, None, &none)), [11, 14, 20, 21]);
    }

    #[test]
    fn a_circle_ends() {
        let all = [process(11, 12, 1), process(12, 11, 1)];
        assert!(tree(&all, 10, Scope::Descendants, None, &HashSet::new()).is_empty());
    }
}
