//! Whoever is left of the app's process tree once its main process is gone: finds, signals, and attests that there is
//! nobody. In: /proc. Out: `Quiet`, or how many are left. Waits for nothing itself.

use super::procfs::{Identity, Process, Scope, parse_stat, tree};
use super::{claim, kill, reap};
use crate::model::Signal;
use crate::model::proof::Quiet;
use std::collections::HashSet;

pub struct Tree {
    scope: Scope,
    /// Who was there before the app: not ours to end.
    bystanders: HashSet<Identity>,
    asked: HashSet<Identity>,
    app_group: Option<i32>,
}

/// What to do with those who are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treat {
    /// Once each; not the app's group when it has been told as a group.
    Ask {
        signal: Signal,
        group_told: bool,
    },
    Kill,
    Look,
}

#[derive(Debug)]
pub enum Left {
    Nobody(Quiet),
    Somebody(usize),
}

impl Tree {
    /// Before the app is started.
    pub fn before_the_app() -> Tree {
        let scope = if claim::is_init() { Scope::Namespace } else { Scope::Descendants };
        let mut before = Tree { scope, bystanders: HashSet::new(), asked: HashSet::new(), app_group: None };
        before.bystanders = before.find().unwrap_or_default().iter().map(Process::identity).collect();
        before
    }

    /// Each time that it is started.
    pub fn app_started(&mut self, group: i32) {
        self.app_group = Some(group);
        self.asked.clear();
    }

    /// One look at who is left, and what is to be done with them. The app's main process must have been waited for.
    pub fn treat(&mut self, treat: Treat) -> Left {
        let left = self.look(treat);
        if matches!(left, Left::Nobody(_)) {
            // The number is free again: it may become somebody else's.
            self.app_group = None;
        }
        left
    }

    fn look(&mut self, treat: Treat) -> Left {
        // The common case, and proof enough for a subreaper: orphans are adopted, so without a child there is no
        // descendant. PID 1 must look for those who entered the namespace, too.
        if reap::reap(None).childless && self.scope == Scope::Descendants {
            return Left::Nobody(Quiet::attest());
        }
        match self.find() {
            // /proc is no snapshot: a process that forks and ends while it is read can hide its child from one look.
            Some(found) if found.is_empty() && self.find().is_some_and(|again| again.is_empty()) => {
                Left::Nobody(Quiet::attest())
            }
            Some(found) => {
                found.iter().for_each(|process| self.treat_one(process, treat));
                Left::Somebody(found.len())
            }
            None => self.treat_blindly(treat),
        }
    }

    fn treat_one(&mut self, process: &Process, treat: Treat) {
        match treat {
            Treat::Ask { group_told: true, .. } if Some(process.group) == self.app_group => {}
            Treat::Ask { signal, .. } => {
                if self.asked.insert(process.identity()) {
                    kill::process(process.pid, signal);
                    kill::process(process.pid, Signal::CONT);
                }
            }
            Treat::Kill => kill::process(process.pid, Signal::KILL),
            Treat::Look => {}
        }
    }

    /// Without a /proc of our namespace: the app's group, and as PID 1 everybody.
    fn treat_blindly(&self, treat: Treat) -> Left {
        let group_left = self.app_group.is_some_and(kill::group_exists);
        if reap::reap(None).childless && !group_left {
            return Left::Nobody(Quiet::attest());
        }
        let signals: &[Signal] = match treat {
            Treat::Ask { signal, .. } => &[signal, Signal::CONT],
            Treat::Kill => &[Signal::KILL],
            Treat::Look => &[],
        };
        for &signal in signals {
            match (self.scope, self.app_group) {
                (Scope::Namespace, _) => kill::everything(signal),
                (Scope::Descendants, Some(group)) => kill::group(group, signal),
                (Scope::Descendants, None) => {}
            }
        }
        Left::Somebody(1)
    }

    /// None without a usable /proc: not mounted, or another namespace's, whose numbers mean other processes here.
    fn find(&self) -> Option<Vec<Process>> {
        let me = std::process::id();
        let own = std::fs::read_link("/proc/self").ok()?;
        if own.to_str()?.parse() != Ok(me) {
            return None;
        }
        let all: Vec<Process> = std::fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
            .filter_map(|entry| parse_stat(&std::fs::read(entry.path().join("stat")).ok()?))
            .collect();
        Some(tree(&all, i32::try_from(me).ok()?, self.scope, self.app_group, &self.bystanders))
    }
}
