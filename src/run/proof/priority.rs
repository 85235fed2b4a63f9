//! A thread that yields to the app: a lower CPU priority and the lowest one at the disk. Threads that it
//! starts have the same.

use nix::libc;

/// Gets a tenth of a core that the app wants for itself.
const NICE: libc::c_int = 10;
const WHO_PROCESS: libc::c_int = 1;
/// Best effort, the last of its eight levels. The idle class would wait for ever beside a busy app.
const LAST_OF_BEST_EFFORT: libc::c_int = (2 << 13) | 7;

/// For the calling thread, if the kernel allows it: without it the work is only less polite.
pub fn lower() {
    // SAFETY: both calls take integers only, and 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, LAST_OF_BEST_EFFORT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_alone_is_nice() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let inside = std::thread::spawn(move || {
            lower();
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        assert_eq!(inside.join().unwrap(), (before.max(NICE), before.max(NICE)));
        assert_eq!(nice(), before);
    }
}
