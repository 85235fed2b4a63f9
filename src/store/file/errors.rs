//! What an I/O error means: its kind, and what the user can do. Pure.

use crate::store::StoreErrorKind;
use crate::store::failure::Failure;
use std::io::{self, ErrorKind};

/// Neither the file nor, perhaps, its directory is there. A stale handle of NFS does not say that: a whole
/// mount may be stale, and is not empty.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

pub(super) fn explain(error: &io::Error) -> Failure {
    let (kind, hint) = classify(error.kind());
    Failure::new(kind, format!("{error}{hint}"))
}

fn classify(kind: ErrorKind) -> (StoreErrorKind, &'static str) {
    match kind {
        ErrorKind::NotFound => (StoreErrorKind::NotFound, ""),
        ErrorKind::PermissionDenied => (
            StoreErrorKind::Denied,
            "; check the owner and mode of the directory and the user that litevisor runs as",
        ),
        ErrorKind::ReadOnlyFilesystem => {
            (StoreErrorKind::Denied, "; mount the replica's file system writable")
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            (StoreErrorKind::Invalid, "; a file stands where a directory is needed, or the other way round")
        }
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => (StoreErrorKind::Invalid, ""),
        ErrorKind::Unsupported => (StoreErrorKind::Invalid, ""),
        ErrorKind::UnexpectedEof => (StoreErrorKind::Invalid, "; the file became shorter while it was read"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (StoreErrorKind::Unreachable, "; make room in the replica's file system")
        }
        ErrorKind::StaleNetworkFileHandle => (
            StoreErrorKind::Unreachable,
            "; another machine removed it meanwhile, or the directory is to be mounted anew",
        ),
        // A network file system that is away, a device that stumbles: they may come back.
        _ => (StoreErrorKind::Unreachable, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn errors_map_to_kinds_by_their_number() {
        for (errno, kind) in [
            (libc::ENOENT, StoreErrorKind::NotFound),
            (libc::EACCES, StoreErrorKind::Denied),
            (libc::EPERM, StoreErrorKind::Denied),
            (libc::EROFS, StoreErrorKind::Denied),
            (libc::ENOTDIR, StoreErrorKind::Invalid),
            (libc::ENAMETOOLONG, StoreErrorKind::Invalid),
            (libc::ENOSPC, StoreErrorKind::Unreachable),
            (libc::EDQUOT, StoreErrorKind::Unreachable),
            (libc::EIO, StoreErrorKind::Unreachable),
            (libc::ESTALE, StoreErrorKind::Unreachable),
        ] {
            assert_eq!(explain(&io::Error::from_raw_os_error(errno)).kind, kind, "{errno}");
        }
    }
}
