//! Parses /proc, and decides which processes belong to the app's tree and whether one is left. Pure.

use std::collections::{HashMap, HashSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// It can still do something: not a zombie, or a zombie leader with living threads.
    pub(super) alive: bool,
    pub(super) kernel: bool,
    /// Start time in ticks; with the PID it identifies the process.
    pub(super) started: u64,
}

/// Identifies a process for ever, although the kernel uses PIDs again.
pub(super) type Identity = (i32, u64);

impl Process {
    pub(super) fn identity(&self) -> Identity {
        (self.pid, self.started)
    }

    /// The process has exited, and its parent, which is not `me`, has not waited for it.
    pub(super) fn is_foreign_zombie(&self, me: i32) -> bool {
        !self.alive && !self.kernel && self.parent != me && self.pid != me
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

/// The addresses where a process's arguments begin and end, by /proc/PID/stat.
pub(super) fn parse_arguments(stat: &[u8]) -> Option<(usize, usize)> {
    let close = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = stat.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    // Numbered from 3 in proc(5).
    let start = number(fields.nth(48 - 3)?)?;
    let end = number(fields.next()?)?;
    (start != 0 && start < end).then_some((start, end))
}

/// The real user in /proc/PID/status: `Uid:\treal\teffective\tsaved\tfile system`.
pub(super) fn parse_user(status: &[u8]) -> Option<u32> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    number(line.trim_ascii_start().split(u8::is_ascii_whitespace).next()?)
}

/// The soft limit of file locks in /proc/PID/limits; None: unlimited.
pub(super) fn parse_lock_limit(limits: &[u8]) -> Option<u64> {
    let line = limits.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Max file locks"))?;
    number(line.trim_ascii_start().split(u8::is_ascii_whitespace).next()?)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Which processes litevisor is responsible for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// PID 1: all processes of the namespace, also those that entered it from outside.
    Namespace,
    /// Subreaper: litevisor's descendants.
    Descendants,
}

/// Which processes must have exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All processes that could write to the databases, also those that entered the namespace from outside
    /// (`docker exec`): before the last flush.
    AllWriters,
    /// The app's process tree: before the app is started again. Processes from outside are not part of it.
    AppTree,
}

/// What wait and kill say about processes. No mount option hides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelView {
    /// There is no child to wait for. litevisor adopts orphans, so there is no descendant either.
    pub(super) childless: bool,
    /// As PID 1: there is no other process in the namespace.
    pub(super) alone: bool,
    /// The app's group has a member.
    pub(super) group: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TreeState {
    Empty,
    /// `/proc` shows the processes that are left.
    Visible,
    /// A process is left that `/proc` does not show: the mount hides it (hidepid), or /proc is not mounted.
    Hidden,
}

/// What `/proc` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcView {
    pub(super) alive: usize,
    /// There is a zombie whose parent is another process: `KernelView` may refer to that zombie.
    pub(super) zombies: bool,
}

/// Whether a process is left. `before` is the kernel's view before the app was started; `shown` is None
/// without /proc. A process that /proc shows is there. That none is there follows from the kernel's view
/// alone, unless a process was there before the app was started.
pub(super) fn tree_state(
    scope: Scope,
    extent: Extent,
    before: KernelView,
    now: KernelView,
    shown: Option<ProcView>,
) -> TreeState {
    let by_number = scope == Scope::Namespace && extent == Extent::AllWriters;
    let nobody = |word: KernelView| if by_number { word.alone } else { word.childless };
    let Some(ProcView { alive, zombies }) = shown else {
        return if nobody(now) { TreeState::Empty } else { TreeState::Hidden };
    };
    let new_child = before.childless && !now.childless;
    let new_other = !zombies && (now.group || (by_number && before.alone && !now.alone));
    match alive {
        _ if nobody(now) => TreeState::Empty,
        1.. => TreeState::Visible,
        0 if new_child || new_other => TreeState::Hidden,
        0 => TreeState::Empty,
    }
}

/// The living processes that may write what the app writes: all in `scope` and all in the app's group, but
/// not litevisor, kernel threads, or `bystanders` (which existed before the app, such as a `tee` for its
/// log).
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
        for line in ["", "42", "42 (x)", "42 (x) S 1", "x (x) S 7 40 39 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 9999"]
        {
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
            process(20, 5, 20), // of another parent
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
    fn arguments_lie_between_two_addresses() {
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let (start, end) = parse_arguments(&stat).unwrap();
        assert_eq!(end - start, std::fs::read("/proc/self/cmdline").unwrap().len());
        assert_eq!(parse_arguments(b"42 (x) S 1 2 3"), None);
    }

    #[test]
    fn the_real_user_is_the_first() {
        for (text, user) in [
            ("Name:\tx\nUid:\t12345\t0\t0\t0\nGid:\t7\t7\t7\t7\n", Some(12345)),
            ("Uid:\n", None),
            ("Gid:\t7\t7\t7\t7\n", None),
        ] {
            assert_eq!(parse_user(text.as_bytes()), user, "{text:?}");
        }
    }

    #[test]
    fn the_soft_limit_is_the_first() {
        let line = |limit: &str| {
            format!("Max nice 0 0\nMax file locks            {limit}   unlimited  locks\nMax x 1 1\n")
        };
        for (text, limit) in
            [(line("4611686018427387904"), Some(1 << 62)), (line("unlimited"), None), ("".into(), None)]
        {
            assert_eq!(parse_lock_limit(text.as_bytes()), limit, "{text}");
        }
    }

    #[test]
    fn who_is_left() {
        use Extent::{AllWriters, AppTree};
        use Scope::{Descendants, Namespace};
        use TreeState::{Empty, Hidden, Visible};
        let word = |childless, alone, group| KernelView { childless, alone, group };
        let (empty, children) = (word(true, true, false), word(false, false, false));
        // As PID 1: a process has entered from outside.
        let entered = word(true, false, false);
        let group = word(false, false, true);
        for (scope, extent, before, now, shown, expected) in [
            (Descendants, AllWriters, empty, empty, Some(0), Empty),
            (Descendants, AllWriters, empty, empty, None, Empty),
            (Descendants, AllWriters, empty, children, Some(2), Visible),
            // hidepid: the kernel knows of a child, /proc shows none.
            (Descendants, AllWriters, empty, children, Some(0), Hidden),
            (Descendants, AllWriters, empty, children, None, Hidden),
            // A `tee` that was there before the app.
            (Descendants, AllWriters, children, children, Some(0), Empty),
            (Descendants, AllWriters, children, group, Some(0), Hidden),
            (Descendants, AllWriters, children, children, None, Hidden),
            (Namespace, AllWriters, empty, empty, Some(0), Empty),
            (Namespace, AllWriters, empty, empty, None, Empty),
            (Namespace, AllWriters, empty, entered, Some(0), Hidden),
            (Namespace, AllWriters, empty, children, Some(0), Hidden),
            (Namespace, AllWriters, empty, entered, Some(1), Visible),
            (Namespace, AllWriters, entered, entered, Some(0), Empty),
            (Namespace, AllWriters, entered, entered, None, Hidden),
            // Between two lives a `docker exec` session may stay.
            (Namespace, AppTree, empty, entered, Some(0), Empty),
            (Namespace, AppTree, empty, children, Some(0), Hidden),
            (Namespace, AppTree, empty, children, Some(1), Visible),
        ] {
            let case = format!("{scope:?} {extent:?} {before:?} {now:?} {shown:?}");
            let shown = shown.map(|alive| super::ProcView { alive, zombies: false });
            assert_eq!(tree_state(scope, extent, before, now, shown), expected, "{case}");
        }
        let zombie = Some(super::ProcView { alive: 0, zombies: true });
        assert_eq!(tree_state(Namespace, AllWriters, empty, entered, zombie), Empty, "its parent is outside");
        assert_eq!(
            tree_state(Namespace, AllWriters, empty, children, zombie),
            Hidden,
            "and a child is left, too"
        );
    }

    #[test]
    fn a_circle_ends() {
        let all = [process(11, 12, 1), process(12, 11, 1)];
        assert!(tree(&all, 10, Scope::Descendants, None, &HashSet::new()).is_empty());
    }
}
