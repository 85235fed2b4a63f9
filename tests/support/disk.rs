//! Disks of a given size, syncs that wait, and file systems that cannot do everything.

use super::wait_until;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, there for everybody until it is dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, kib: u64) -> Tmpfs {
        assert!(nix::unistd::geteuid().is_root(), "this test mounts a file system: run it as root");
        let size = format!("size={kib}k");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status().unwrap();
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

/// A library to preload: the n-th `fsync` or `fdatasync` of the process makes the file `$HELD_SYNC` and never
/// returns, as on a disk that hangs.
pub struct HeldSync {
    library: PathBuf,
    mark: PathBuf,
}

const HELD_SOURCE: &str = r#"
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
        HeldSync { library: build(directory, "held", HELD_SOURCE), mark: directory.join("held") }
    }

    /// `command` waits for ever at its n-th sync, counted from 1.
    pub fn at(&self, command: &mut Command, nth: u32) {
        let _ = std::fs::remove_file(&self.mark);
        command
            .env("LD_PRELOAD", &self.library)
            .env("HELD_SYNC", &self.mark)
            .env("HELD_SYNC_NTH", nth.to_string());
    }

    pub fn reached(&self) -> bool {
        self.mark.exists()
    }

    pub fn wait(&self) {
        wait_until("the sync that is held", super::SOON, || self.reached());
    }
}

fn build(directory: &Path, name: &str, text: &str) -> PathBuf {
    let (source, library) = (directory.join(format!("{name}.c")), directory.join(format!("{name}.so")));
    std::fs::write(&source, text).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(built.unwrap().success(), "the library to preload does not build");
    library
}

/// A library to preload: no file gets another time (`EPERM`, as on Azure Files), and no directory is synced
/// (`EINVAL`, as with 9p and old CIFS).
pub struct PoorFileSystem {
    library: PathBuf,
    times: PathBuf,
    syncs: PathBuf,
}

const POOR_SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
static int refuse(const char *variable, int number) {
    const char *mark = getenv(variable);
    if (mark) close(open(mark, O_CREAT | O_WRONLY, 0600));
    errno = number;
    return -1;
}
static int is_directory(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
}
int futimens(int fd, const struct timespec times[2]) { return refuse("POOR_TIMES", EPERM); }
int utimensat(int at, const char *path, const struct timespec times[2], int flags) { return refuse("POOR_TIMES", EPERM); }
int fsync(int fd) {
    if (is_directory(fd)) return refuse("POOR_SYNCS", EINVAL);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (is_directory(fd)) return refuse("POOR_SYNCS", EINVAL);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

impl PoorFileSystem {
    pub fn built_in(directory: &Path) -> PoorFileSystem {
        let library = build(directory, "poor", POOR_SOURCE);
        PoorFileSystem { library, times: directory.join("poor-times"), syncs: directory.join("poor-syncs") }
    }

    pub fn under(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("POOR_TIMES", &self.times)
            .env("POOR_SYNCS", &self.syncs);
    }

    /// Forgets what was refused, and whether times and syncs of directories were.
    pub fn take_refused(&self) -> (bool, bool) {
        (std::fs::remove_file(&self.times).is_ok(), std::fs::remove_file(&self.syncs).is_ok())
    }
}
