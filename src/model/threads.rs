//! The error message when a thread cannot be started: the limit that is reached, and how to raise it. Pure.

use std::fmt::Display;

/// What to do about EAGAIN from fork and from the start of a thread.
pub const LIMIT: &str = "the limit of processes and threads is reached: raise it (RLIMIT_NPROC, `ulimit -u`, \
    or the container's pids limit, pids.max)";

/// In tokio's words when it can start no thread for work that blocks. It panics with them: they are all that
/// is left.
const NO_THREAD: &str = "can't spawn worker thread";

/// Why a task ended without a result. The usual cause is not a bug: the runtime panics when it can start no
/// thread.
pub fn describe_task_failure(error: &dyn Display) -> String {
    let text = error.to_string();
    if text.contains(NO_THREAD) { format!("{text}: {LIMIT}") } else { format!("internal error: {text}") }
}

/// An operating system's error, with what to do if it is that limit.
pub fn with_limit(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        format!("{error}; {LIMIT}")
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_limit_gets_its_hint() {
        let error = std::io::Error::from_raw_os_error;
        assert!(with_limit(&error(nix::libc::EAGAIN)).contains("pids.max"));
        assert!(!with_limit(&error(nix::libc::ENOMEM)).contains("pids.max"));
        assert_eq!(describe_task_failure(&"task 2 panicked"), "internal error: task 2 panicked");
        let none =
            "task 2 panicked with message \"OS can't spawn worker thread: Resource temporarily unavailable\"";
        assert!(describe_task_failure(&none).contains("pids.max"));
    }
}
