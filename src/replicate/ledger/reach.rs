//! Whether everything that was committed when a wal-index header was read is in the replica. Pure.

use crate::wal::{Cursor, HEADER};

/// After at most this many restarts, which increment the first salt, a WAL still counts as the same one.
const RESTARTS: u32 = 1 << 16;

/// What is uploaded, and when the header was read.
#[derive(Clone, Copy, Debug)]
pub struct UploadedPlace {
    /// Everything in the WAL up to here is in the replica. None: the WAL had no frames, or nothing is known.
    pub to: Option<Cursor>,
    /// So is everything that is captured, and the hold guards what follows.
    pub all: bool,
    /// The header was read before the capture that found `to`.
    pub before_capture: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Uploaded,
    /// If the hold was in force all the time.
    UploadedUnderHold,
    Open,
}

/// `end`: where the last commit ends by the header.
///
/// A capture proves that what it captured before is still in the WAL. So a header that was read before it and
/// ends at or before `to` is of the same chain. A header that was read later may be of a commit over frames
/// that a killed writer left and that were captured; then only the same place with the same checksum is a
/// proof.
///
/// A WAL without frames has nothing that is not copied, and under the hold only what is captured is copied
/// when it restarts.
pub fn reach(end: &Cursor, uploaded: UploadedPlace) -> Reach {
    let UploadedPlace { to, all, before_capture } = uploaded;
    // How often the WAL was restarted between the two; None: they are not of one WAL.
    let restarts = |earlier: &Cursor, later: &Cursor| match later.salts.0.wrapping_sub(earlier.salts.0) {
        0 => (later.salts == earlier.salts).then_some(0),
        count => (count < RESTARTS).then_some(count),
    };
    let Some(to) = to else {
        return if all && end.offset == HEADER { Reach::Uploaded } else { Reach::Open };
    };
    match restarts(end, &to) {
        Some(0) if *end == to || (end.offset < to.offset && before_capture) => return Reach::Uploaded,
        Some(0) if end.offset == HEADER => return Reach::Uploaded,
        Some(1..) if before_capture || end.offset == HEADER => return Reach::Uploaded,
        _ => {}
    }
    match restarts(&to, end) {
        _ if !all || end.offset != HEADER => Reach::Open,
        Some(0 | 1) => Reach::Uploaded,
        _ => Reach::UploadedUnderHold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Salts;
    use crate::wal::format::Sums;

    #[test]
    fn what_a_header_says_about_what_is_uploaded() {
        let at = |first: u32, offset: u64| Cursor {
            offset,
            salts: Salts(first, first ^ 9),
            sums: Sums(1, offset as u32),
        };
        let to = at(7, 500);
        let other_wal = Cursor { salts: Salts(7, 1), ..at(7, 500) };
        let yes = Reach::Uploaded;
        let hold = Reach::UploadedUnderHold;
        let no = Reach::Open;
        let overwritten = Cursor { sums: Sums(2, 2), ..to };
        // The header's end, what is uploaded; the result: read before the capture or after it, with all that
        // is captured uploaded or not.
        for (end, to, [before_all, after_all, before, after]) in [
            (to, Some(to), [yes, yes, yes, yes]),
            // Earlier in the same WAL: later it may be a commit over what a killed writer left.
            (at(7, 400), Some(to), [yes, no, yes, no]),
            (overwritten, Some(to), [no, no, no, no]),
            // A commit that came since.
            (at(7, 600), Some(to), [no, no, no, no]),
            (at(8, 100), Some(to), [no, no, no, no]),
            (at(7, 100), None, [no, no, no, no]),
            // The WAL was restarted after the header was read.
            (at(6, 900), Some(to), [yes, no, yes, no]),
            (at(3, 900), Some(to), [yes, no, yes, no]),
            // A writer has restarted the WAL, or a checkpoint has emptied it, and nothing was committed
            // since.
            (at(8, HEADER), Some(to), [yes, yes, no, no]),
            (at(9, HEADER), Some(to), [hold, hold, no, no]),
            // As a recovery of an empty WAL leaves it.
            (at(1 << 30, HEADER), Some(to), [hold, hold, no, no]),
            (at(0, HEADER), None, [yes, yes, no, no]),
            // The same, and commits of the new WAL are uploaded.
            (at(7, HEADER), Some(to), [yes, yes, yes, yes]),
            (at(6, HEADER), Some(to), [yes, yes, yes, yes]),
            // Another WAL.
            (at(99, 500), Some(Cursor { salts: Salts(1 << 20, 0), ..to }), [no, no, no, no]),
            (other_wal, Some(to), [no, no, no, no]),
        ] {
            let flags = [(true, true), (false, true), (true, false), (false, false)];
            let results =
                flags.map(|(before_capture, all)| reach(&end, UploadedPlace { to, all, before_capture }));
            assert_eq!(results, [before_all, after_all, before, after], "{end:?} {to:?}");
        }
    }
}
