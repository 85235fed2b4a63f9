//! Disks of a given size, and syncs that wait: what a restore meets on a bad day.

use super::wait_until;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, there for everybody until it is dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, kib: u64) -> Tmpfs {
        assert!(nix::unistd::geteuid().is_root(), "this test mounts a file system: run it as root");
        let size = format!("size={kib}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status().unwrap();
        assert!(mount.success(), "cannot mount a tmpfs");
        Tmpfs(at.to_owned())
    }

    /// Somebody else uses up what is left.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = [7; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A library to preload: the n-th `fsync` or `fdatasync` of the process makes the file `$HELD_SYNC` and never returns, as
/// on a disk that hangs.
pub struct HeldSync {
    library: PathBuf,
    mark: PathBuf,
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
static atomic_int seen;
static void hold(void) {
    const char *nth = getenv("HELD_SYNC_NTH"), *mark = getenv("HELD_SYNC");
    if (nth && mark && atomic_fetch_add(&seen, 1) + 1 == atoi(nth)) {
        close(open(mark, O_CREAT | O_WRONLY, 0600));
        for (;;) pause();
    }
}
int fsync(int fd) { hold(); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { hold(); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"#;

impl HeldSync {
    pub fn built_in(directory: &Path) -> HeldSync {
        let (source, library) = (directory.join("held.c"), directory.join("held.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
        assert!(built.unwrap().success(), "the library to preload does not build");
        HeldSync { library, mark: directory.join("held") }
    }

    /// `command` waits for ever at its n-th sync, counted from 1.
    pub fn at(&self, command: &mut Command, nth: u32) {
        let _ = std::fs::remove_file(&self.mark);
        command.env("LD_PRELOAD", &self.library).env("HELD_SYNC", &self.mark).env("HELD_SYNC_NTH", nth.to_string());
    }

    pub fn reached(&self) -> bool {
        self.mark.exists()
    }

    pub fn wait(&self) {
        wait_until("the sync that is held", super::SOON, || self.reached());
    }
}
