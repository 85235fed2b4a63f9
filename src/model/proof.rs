//! Tokens that only the right step may make. Who may call a constructor is held by `tests/tidy.rs`.

/// Nobody of the app's process tree is left: no one but us can write to the databases any more.
/// Made by `supervise` alone, when the last process has been waited for (or none was ever started).
#[derive(Debug)]
pub struct Quiet(());

impl Quiet {
    pub fn attest() -> Quiet {
        Quiet(())
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
