//! Proof tokens: only the step that proves something may create one. `tests/tidy` checks which files call the
//! constructors.

/// All processes that could write to the databases have exited, except litevisor.
/// Made by `supervise` alone, when the last process has been waited for (or none was ever started).
#[derive(Debug)]
pub struct Quiet(());

impl Quiet {
    pub fn attest() -> Quiet {
        Quiet(())
    }

    /// The weaker word.
    pub fn app_tree_exited(self) -> AppTreeExited {
        AppTreeExited(())
    }
}

/// No process of the app's last life is left, so that the next one may begin. Others may be there, who
/// entered from outside (`docker exec`). Made by `supervise` alone.
#[derive(Debug)]
pub struct AppTreeExited(());

impl AppTreeExited {
    pub fn attest() -> AppTreeExited {
        AppTreeExited(())
    }
}

/// Every database is in the state in which the app may see it. Made by `restore` alone.
#[derive(Debug)]
pub struct Restored(());

impl Restored {
    pub fn attest() -> Restored {
        Restored(())
    }
}
