//! The socket on which an app says by sd_notify(3) that it is ready. Each message comes with the sender's
//! process and user, from the kernel.
//!
//! Its name is in Linux's abstract namespace: that needs no disk, no directory and no rights, so it is the
//! same for a read-only root, an image without files, and an app with another user. Every process of the
//! network namespace can send to it, also one of another container of a pod: so the sender counts, not the
//! name.

use super::procs;
use nix::libc;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// More ancestors than any tree of processes has.
const DEPTH: usize = 64;
/// Room for the credentials and for nothing else: descriptors that are sent along are closed by the kernel.
// SAFETY: arithmetic.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as libc::c_uint) } as usize;

pub struct NotifySocket {
    socket: UnixDatagram,
    name: String,
}

/// Who has sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifySender {
    /// 0: a process of another PID namespace.
    pub pid: i32,
    pub uid: u32,
}

/// The process that is meant by "the app".
#[derive(Clone, Copy, Debug)]
pub struct NotifyOwner {
    pub pid: i32,
    pub uid: u32,
}

impl NotifySocket {
    pub fn bind() -> io::Result<NotifySocket> {
        let random = [0u8, 1].map(|half| RandomState::new().hash_one(half));
        let name = format!("litevisor-notify-{:016x}{:016x}", random[0], random[1]);
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: a live integer and its size.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PASSCRED,
                (&raw const on).cast(),
                size,
            )
        };
        if set == 0 { Ok(NotifySocket { socket, name }) } else { Err(io::Error::last_os_error()) }
    }

    /// For the app's `NOTIFY_SOCKET`.
    pub fn address(&self) -> OsString {
        format!("@{}", self.name).into()
    }

    /// Waits for the next message. None: it does not fit into `buffer`, or its sender is not known.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(&'a [u8], NotifySender)>> {
        // Aligned for the control header.
        let mut control = [0u64; CONTROL.div_ceil(8)];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all bits zero are a valid header; it points to live buffers, with their sizes, for the time
        // of the call.
        let (read, header) = unsafe {
            let mut header: libc::msghdr = zeroed();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            (libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC), header)
        };
        let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
        let complete = header.msg_flags & libc::MSG_TRUNC == 0;
        Ok(sender(&header).filter(|_| complete).and_then(|sender| Some((buffer.get(..read)?, sender))))
    }

    /// Every call of `receive` returns from now on.
    pub fn shut(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The credentials of a received message.
fn sender(header: &libc::msghdr) -> Option<NotifySender> {
    // SAFETY: the kernel has filled the control buffer, which is live in the caller; CMSG_FIRSTHDR looks at
    // its length.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        let is_sender = |first: &libc::cmsghdr| {
            (first.cmsg_level, first.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        };
        first.as_ref().filter(|first| is_sender(first))?;
        let found: libc::ucred = libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned();
        Some(NotifySender { pid: found.pid, uid: found.uid })
    }
}

impl NotifyOwner {
    /// Whether a message of this sender is the app's: of its user, of its process or of what it has started.
    /// The user alone is enough, because a process that only sends (`systemd-notify`) may have ended already;
    /// a process of another PID namespace is not.
    pub fn sent(&self, by: NotifySender) -> bool {
        by.pid > 0
            && (by.uid == self.uid || by.pid == self.pid || descends(by.pid, std::process::id() as i32))
    }
}

fn descends(pid: i32, ancestor: i32) -> bool {
    let parent = |pid: &i32| procs::parent_of(*pid).filter(|parent| *parent > 0);
    std::iter::successors(Some(pid), parent).take(DEPTH).skip(1).any(|above| above == ancestor)
}

#[cfg(test)]
mod tests {
    use super::super::notify_message::LONGEST;
    use super::*;
    use std::os::fd::AsFd;

    fn send(to: &NotifySocket, bytes: &[u8]) {
        let address = SocketAddr::from_abstract_name(&to.name).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(bytes, &address).unwrap();
    }

    #[test]
    fn a_message_comes_with_its_sender() {
        let socket = NotifySocket::bind().unwrap();
        let mut buffer = [0; LONGEST];
        let me = NotifySender { pid: std::process::id() as i32, uid: nix::unistd::getuid().as_raw() };
        send(&socket, b"READY=1");
        assert_eq!(socket.receive(&mut buffer).unwrap(), Some((&b"READY=1"[..], me)));
        send(&socket, &[b'x'; LONGEST + 1]);
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
        send(&socket, b"");
        assert_eq!(socket.receive(&mut buffer).unwrap(), Some((&b""[..], me)));
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| socket.receive(&mut [0; 9]).unwrap().is_none());
            socket.shut();
            assert!(waiting.join().unwrap());
        });
    }

    /// Otherwise an app could fill the table of descriptors.
    #[test]
    fn descriptors_are_not_taken() {
        let socket = NotifySocket::bind().unwrap();
        let name = socket.name.clone();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let sent = std::io::stdin();
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX, \
            socket.SOCK_DGRAM)\ns.connect('\\0' + sys.argv[1])\n\
                      socket.send_fds(s, [b'READY=1'], [0] * 100)";
        let before = open();
        let sender = std::process::Command::new("python3")
            .args(["-c", script, &name])
            .stdin(sent.as_fd().try_clone_to_owned().unwrap())
            .status();
        assert!(sender.unwrap().success());
        let mut buffer = [0; LONGEST];
        let (bytes, _) = socket.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(bytes, b"READY=1");
        // Tests beside this one open files, too, but not so many.
        assert!(open() < before + 50, "{before} {}", open());
    }

    #[test]
    fn who_is_of_the_app() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let owner = NotifyOwner { pid: 4_194_303, uid: 12_345 };
        for (pid, uid, expected) in [
            (1, 12_345, true),
            (0, 12_345, false),
            (4_194_303, 0, true),
            (pid, 0, true),
            (1, 0, false),
            (4_194_302, 0, false),
        ] {
            assert_eq!(owner.sent(NotifySender { pid, uid }), expected, "{pid} {uid}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
