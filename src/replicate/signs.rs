//! What the watcher has seen of other processes that use the database: whether litevisor keeps an app out of
//! it. Pure.

/// An app that closes the database so often without the `-shm` is refused, and tries again and again.
const REPEATED: u32 = 3;

/// What the watcher has seen of other processes while a session has the database open.
#[derive(Debug, Default)]
pub struct Signs {
    /// The last flush was asked for: the app has ended, and what closes the database now is litevisor.
    pub ended: bool,
    /// A process has used the `-shm` or written to the WAL.
    shared: bool,
    /// How often a process that could write has closed the database since then.
    closings: u32,
    /// The app shared the database after closings that had said otherwise.
    mistaken: bool,
}

impl Signs {
    /// A session begins: what was closed before was ours.
    pub fn forget(&mut self) {
        *self = Signs { ended: self.ended, mistaken: self.mistaken, ..Signs::default() };
    }

    pub fn app_ended(&mut self) {
        self.ended = true;
    }

    /// A process that could write has closed the database.
    pub fn database_closed(&mut self) {
        self.closings = self.closings.saturating_add(u32::from(!self.ended));
    }

    /// A process has closed the `-shm`, uses it, or has written to the WAL.
    pub fn shared(&mut self) {
        self.shared = true;
        self.closings = 0;
    }

    /// The app was taken for one that cannot share the database, and has shared it.
    pub fn mistaken(&mut self) {
        self.mistaken = true;
    }

    /// Whether an app is refused again and again.
    pub fn is_refused_again(&self) -> bool {
        !self.ended && !self.mistaken && self.closings >= REPEATED
    }

    /// Whether the app that has ended was refused: it never got as far as its first statement.
    pub fn was_refused(&self) -> bool {
        !self.shared && self.closings > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Closed,
        Shared,
        Ended,
        Begun,
        Mistaken,
    }
    use Event::*;

    #[test]
    fn what_the_closings_say() {
        for (events, again, was_refused) in [
            (&[][..], false, false),
            (&[Closed], false, true),
            (&[Closed, Closed], false, true),
            (&[Closed, Closed, Closed], true, true),
            // The last flush: litevisor closes its own connections.
            (&[Ended, Closed, Closed, Closed], false, false),
            (&[Closed, Ended, Closed], false, true),
            // An app that shares the database closes the database without the `-shm`, if it has another
            // connection.
            (&[Shared, Closed, Closed], false, false),
            (&[Closed, Closed, Shared], false, false),
            (&[Closed, Closed, Shared, Closed], false, false),
            // Its next version does not.
            (&[Shared, Closed, Closed, Closed], true, false),
            (&[Closed, Closed, Closed, Begun], false, false),
            (&[Closed, Closed, Closed, Mistaken, Begun, Closed, Closed, Closed], false, true),
        ] {
            let mut signs = Signs::default();
            for event in events {
                match event {
                    Closed => signs.database_closed(),
                    Shared => signs.shared(),
                    Ended => signs.app_ended(),
                    Begun => signs.forget(),
                    Mistaken => signs.mistaken(),
                }
            }
            assert_eq!((signs.is_refused_again(), signs.was_refused()), (again, was_refused), "{events:?}");
        }
    }
}
