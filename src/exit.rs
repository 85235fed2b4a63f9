//! The exit status of a run: how it ended, whether the last flush was complete, whether a replica was taken
//! over. Pure.

use crate::model::{Ending, NotStarted, SuccessCodes};

/// Bad usage of the command line.
pub const USAGE: u8 = 64;
/// The replica is damaged.
pub const DAMAGED: u8 = 65;
/// `restore`, `follow`, `run --follow`, `list`, `verify`, `rekey`, `sync`, `replicate --once`: the replica or
/// the database is missing, or has not the requested state.
pub const NOTHING: u8 = 66;
/// The replica is unreachable or denies access.
pub const UNAVAILABLE: u8 = 69;
/// Our own fault.
pub const INTERNAL: u8 = 70;
/// The last flush did not complete.
pub const UNFLUSHED: u8 = 74;
/// Another instance holds the replica, or took it over.
pub const TAKEN: u8 = 75;
/// Bad configuration, or something local in the way.
pub const CONFIG: u8 = 78;
pub const CANNOT_EXECUTE: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// `complete`: everything committed is in the replica (true when there was nothing to flush). A lost replica
/// outranks an incomplete flush, which it causes; an incomplete flush outranks every status of the app, so
/// that neither success nor an ordinary failure can hide missing data.
pub fn code(ending: Ending, complete: bool, fenced: bool, success: &SuccessCodes) -> u8 {
    match (fenced, complete) {
        (true, _) => TAKEN,
        (false, false) => UNFLUSHED,
        (false, true) => flushed(ending, success),
    }
}

fn flushed(ending: Ending, success: &SuccessCodes) -> u8 {
    match ending {
        Ending::App(exit) => success.status(exit),
        Ending::SetupFailed(exit) => exit.status(),
        Ending::Stopped(signal) => crate::model::AppExit::Signal(signal).status(),
        Ending::NoApp | Ending::Retired => 0,
        // Not even an app that stopped with success was one.
        Ending::NeverReady(exit) => success.status(exit).max(1),
        Ending::Unkillable => UNFLUSHED,
        Ending::NotStarted(reason) => match reason {
            NotStarted::Damaged => DAMAGED,
            NotStarted::Unavailable => UNAVAILABLE,
            NotStarted::Nothing => NOTHING,
            NotStarted::Local => CONFIG,
            NotStarted::Taken => TAKEN,
            NotStarted::Internal => INTERNAL,
            NotStarted::CannotExecute => CANNOT_EXECUTE,
            NotStarted::NotFound => NOT_FOUND,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppExit, Signal};

    /// ending, status when flushed. Unflushed is 74 and fenced 75 in every row.
    const TABLE: [(Ending, u8); 21] = [
        (Ending::App(AppExit::Code(0)), 0),
        (Ending::App(AppExit::Code(1)), 1),
        (Ending::App(AppExit::Code(255)), 255),
        (Ending::App(AppExit::Signal(Signal(15))), 143),
        (Ending::App(AppExit::Signal(Signal(9))), 137),
        (Ending::App(AppExit::Signal(Signal(37))), 165),
        (Ending::Stopped(Signal(2)), 130),
        (Ending::SetupFailed(AppExit::Code(65)), 65),
        (Ending::SetupFailed(AppExit::Signal(Signal(15))), 143),
        (Ending::NoApp, 0),
        (Ending::Retired, 0),
        (Ending::NeverReady(AppExit::Code(0)), 1),
        (Ending::NeverReady(AppExit::Signal(Signal(9))), 137),
        (Ending::Unkillable, 74),
        (Ending::NotStarted(NotStarted::Damaged), 65),
        (Ending::NotStarted(NotStarted::Unavailable), 69),
        (Ending::NotStarted(NotStarted::Nothing), 66),
        (Ending::NotStarted(NotStarted::Local), 78),
        (Ending::NotStarted(NotStarted::Taken), 75),
        (Ending::NotStarted(NotStarted::CannotExecute), 126),
        (Ending::NotStarted(NotStarted::NotFound), 127),
    ];

    #[test]
    fn every_row() {
        // Success codes are about the app's own status only: neither missing data nor another end becomes a
        // success.
        let codes = SuccessCodes(vec![143, 65, 74, 75, 130]);
        for (ending, status) in TABLE {
            for success in [&SuccessCodes::default(), &codes] {
                let status = if let Ending::App(exit) = ending { success.status(exit) } else { status };
                assert_eq!(code(ending, true, false, success), status, "{ending:?} flushed");
                assert_eq!(code(ending, false, false, success), 74, "{ending:?} unflushed");
                assert_eq!(code(ending, true, true, success), 75, "{ending:?} fenced");
                assert_eq!(code(ending, false, true, success), 75, "{ending:?} fenced and unflushed");
            }
        }
        assert_eq!(code(Ending::App(AppExit::Signal(Signal::TERM)), true, false, &codes), 0);
    }
}
