//! What a received signal means. Pure.
//!
//! The app has a process group of its own. What a terminal sends to its foreground group therefore reaches
//! either the app or litevisor, never both: a Ctrl-C that litevisor gets did not reach the app, and
//! forwarding it sends nothing twice.

use super::watch::Received;
use crate::model::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A child has exited, or a user sent SIGCHLD by hand.
    Children,
    /// litevisor must stop.
    Stop(Signal),
    /// For the app.
    Forward(Signal),
    /// Caused by a write of litevisor itself (a log pipe without a reader).
    Own,
}

/// `stop_signal`: what the app gets in place of SIGTERM. The image of such an app usually names the same
/// signal to the platform (`STOPSIGNAL`), so it stops litevisor, too. `watchdog`: a service manager ends
/// litevisor by SIGABRT when its watchdog is not fed. The app hears it, and is not started again.
pub fn meaning(received: Received, own_pid: u32, stop_signal: Signal, watchdog: bool) -> Meaning {
    match received.signal {
        Signal::CHLD => Meaning::Children,
        Signal::PIPE if received.sender == own_pid => Meaning::Own,
        signal if signal == Signal::TERM || signal == Signal::INT || signal == stop_signal => {
            Meaning::Stop(signal)
        }
        Signal::ABRT if watchdog => Meaning::Stop(Signal::ABRT),
        signal => Meaning::Forward(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;
    const QUIT: Signal = Signal(3);

    #[test]
    fn table() {
        let cases = [
            // signal, sender, the app's stop signal → meaning
            (15, 1, 15, Meaning::Stop(Signal(15))),
            (2, 0, 15, Meaning::Stop(Signal(2))),
            (3, 1, 15, Meaning::Forward(QUIT)),
            (3, 1, 3, Meaning::Stop(QUIT)),
            (15, 1, 3, Meaning::Stop(Signal(15))),
            (17, OWN, 15, Meaning::Children),
            (17, 1, 15, Meaning::Children),
            (13, OWN, 15, Meaning::Own),
            (13, 1, 15, Meaning::Forward(Signal(13))),
            (1, 0, 15, Meaning::Forward(Signal(1))),
            (18, 1, 15, Meaning::Forward(Signal(18))),
            (20, 1, 15, Meaning::Forward(Signal(20))),
            (28, 0, 15, Meaning::Forward(Signal(28))),
            (64, 1, 15, Meaning::Forward(Signal(64))),
        ];
        for (signal, sender, stop, expected) in cases {
            let received = Received { signal: Signal(signal), sender };
            for watchdog in [false, true] {
                let found = meaning(received, OWN, Signal(stop), watchdog);
                assert_eq!(found, expected, "{signal} from {sender}, app stops on {stop}");
            }
        }
        for (watchdog, expected) in
            [(false, Meaning::Forward(Signal::ABRT)), (true, Meaning::Stop(Signal::ABRT))]
        {
            let received = Received { signal: Signal::ABRT, sender: 1 };
            assert_eq!(meaning(received, OWN, Signal::TERM, watchdog), expected);
        }
    }
}
