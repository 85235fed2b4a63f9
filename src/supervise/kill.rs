//! Sends signals to processes and groups, by number, because nix has no real-time signals.
//!
//! Root without CAP_KILL (hardened containers) sends as the receiver's user: the kernel allows signals
//! between processes of one user.

use super::credentials::{as_user, may_change_user, may_signal_anyone};
use super::procs;
use crate::model::Signal;
use nix::errno::Errno;
use nix::libc;

/// The result of sending a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Sent,
    /// The process does not exist any more.
    Gone,
    /// The process exists, and the kernel does not allow the signal.
    Refused,
}

/// The rights with which signals are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// The app's user, if it is not litevisor's.
    app_user: Option<u32>,
    /// This process has no CAP_KILL.
    limited: bool,
}

impl Sender {
    pub(super) fn new(app_user: Option<u32>) -> Sender {
        Sender { app_user, limited: !may_signal_anyone() }
    }

    /// To one process.
    pub(super) fn process(self, pid: i32, signal: Signal) -> Sent {
        let sent = send(pid, signal);
        if sent != Sent::Refused || !self.limited {
            return sent;
        }
        let users = [procs::user_of(pid), self.app_user];
        let tries = users.into_iter().flatten().map(|user| as_user(user, || send(pid, signal)));
        tries.into_iter().find(|sent| *sent != Sent::Refused).unwrap_or(Sent::Refused)
    }

    /// To every member of a process group.
    pub(super) fn group(self, group: i32, signal: Signal) -> Sent {
        let sent = self.all(-group, signal);
        if !self.limited || !may_change_user() {
            return sent;
        }
        // The call above does not reach members of a third user.
        let reached = [Some(nix::unistd::getuid().as_raw()), self.app_user];
        let others = procs::all().unwrap_or_default().into_iter().filter(|member| member.group == group);
        others.fold(sent, |sent, member| match procs::user_of(member.pid) {
            user @ Some(_) if !reached.contains(&user) => sent.or(self.process(member.pid, signal)),
            _ => sent,
        })
    }

    /// As PID 1: to all other processes of the namespace.
    pub(super) fn everything(self, signal: Signal) -> Sent {
        self.all(-1, signal)
    }

    /// The real user stays litevisor's while the effective user is the app's: the signal reaches the
    /// processes of both, once each.
    fn all(self, target: i32, signal: Signal) -> Sent {
        match self.app_user {
            Some(user) if self.limited => as_user(user, || send(target, signal)),
            _ => send(target, signal),
        }
    }
}

impl Sent {
    /// The result for several receivers: `Sent` if one of them got the signal.
    fn or(self, other: Sent) -> Sent {
        match (self, other) {
            (Sent::Sent, _) | (_, Sent::Sent) => Sent::Sent,
            (Sent::Refused, _) | (_, Sent::Refused) => Sent::Refused,
            (Sent::Gone, Sent::Gone) => Sent::Gone,
        }
    }
}

/// Whether a process, alive or zombie, is in this group.
pub(super) fn group_exists(group: i32) -> bool {
    send(-group, Signal(0)) != Sent::Gone
}

/// Whether a process of this group is alive. Without /proc: whether one exists, alive or zombie.
pub(super) fn lives_in_group(group: i32) -> bool {
    match procs::all() {
        Some(all) => all.iter().any(|process| process.group == group && process.alive),
        None => group_exists(group),
    }
}

/// As PID 1: whether the kernel finds no other process in the namespace.
pub(super) fn alone() -> bool {
    send(-1, Signal(0)) == Sent::Gone
}

fn send(target: i32, signal: Signal) -> Sent {
    // SAFETY: kill takes two integers and touches no memory.
    match unsafe { libc::kill(target, signal.0) } {
        0 => Sent::Sent,
        _ if Errno::last() == Errno::ESRCH => Sent::Gone,
        _ => Sent::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_several() {
        use Sent::{Gone, Refused, Sent as Done};
        for (one, other, both) in
            [(Done, Refused, Done), (Gone, Done, Done), (Gone, Refused, Refused), (Gone, Gone, Gone)]
        {
            assert_eq!(one.or(other), both, "{one:?} {other:?}");
        }
    }

    #[test]
    fn nobody_is_not_refused() {
        let sender = Sender::new(None);
        assert_eq!(sender.process(i32::MAX - 1, Signal::TERM), Sent::Gone);
        assert_eq!(sender.group(i32::MAX - 1, Signal::TERM), Sent::Gone);
        assert_eq!(sender.process(std::process::id() as i32, Signal(0)), Sent::Sent);
    }
}
