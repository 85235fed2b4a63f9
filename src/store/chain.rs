//! An error and its causes: searched by type, and printed in one line. Pure.

use std::error::Error;

/// The first error of type `T` in the chain. `io::Error` hides its payload from `source`, so it is opened.
pub(super) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    errors(error).find_map(|error| error.downcast_ref::<T>())
}

pub(super) fn errors<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// Every message of the chain once, outermost first.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in errors(error).map(ToString::to_string) {
        if !parts.iter().any(|seen| seen.contains(&part)) {
            parts.push(part);
        }
    }
    parts.join(": ")
}
