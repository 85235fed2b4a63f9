//! The limit of open descriptors. The soft limit is raised when the databases need it; the app gets the
//! inherited limits (`child`).

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    #[error(
        "{needed} open files are needed, but the limit is {hard}: raise it (docker run --ulimit \
         nofile={needed}:{needed}, LimitNOFILE= in systemd, ulimit -Hn in a shell)"
    )]
    TooFew { needed: u64, hard: u64 },
    #[error("cannot raise the limit of open files to {hard}: {}", .source.desc())]
    Failed { hard: u64, source: Errno },
}

/// Makes room for `needed` descriptors in all.
pub fn room_for(needed: u64) -> Result<(), DescriptorError> {
    // A system without the limit has no use for the rest.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(DescriptorError::TooFew { needed, hard });
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|source| DescriptorError::Failed { hard, source })
}

/// How many of `wanted` descriptors there is room for beside those that are needed.
pub fn room_beside(needed: u64, wanted: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let raise =
        soft < needed.saturating_add(wanted) && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raise { hard } else { soft };
    wanted.min(limit.saturating_sub(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_comes_after_what_is_needed() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(room_beside(hard - 4, 10), 4);
        assert_eq!((room_beside(10, 4), room_beside(hard, 1), room_beside(u64::MAX, 1)), (4, 0, 0));
    }

    #[test]
    fn more_than_the_hard_limit_is_named() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(room_for(soft), Ok(()));
        if let Some(needed) = hard.checked_add(1) {
            let error = room_for(needed).unwrap_err();
            assert_eq!(error, DescriptorError::TooFew { needed, hard });
            assert!(error.to_string().contains(&format!("nofile={needed}:{needed}")));
        }
    }
}
