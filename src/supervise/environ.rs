//! Hides variables from `/proc/PID/environ`, which shows the environment that the process was started with to
//! every process of the same user. The program itself still sees the variables, at another address.
//!
//! Only while no other thread exists: the C library's list of variables is changed.

use super::procfs::parse_arguments;
use nix::libc;
use std::ffi::{CStr, CString, OsString, c_char};
use std::os::unix::ffi::OsStrExt;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Byte for byte, also entries that are not UTF-8 or hold no `=`.
pub(super) fn entries() -> Vec<CString> {
    // SAFETY: no other thread exists that could change the environment; each is a live C string.
    all().into_iter().map(|slot| unsafe { CStr::from_ptr(*slot) }.to_owned()).collect()
}

/// The addresses of the entries.
fn all() -> Vec<*mut *mut c_char> {
    let mut slots = Vec::new();
    // SAFETY: `environ` is null or a null-terminated array.
    unsafe {
        let mut slot = environ;
        while !slot.is_null() && !(*slot).is_null() {
            slots.push(slot);
            slot = slot.add(1);
        }
    }
    slots
}

/// Moves the variables of these names away from the memory that the kernel shows, and wipes that memory.
pub(super) fn hide(names: &[OsString]) {
    for slot in all() {
        // SAFETY: a live C string, which no other thread reads or writes now.
        let entry = unsafe { CStr::from_ptr(*slot) };
        if names.iter().any(|name| is_named(entry, name)) {
            let copy = entry.to_owned().into_raw();
            wipe(slot);
            // SAFETY: a place of the environment's array; the copy is never freed.
            unsafe { *slot = copy };
        }
    }
}

/// For a process that needs no environment.
pub(super) fn forget_everything() {
    all().into_iter().for_each(wipe);
}

/// `ps` shows `name` in place of the arguments, which are those of litevisor and may hold secrets.
pub(super) fn forget_arguments(name: &[u8]) {
    let Some((start, end)) = std::fs::read("/proc/self/stat").ok().and_then(|stat| parse_arguments(&stat))
    else {
        return;
    };
    let length = end.saturating_sub(start);
    for index in 0..length {
        // One byte less, so that the kernel sees the end of the last argument.
        let byte = name.get(index).filter(|_| index + 1 < length).copied().unwrap_or(0);
        // SAFETY: the kernel's own bounds of this process's arguments, which lie on its stack and may be
        // written.
        unsafe { ((start + index) as *mut u8).write_volatile(byte) };
    }
}

fn is_named(entry: &CStr, name: &OsString) -> bool {
    entry.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
}

fn wipe(slot: *mut *mut c_char) {
    // SAFETY: the entry lies in memory of this process that may be written: the kernel's block on the stack,
    // or the C library's heap. It is as long as it says.
    unsafe {
        let length = libc::strlen(*slot);
        for index in 0..length {
            // Volatile: it is read by others, so it must happen.
            (*slot).add(index).write_volatile(0);
        }
    }
}
