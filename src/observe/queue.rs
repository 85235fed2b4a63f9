//! The queue between the callers of the log and the file descriptor: bounded, with one thread that may block.
//! It writes whole lines in order, and how many were dropped; on a terminal it redraws one live line below
//! them. The lock is held while a line is moved, not while it is written.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Beyond this many bytes lines are dropped and counted.
const LIMIT: usize = 1 << 20;

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that did not fit, not reported yet.
    dropped: u64,
    /// Lines that could not be written, not reported yet.
    unwritten: u64,
    /// The thread is writing a line.
    writing: bool,
    /// The live line to show, and the one that is shown.
    live: Option<String>,
    drawn: Option<String>,
}

/// Moves to the first column and erases the rest of the screen.
const ERASE: &str = "\r\x1b[K";
/// A live line that is longer than the terminal is wide must not wrap: it could not be erased.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

struct Shared {
    state: Mutex<State>,
    /// A line was added.
    filled: Condvar,
    /// Everything is written.
    drained: Condvar,
}

/// Handle to the queue; clones share it.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

/// Formats the line that reports lost lines.
pub type TellLost = Box<dyn Fn(u64) -> String + Send>;

impl Queue {
    /// Starts the thread. It lives as long as the process.
    pub fn start(mut out: impl Write + Send + 'static, tell_lost: TellLost) -> std::io::Result<Queue> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), filled: Condvar::new(), drained: Condvar::new() });
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("log".into()).stack_size(128 << 10).spawn(move || {
            loop {
                let line = own.next(&tell_lost);
                let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                own.written(written.is_ok());
            }
        })?;
        Ok(Queue(shared))
    }

    /// Does not wait for the descriptor.
    pub fn push(&self, line: String) {
        let mut state = self.0.lock();
        if state.bytes + line.len() > LIMIT {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Sets the live line; None removes it. For terminals only.
    pub fn live(&self, line: Option<String>) {
        self.0.lock().live = line;
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, at most `limit`. False: lines remain.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.0.lock();
        while state.writing || !state.is_drained() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = match self.0.drained.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

impl State {
    fn is_drained(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && self.live == self.drawn
    }

    /// The prefix of a line that erases the live line.
    fn erase(&mut self) -> String {
        self.drawn.take().map_or_else(String::new, |_| ERASE.to_owned())
    }
}

impl Shared {
    /// A panic elsewhere must not stop the log: the state is consistent between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn next(&self, tell_lost: &TellLost) -> String {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes = state.bytes.saturating_sub(line.len());
                state.writing = true;
                // Reported together with the next line: alone it would fail like the lines that it counts,
                // for ever.
                let unwritten = std::mem::take(&mut state.unwritten);
                let erase = state.erase();
                return if unwritten == 0 { erase + &line } else { erase + &tell_lost(unwritten) + &line };
            }
            if state.dropped > 0 {
                state.writing = true;
                return state.erase() + &tell_lost(std::mem::take(&mut state.dropped));
            }
            if state.live != state.drawn {
                state.writing = true;
                state.drawn = state.live.clone();
                let line = state.drawn.as_ref().map(|line| format!("{NO_WRAP}{line}{WRAP}"));
                return ERASE.to_owned() + &line.unwrap_or_default();
            }
            state = self.filled.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn written(&self, fine: bool) {
        let mut state = self.lock();
        state.writing = false;
        state.unwritten += u64::from(!fine);
        if state.is_drained() {
            self.drained.notify_all();
        }
    }
}

/// A descriptor without std's lock and buffer, so that no other thread can block on it. An app that shares it
/// may have made it non-blocking: then this thread waits for room.
pub struct Descriptor<F>(pub F);

impl<F: AsFd> Write for Descriptor<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            match nix::unistd::write(&self.0, bytes).map_err(std::io::Error::from) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(self.0.as_fd())?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn wait_for_room(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::mpsc;

    /// A writer that does not return before it is let through.
    struct Gate {
        opened: mpsc::Receiver<std::io::Result<()>>,
        written: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.opened.recv().map_err(|_| std::io::Error::from(ErrorKind::BrokenPipe))??;
            let _ = self.written.send(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Queue, mpsc::Sender<std::io::Result<()>>, mpsc::Receiver<String>) {
        let (open, opened) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let queue = Queue::start(Gate { opened, written: sender }, Box::new(|lost| format!("{lost} lost\n")))
            .unwrap();
        (queue, open, written)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_come_out_in_order_and_flush_waits_for_them() {
        let (queue, open, written) = gated();
        queue.push("1\n".into());
        queue.push("2\n".into());
        assert!(!queue.flush(Duration::from_millis(20)), "the gate is shut");
        open.send(Ok(())).unwrap();
        open.send(Ok(())).unwrap();
        assert!(queue.flush(LONG));
        assert_eq!((written.recv().unwrap(), written.recv().unwrap()), ("1\n".into(), "2\n".into()));
        assert!(queue.flush(Duration::ZERO), "empty already");
    }

    #[test]
    fn the_live_line_stands_below_whatever_is_logged() {
        let (queue, open, written) = gated();
        let step = |act: &dyn Fn(), expected: &str| {
            act();
            open.send(Ok(())).unwrap();
            assert_eq!(written.recv_timeout(LONG).unwrap(), expected);
        };
        step(&|| queue.live(Some("10 %".into())), "\r\x1b[K\x1b[?7l10 %\x1b[?7h");
        step(&|| queue.live(Some("20 %".into())), "\r\x1b[K\x1b[?7l20 %\x1b[?7h");
        step(&|| queue.push("1\n".into()), "\r\x1b[K1\n");
        step(&|| (), "\r\x1b[K\x1b[?7l20 %\x1b[?7h");
        step(&|| queue.live(None), "\r\x1b[K");
        step(&|| queue.push("2\n".into()), "2\n");
        assert!(queue.flush(LONG));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_later() {
        let (queue, open, written) = gated();
        let big = "x".repeat(LIMIT / 4);
        // One may be in the writer's hands, four fill the queue: of ten at least five are lost.
        for _ in 0..10 {
            queue.push(big.clone());
        }
        // Ten sends are enough for what is kept and for the note, which comes last.
        (0..10).for_each(|_| open.send(Ok(())).unwrap());
        assert!(queue.flush(LONG));
        let lines: Vec<String> = written.try_iter().collect();
        let (told, kept) = lines.split_last().unwrap();
        let lost: usize = told.strip_suffix(" lost\n").unwrap().parse().unwrap();
        assert_eq!(lost + kept.len(), 10);
        assert!(lost >= 5, "{lost}");
    }

    #[test]
    fn a_broken_pipe_loses_lines_and_nothing_else() {
        let (queue, open, written) = gated();
        queue.push("1\n".into());
        open.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        assert!(queue.flush(LONG));
        queue.push("2\n".into());
        open.send(Ok(())).unwrap();
        assert_eq!(written.recv_timeout(LONG).unwrap(), "1 lost\n2\n");
    }

    #[test]
    fn a_descriptor_that_somebody_made_non_blocking_loses_nothing() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let queue = Queue::start(Descriptor(writer), Box::new(|lost| format!("{lost} lost\n"))).unwrap();
        let sent: String = (0..20_000).map(|number| format!("{number}\n")).collect();
        sent.split_inclusive('\n').for_each(|line| queue.push(line.to_owned()));
        let mut read = vec![0; sent.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == sent.as_bytes());
        assert!(queue.flush(LONG));
    }

    #[test]
    fn a_full_pipe_does_not_stop_the_caller() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let queue = Queue::start(writer, Box::new(|lost| format!("{lost} lost\n"))).unwrap();
        let line = "y".repeat(4095) + "\n";
        for _ in 0..1000 {
            queue.push(line.clone());
        }
        // No byte was read: the pipe is full, the queue is full, and we are here.
        let mut first = vec![0; 4096];
        reader.read_exact(&mut first).unwrap();
        assert!(first == line.as_bytes(), "the oldest line comes first");
    }
}
