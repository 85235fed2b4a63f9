//! The processes of the app's tree that are left when its main process has exited: finds them, signals them,
//! and attests that none is left (`Quiet`, `AppTreeExited`).
//!
//! The kernel's answers (wait, kill) count more than /proc, which may be hidden or not mounted. Nothing here
//! waits.

use super::kill::{self, Sender, Sent};
pub use super::procfs::Extent;
use super::procfs::{Identity, KernelView, ProcView, Process, Scope, TreeState, tree, tree_state};
use super::{claim, procs, reap};
use crate::model::Signal;
use crate::model::proof::{AppTreeExited, Quiet};
use std::collections::HashSet;

pub struct ProcessTree {
    scope: Scope,
    /// Processes that existed before the app: litevisor does not end them.
    bystanders: HashSet<Identity>,
    before: KernelView,
    /// Processes that got the stop signal.
    signalled: HashSet<Identity>,
    /// Children that /proc does not show.
    hidden: Vec<i32>,
    app_group: Option<i32>,
    sender: Sender,
}

/// What to do with the processes that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The stop signal and SIGCONT, once to each process; not to the app's group when the whole group has got
    /// the signal.
    Signal {
        signal: Signal,
        group_signalled: bool,
    },
    Kill,
    Count,
}

#[derive(Debug)]
pub enum Remaining {
    AllExited(Quiet),
    /// The answer for `Extent::AppTree`.
    AppTreeExited(AppTreeExited),
    Alive {
        count: usize,
        /// How many of them the kernel did not allow litevisor to signal.
        refused: usize,
    },
}

impl ProcessTree {
    /// Before the app is started.
    pub fn before_the_app() -> ProcessTree {
        let scope = if claim::is_init() { Scope::Namespace } else { Scope::Descendants };
        let mut tree = ProcessTree {
            scope,
            bystanders: HashSet::new(),
            before: KernelView { childless: false, alone: false, group: false },
            signalled: HashSet::new(),
            hidden: Vec::new(),
            app_group: None,
            sender: Sender::new(None),
        };
        tree.before = tree.kernel_view();
        let listed = tree.list(Extent::AllWriters).map(|listed| listed.alive).unwrap_or_default();
        tree.bystanders = listed.iter().map(Process::identity).collect();
        tree
    }

    /// At each start of the app.
    pub(super) fn app_started(&mut self, group: i32, sender: Sender) {
        (self.app_group, self.sender) = (Some(group), sender);
        self.signalled.clear();
        self.hidden.clear();
    }

    /// Applies `treatment` to the processes that are left. The app's main process must have been waited for.
    pub fn treat(&mut self, treatment: Treatment, extent: Extent) -> Remaining {
        let remaining = self.treat_listed(treatment, extent);
        if !matches!(remaining, Remaining::Alive { .. }) {
            // The kernel may give the number of the group to another process from now on.
            self.app_group = None;
        }
        remaining
    }

    fn treat_listed(&mut self, treatment: Treatment, extent: Extent) -> Remaining {
        let now = self.kernel_view();
        let listed = self.list(extent);
        let state = |listed: &Option<Listed>| {
            let shown =
                listed.as_ref().map(|listed| ProcView { alive: listed.alive.len(), zombies: listed.zombies });
            tree_state(self.scope, extent, self.before, now, shown)
        };
        match state(&listed) {
            // /proc is no snapshot: a process that forks and exits while it is read can hide its child from
            // one listing.
            TreeState::Empty if state(&self.list(extent)) == TreeState::Empty => match extent {
                Extent::AllWriters => Remaining::AllExited(Quiet::attest()),
                Extent::AppTree => Remaining::AppTreeExited(AppTreeExited::attest()),
            },
            TreeState::Empty => Remaining::Alive { count: 1, refused: 0 },
            TreeState::Visible => {
                let alive = listed.map(|listed| listed.alive).unwrap_or_default();
                let sent: Vec<Sent> =
                    alive.iter().filter_map(|process| self.treat_one(process, treatment)).collect();
                still_alive(alive.len(), &sent)
            }
            TreeState::Hidden => self.treat_hidden(treatment, extent),
        }
    }

    fn kernel_view(&self) -> KernelView {
        KernelView {
            childless: reap::reap(None).childless,
            alone: self.scope == Scope::Namespace && kill::alone(),
            group: self.app_group.is_some_and(kill::group_exists),
        }
    }

    fn treat_one(&mut self, process: &Process, treatment: Treatment) -> Option<Sent> {
        match treatment {
            Treatment::Signal { group_signalled: true, .. } if Some(process.group) == self.app_group => None,
            Treatment::Signal { signal, .. } => self.signalled.insert(process.identity()).then(|| {
                let sent = self.sender.process(process.pid, signal);
                self.sender.process(process.pid, Signal::CONT);
                sent
            }),
            Treatment::Kill => Some(self.sender.process(process.pid, Signal::KILL)),
            Treatment::Count => None,
        }
    }

    /// Treats processes that /proc does not show: the app's group; litevisor's children, which are found by a
    /// wait for each number; and, as PID 1, all processes of the namespace when all must exit.
    fn treat_hidden(&mut self, treatment: Treatment, extent: Extent) -> Remaining {
        let signals: &[Signal] = match treatment {
            Treatment::Signal { signal, .. } => &[signal, Signal::CONT],
            Treatment::Kill => &[Signal::KILL],
            Treatment::Count => return Remaining::Alive { count: 1, refused: 0 },
        };
        if self.scope == Scope::Namespace && extent == Extent::AllWriters && self.before.alone {
            let sent: Vec<Sent> = signals.iter().map(|&signal| self.sender.everything(signal)).collect();
            return still_alive(1, &sent);
        }
        let mut sent: Vec<Sent> = match self.app_group {
            Some(group) => signals.iter().map(|&signal| self.sender.group(group, signal)).collect(),
            None => Vec::new(),
        };
        self.hidden.retain(|pid| reap::is_child(*pid));
        if self.hidden.is_empty() {
            let before = |pid: &i32| self.bystanders.iter().any(|(bystander, _)| bystander == pid);
            self.hidden =
                reap::children(procs::highest_pid()).into_iter().filter(|pid| !before(pid)).collect();
        }
        for &pid in &self.hidden {
            sent.extend(signals.iter().map(|&signal| self.sender.process(pid, signal)));
        }
        still_alive(self.hidden.len().max(1), &sent)
    }

    /// None without a usable /proc.
    fn list(&self, extent: Extent) -> Option<Listed> {
        let me = i32::try_from(std::process::id()).ok()?;
        let scope = match extent {
            Extent::AllWriters => self.scope,
            Extent::AppTree => Scope::Descendants,
        };
        let all = procs::all()?;
        let alive = tree(&all, me, scope, self.app_group, &self.bystanders);
        Some(Listed { alive, zombies: all.iter().any(|process| process.is_foreign_zombie(me)) })
    }
}

/// What /proc shows of the app's tree.
struct Listed {
    alive: Vec<Process>,
    zombies: bool,
}

fn still_alive(count: usize, sent: &[Sent]) -> Remaining {
    Remaining::Alive { count, refused: sent.iter().filter(|sent| **sent == Sent::Refused).count() }
}
