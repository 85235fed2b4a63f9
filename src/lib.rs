//! litevisor: container init, restore and continuous replication for SQLite applications on disposable disks.
//!
//! The modules in layer order; each imports only from lower rows (held by `tests/tidy`). Public is what
//! `main` uses; what the programs under tests/ use is in `testing`.

// 0: the nouns
mod model;

mod rights;

// 1: formats and the outside world
mod local_state;
mod ltx;
mod sqlite;
mod store;
mod wal;

// 2: what a replica is, and whether a local file continues it
mod lineage;
mod replica;
mod v3;

// 3: the three lives
mod gate;
mod handover;
mod replicate;
mod restore;
pub mod supervise;

// 4: the program
pub mod config;
mod exit;
pub mod lifecycle;
pub mod observe;

pub mod run;

// 5: the command line
pub mod cli;
pub mod commands;

/// For the programs under tests/ and benches/ only; not an interface.
#[doc(hidden)]
pub mod testing {
    pub mod config {
        pub use crate::config::{Additions, Environment, Purpose, parse, replica_from_url, show};
    }
    pub mod handover {
        pub use crate::handover::client::Client;
        pub use crate::handover::fence::fence;
        pub use crate::handover::owner::Epoch;
        pub use crate::handover::protocol::{Beat, Identity, Outcome, Phase, Rules, Seen, Watch, Watched};
        pub use crate::handover::record::{
            Answer, Claim, End, How, Instance, Position, Positions, Reason, Release,
        };
        pub use crate::handover::task::{Command, Fenced, Report, Task, run};
    }
    pub mod lineage {
        pub mod record {
            pub use crate::lineage::record::LocalState;
        }
        pub mod state_file {
            pub use crate::lineage::state_file::{load, store};
        }
    }
    pub mod ltx {
        pub use crate::ltx::{
            Decoder, Encoder, Event, FrameDecoder, FrameError, Header, LtxError, TRAILER_BYTES, Trailer,
        };
    }
    pub mod model {
        pub use crate::model::{
            Crc64, DbChecksum, DbPath, Deadline, Moment, PageNo, PageSize, Secret, Signal, Txid, TxidRange,
            page_checksum,
        };
    }
    pub mod replica {
        pub use crate::replica::{Listing, Target, plan};
    }
    pub mod restore {
        pub use crate::restore::{
            FileAccess, Kept, OnRestoreFailure, Outcome, Owner, Owners, Progress, RestoreError,
            RestoreErrorKind, RestoreSettings, RestoredTo, prepare, recover, restore_to,
        };
        pub mod error {
            pub use crate::restore::error::Damage;
        }
        pub mod follow {
            pub use crate::restore::follow::{Anew, FollowError, Followed, Follower, Way};
        }
    }
    pub mod store {
        #[cfg(feature = "s3")]
        pub use crate::store::plain_http_client;
        pub use crate::store::{
            AbsSettings, AgeSettings, Body, Chunk, Object, Page, Put, S3Settings, Scheme, SftpSettings,
            Store, StoreError, StoreErrorKind, StoreFuture, StoreSettings, Stores, open,
        };
        pub mod layout {
            pub use crate::store::layout::{Layout, Level};
        }
        pub mod retry {
            pub use crate::store::retry::run;
        }
    }
    pub mod supervise {
        pub use crate::supervise::NotifyMessage;
    }
    pub mod wal {
        pub use crate::wal::{Committed, Cursor, FRAME_HEADER, Fed, HEADER, Scanner, WalHeader, frame_size};
        pub mod format {
            pub use crate::wal::format::Sums;
        }
    }
}
