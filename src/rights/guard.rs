//! Gives the calling thread another user's rights in the file system until the guard is dropped. The bare
//! system calls change one thread; the C library's `setgroups` would change every thread.
//!
//! If the kernel refuses the rights (a user namespace without CAP_SETUID), that is logged once; the work
//! continues with litevisor's own rights, and `dir`, which follows no links, is the remaining protection.

use super::effective::Rights;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setfsgid, setfsuid};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The process's own ids.
#[derive(Debug)]
struct Own {
    uid: Uid,
    gid: Gid,
    groups: Vec<u32>,
    /// `PR_GET_DUMPABLE`: decides which users may read `/proc/PID/fd`.
    dumpable: i32,
}

static OWN: OnceLock<Own> = OnceLock::new();
static REFUSED: AtomicBool = AtomicBool::new(false);
/// The pause between two tries to return to the own rights.
const AGAIN: Duration = Duration::from_millis(10);

thread_local! {
    static ACTING: RefCell<Option<Rights>> = const { RefCell::new(None) };
}

fn own() -> &'static Own {
    OWN.get_or_init(|| {
        let groups = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        // SAFETY: takes integers and changes nothing.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        Own { uid: geteuid(), gid: getegid(), groups, dumpable }
    })
}

/// Only root can take other rights, and only root needs to.
pub fn are_roots() -> bool {
    own().uid.is_root()
}

/// Whether this thread has another user's rights now.
pub fn acting() -> bool {
    ACTING.with_borrow(Option::is_some)
}

/// The rights that it has.
pub fn now() -> Option<Rights> {
    ACTING.with_borrow(Clone::clone)
}

/// Until it is dropped, this thread has the rights of the `act` call.
#[must_use]
pub struct Acting {
    before: Option<Rights>,
    switched: bool,
    /// Not `Send`: it belongs to its thread.
    _thread: PhantomData<*const ()>,
}

/// None: litevisor's own rights.
pub fn act(rights: Option<&Rights>) -> Acting {
    let before = now();
    let mut switched = false;
    if before.as_ref() != rights && are_roots() {
        match switch(rights) {
            Ok(()) => {
                ACTING.set(rights.cloned());
                switched = true;
            }
            Err(errno) => {
                regain();
                let back = before.as_ref().map_or(Ok(()), lower);
                ACTING.set(before.clone().filter(|_| back.is_ok()));
                report(rights, errno);
            }
        }
    }
    Acting { before, switched, _thread: PhantomData }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if !self.switched {
            return;
        }
        regain();
        let back = self.before.as_ref().map_or(Ok(()), lower);
        ACTING.set(self.before.take().filter(|_| back.is_ok()));
    }
}

fn report(rights: Option<&Rights>, errno: Errno) {
    let uid = rights.map_or(0, |rights| rights.uid);
    if !REFUSED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            uid, %errno,
            "the kernel does not let litevisor work with the rights of the data directory's owner \
             (CAP_SETUID and CAP_SETGID are needed): files there are opened with root's rights, without \
             following links"
        );
    }
}

fn switch(rights: Option<&Rights>) -> Result<(), Errno> {
    regain();
    rights.map_or(Ok(()), lower)
}

/// A file system uid other than root's drops the capabilities that override permissions.
fn lower(rights: &Rights) -> Result<(), Errno> {
    set_groups(&rights.groups)?;
    let uid = Uid::from_raw(rights.uid);
    let gid = Gid::from_raw(rights.gid);
    if set_file_system_ids(uid, gid) {
        stay_dumpable();
        return Ok(());
    }
    // Some kernels (gVisor) have no separate ids for the file system.
    set_effective_ids(uid, gid)
}

/// Every change of these ids clears the flag of the whole process, and jobs in containers could no longer
/// write to `/proc/1/fd/1`. The real, effective and saved user, which decide who may inspect this process,
/// have not changed.
fn stay_dumpable() {
    if own().dumpable == 1 {
        // SAFETY: takes integers and sets one flag of this process.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    }
}

/// Returns to the process's own ids, and retries until that succeeds: a thread must not continue as the wrong
/// user. The kernel refuses it only while it has no memory.
fn regain() {
    while let Err(errno) = try_regain() {
        tracing::error!(%errno, "cannot return to root's rights on this thread; trying again");
        std::thread::sleep(AGAIN);
    }
}

fn try_regain() -> Result<(), Errno> {
    let own = own();
    if geteuid() != own.uid || getegid() != own.gid {
        set_effective_ids(own.uid, own.gid)?;
    }
    // Kernels without these calls have not changed them.
    set_file_system_ids(own.uid, own.gid);
    stay_dumpable();
    let now = getgroups().map(|groups| groups.into_iter().map(Gid::as_raw).collect::<Vec<_>>());
    if now.as_ref() == Ok(&own.groups) { Ok(()) } else { set_groups(&own.groups) }
}

/// `setfsuid` and `setfsgid` return the previous id, whether they succeed or not: a second call shows the
/// result.
fn set_file_system_ids(uid: Uid, gid: Gid) -> bool {
    #[cfg(test)]
    if tests::WITHOUT.get() {
        return false;
    }
    let (nobody, no_group) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    // The group first: after the change of the user it may be refused.
    setfsgid(gid);
    setfsuid(uid);
    setfsgid(no_group) == gid && setfsuid(nobody) == uid
}

/// Sets the effective ids of this thread; the real and saved ids stay, so that it can return.
fn set_effective_ids(uid: Uid, gid: Gid) -> Result<(), Errno> {
    let keep = libc::c_long::from(-1_i32);
    let set = |call: libc::c_long, id: u32| {
        // SAFETY: plain numbers; the raw call changes this thread only.
        Errno::result(unsafe { libc::syscall(call, keep, libc::c_long::from(id), keep) }).map(drop)
    };
    if uid.is_root() {
        set(libc::SYS_setresuid, uid.as_raw())?;
        return set(libc::SYS_setresgid, gid.as_raw());
    }
    set(libc::SYS_setresgid, gid.as_raw())?;
    set(libc::SYS_setresuid, uid.as_raw())
}

fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of one slice of the kernel's gid_t, which is read only; the raw
    // call changes this thread only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    thread_local! {
        /// As on a kernel without ids for the file system.
        pub static WITHOUT: Cell<bool> = const { Cell::new(false) };
    }

    fn alone(rights: &Rights) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let (theirs, secret) = (dir.path().join("theirs"), dir.path().join("secret"));
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(rights.uid), Some(rights.gid)).unwrap();
        fs::write(&secret, "root's").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        let read = || fs::read(&secret).is_ok();
        let acting = act(Some(rights));
        assert!(!read(), "root's file");
        assert!(fs::write(dir.path().join("new"), "").is_err(), "root's directory");
        fs::write(theirs.join("a"), "").unwrap();
        let found = fs::metadata(theirs.join("a")).unwrap();
        assert_eq!((found.uid(), found.gid()), (rights.uid, rights.gid));
        {
            let _inner = act(None);
            assert!(read(), "for a moment");
            let elsewhere = Rights { uid: 777, ..rights.clone() };
            let _other = act(Some(&elsewhere));
            assert!(fs::write(theirs.join("b"), "").is_err());
        }
        assert!(!read(), "and back");
        let others = {
            let secret = secret.clone();
            std::thread::Builder::new().spawn(move || {
                regain();
                fs::read(secret).is_ok()
            })
        };
        assert!(others.unwrap().join().unwrap());
        // SAFETY: takes integers and changes nothing.
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        // Other tests' threads clear the flag for a moment.
        let comes_back = || {
            let until = std::time::Instant::now() + Duration::from_secs(10);
            while dumpable() != 1 {
                assert!(std::time::Instant::now() < until, "jobs write to /proc/1/fd/1");
                std::thread::yield_now();
            }
        };
        if !WITHOUT.get() {
            comes_back();
        }
        drop(acting);
        comes_back();
        assert!(read());
        assert_eq!(getgroups().unwrap().len(), own().groups.len());
        fs::write(dir.path().join("new"), "").unwrap();
        assert_eq!(fs::metadata(dir.path().join("new")).unwrap().uid(), 0);
    }

    #[test]
    fn the_kernel_refuses_what_the_user_may_not_do() {
        if !are_roots() {
            return; // only root can act for others
        }
        let rights = Rights { uid: 4242, gid: 4243, groups: vec![4243, 4244] };
        alone(&rights);
        WITHOUT.set(true);
        alone(&rights);
        WITHOUT.set(false);
    }
}
