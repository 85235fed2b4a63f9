//! A file on its way to its name. Owns: a temporary file beside its target; it goes away when dropped. In: bytes. Out: the
//! target, complete and as durable as the server can make it. Never: shows a part of the content under the final name, or
//! replaces a file when only a new one was asked for.

use super::cause::Fault;
use super::session::Session;
use super::transfer::{Kind, Open, Writes, kind};
use super::wire::{self, Ask};
use crate::store::{Put, key};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

// As Litestream makes them: a replica holds what its database holds.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

pub(super) struct Temp {
    session: Arc<Session>,
    path: String,
    target: String,
    file: Option<Open>,
    writes: Writes,
    /// The temporary name is gone.
    renamed: bool,
}

fn temp_name(target: &str) -> String {
    key::temporary(target, RandomState::new().hash_one(target))
}

impl Temp {
    /// Opens a temporary file beside `target`, making the directories it needs.
    pub(super) async fn create(session: &Arc<Session>, target: &str) -> Result<Temp, Fault> {
        let path = temp_name(target);
        // Before the file: when this is dropped on the way, the removal follows the request.
        let mut temp = Temp {
            session: Arc::clone(session),
            path,
            target: target.to_owned(),
            file: None,
            writes: Writes::default(),
            renamed: false,
        };
        let opened = match temp.open().await {
            Err(fault) if fault.is(wire::ABSENT) => {
                make_directories(session, parent(target)).await?;
                temp.open().await
            }
            opened => opened,
        };
        temp.file = Some(match opened {
            Ok(file) => file,
            Err(fault) => return Err(temp.or_full(fault).await),
        });
        Ok(temp)
    }

    async fn open(&self) -> Result<Open, Fault> {
        let ask = Ask::Open { path: &self.path, flags: wire::WRITE_NEW, mode: FILE_MODE };
        Ok(Open::new(&self.session, self.session.ask(&ask).handle().await?))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Err(GONE) };
        match self.writes.send(&self.session, file, bytes).await {
            Err(fault) => Err(self.or_full(fault).await),
            done => done,
        }
    }

    /// Everything written, on disk and closed; the time is set last, so that no write changes it.
    async fn finish(&mut self, unix_seconds: Option<u32>) -> Result<(), Fault> {
        let Some(file) = self.file.take() else { return Err(GONE) };
        let session = Arc::clone(&self.session);
        if let Err(fault) = self.writes.settle().await {
            return Err(self.or_full(fault).await);
        }
        let handle = file.handle();
        let timed = unix_seconds.map(|seconds| session.ask(&Ask::SetHandleTime { handle, seconds }));
        let synced = session.offers.sync.then(|| session.ask(&Ask::Sync(handle)));
        let closed = file.close();
        let mut by_name = None;
        if let (Some(timed), Some(seconds)) = (timed, unix_seconds)
            && timed.done().await.is_err()
        {
            // Some know only the other way.
            by_name = Some(session.ask(&Ask::SetTime { path: &self.path, seconds }));
        }
        for step in [synced, Some(closed), by_name].into_iter().flatten() {
            if let Err(fault) = step.done().await {
                return Err(self.or_full(fault).await);
            }
        }
        Ok(())
    }

    /// Gives the file its name if nobody has it. The timestamp is set before, so that no listing sees another one.
    pub(super) async fn publish_new(mut self, unix_seconds: u32) -> Result<Put, Fault> {
        self.finish(Some(unix_seconds)).await?;
        let put = if self.session.offers.link { self.by_link().await? } else { self.by_rename().await? };
        if !self.renamed {
            self.renamed = true;
            // No reader takes the temporary name for an object, so a failure harms nobody.
            let _ = self.session.ask(&Ask::Remove(&self.path)).done().await;
        }
        Ok(put)
    }

    /// A hard link never replaces what is there, on any server.
    async fn by_link(&mut self) -> Result<Put, Fault> {
        let ask = Ask::Link { from: &self.path, to: &self.target };
        let refused = match self.session.ask(&ask).done().await {
            Ok(()) => return Ok(Put::Created),
            Err(fault) => fault,
        };
        match after_link(&refused, self.is_taken().await?) {
            Next::Exists => Ok(Put::Exists),
            Next::Rename => self.by_rename().await,
            Next::Fail => Err(vanished(refused)),
        }
    }

    /// A rename of version 3 must not replace what is there. Not every server keeps to that, so we look first, too.
    async fn by_rename(&mut self) -> Result<Put, Fault> {
        if self.is_taken().await? {
            return Ok(Put::Exists);
        }
        self.session.rename_replaces.get_or_init(|| self.probe()).await;
        match self.session.ask(&Ask::Rename { from: &self.path, to: &self.target }).done().await {
            Ok(()) => {
                self.renamed = true;
                Ok(Put::Created)
            }
            Err(_) if self.is_taken().await? => Ok(Put::Exists),
            Err(fault) => Err(vanished(fault)),
        }
    }

    /// Renames one file of ours over another.
    async fn probe(&self) -> bool {
        let (from, to) = (temp_name(&self.target), temp_name(&self.target));
        for path in [&from, &to] {
            let ask = Ask::Open { path, flags: wire::WRITE_NEW, mode: FILE_MODE };
            if let Ok(handle) = self.session.ask(&ask).handle().await {
                drop(Open::new(&self.session, handle));
            }
        }
        let replaces = self.session.ask(&Ask::Rename { from: &from, to: &to }).done().await.is_ok();
        for path in [&from, &to] {
            let _ = self.session.ask(&Ask::Remove(path)).done().await;
        }
        if replaces {
            tracing::warn!(
                file = self.target,
                "this SFTP server has no hard links, and its rename replaces files: two writers at the same moment could \
                 not be told apart; let one instance write to this replica"
            );
        }
        replaces
    }

    /// Gives the file its name, whoever has it now.
    pub(super) async fn publish_over(mut self) -> Result<(), Fault> {
        self.finish(None).await?;
        let (from, to) = (self.path.as_str(), self.target.as_str());
        if self.session.offers.rename_over {
            self.session.ask(&Ask::RenameOver { from, to }).done().await?;
        } else if let Err(refused) = self.session.ask(&Ask::Rename { from, to }).done().await {
            if !self.is_taken().await? {
                return Err(vanished(refused));
            }
            self.session.ask(&Ask::Remove(to)).done().await?;
            self.session.ask(&Ask::Rename { from, to }).done().await?;
        }
        self.renamed = true;
        Ok(())
    }

    async fn is_taken(&self) -> Result<bool, Fault> {
        exists(&self.session, &self.target).await
    }

    /// Says so when the disk is full: the status alone does not.
    async fn or_full(&self, fault: Fault) -> Fault {
        if !fault.is(wire::FAILURE) || !self.session.offers.space {
            return fault;
        }
        let space = self.session.ask(&Ask::Space(parent(&self.path))).extended().await;
        match space.map(wire::is_full) {
            Ok(Some(true)) => Fault::Full("no space is left on the server's disk; make room there"),
            _ => fault,
        }
    }
}

const GONE: Fault = Fault::Invalid("the file is closed");

impl Drop for Temp {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.renamed {
            drop(self.session.ask(&Ask::Remove(&self.path)));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Exists,
    Rename,
    Fail,
}

/// What a refused link means, when the target is there or not.
fn after_link(refused: &Fault, taken: bool) -> Next {
    match refused {
        Fault::Refused { .. } if taken => Next::Exists,
        Fault::Refused { code: wire::ABSENT, .. } => Next::Fail,
        // A file system without links says anything from "permission denied" to "unsupported".
        Fault::Refused { .. } => Next::Rename,
        _ => Next::Fail,
    }
}

/// The temporary file, or its directory, was removed by somebody: not the absence of what the caller asked about.
fn vanished(fault: Fault) -> Fault {
    if fault.is(wire::ABSENT) { Fault::lost("the temporary file was removed by somebody else") } else { fault }
}

async fn exists(session: &Session, path: &str) -> Result<bool, Fault> {
    match session.ask(&Ask::LinkStat(path)).attributes().await {
        Ok(_) => Ok(true),
        Err(fault) if fault.is(wire::ABSENT) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Makes what is missing: up to the first that is there, then down again.
async fn make_directories(session: &Session, directory: &str) -> Result<(), Fault> {
    let mut missing = Vec::new();
    let mut here = directory;
    loop {
        match session.ask(&Ask::MakeDirectory { path: here, mode: DIRECTORY_MODE }).done().await {
            Ok(()) => break,
            Err(fault) if fault.is(wire::ABSENT) && parent(here) != here => {
                missing.push(here);
                here = parent(here);
            }
            Err(fault) => {
                is_directory(session, here, fault).await?;
                break;
            }
        }
    }
    while let Some(path) = missing.pop() {
        if let Err(fault) = session.ask(&Ask::MakeDirectory { path, mode: DIRECTORY_MODE }).done().await {
            // Another writer makes them at the same time.
            is_directory(session, path, fault).await?;
        }
    }
    Ok(())
}

async fn is_directory(session: &Session, path: &str, refused: Fault) -> Result<(), Fault> {
    match session.ask(&Ask::Stat(path)).attributes().await {
        Ok(attributes) if matches!(kind(attributes.mode), Some(Kind::Directory) | None) => Ok(()),
        Ok(_) => Err(Fault::Invalid("a file stands where a directory is needed")),
        Err(fault) if fault.is(wire::ABSENT) => Err(refused),
        Err(fault) => Err(fault),
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_link_is_understood() {
        let refused = |code| Fault::Refused { code, message: String::new() };
        for (fault, taken, next) in [
            (refused(wire::FAILURE), true, Next::Exists),
            (refused(wire::FORBIDDEN), true, Next::Exists),
            (refused(wire::FAILURE), false, Next::Rename),
            (refused(wire::FORBIDDEN), false, Next::Rename),
            (refused(wire::UNSUPPORTED), false, Next::Rename),
            (refused(wire::ABSENT), false, Next::Fail),
            (Fault::lost("x"), false, Next::Fail),
            (Fault::lost("x"), true, Next::Fail),
        ] {
            assert_eq!(after_link(&fault, taken), next, "{fault:?} {taken}");
        }
        assert!(matches!(vanished(refused(wire::ABSENT)), Fault::Lost(_)));
    }

    #[test]
    fn parents_end_at_the_root() {
        for (path, above) in [("/a/b", "/a"), ("/a", "/"), ("/", "/"), ("a/b", "a"), ("a", "."), (".", ".")] {
            assert_eq!(parent(path), above);
        }
    }
}
