//! A temporary file that gets its final name when it is complete; it is removed when dropped. A create never
//! replaces a file.

use super::cause::Fault;
use super::session::Session;
use super::transfer::{Kind, Open, Writes, kind};
use super::wire::{self, Request};
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
        let request = Request::Open { path: &self.path, flags: wire::WRITE_NEW, mode: FILE_MODE };
        Ok(Open::new(&self.session, self.session.request(&request).handle().await?))
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
        let timed = unix_seconds.map(|seconds| session.request(&Request::SetHandleTime { handle, seconds }));
        let synced = session.extensions.sync.then(|| session.request(&Request::Sync(handle)));
        let closed = file.close();
        let mut by_name = None;
        if let (Some(timed), Some(seconds)) = (timed, unix_seconds)
            && timed.done().await.is_err()
        {
            // Some know only the other way.
            by_name = Some(session.request(&Request::SetTime { path: &self.path, seconds }));
        }
        for step in [synced, Some(closed), by_name].into_iter().flatten() {
            if let Err(fault) = step.done().await {
                return Err(self.or_full(fault).await);
            }
        }
        Ok(())
    }

    /// Renames the file to its target if there is no file of that name. The timestamp is set before, so that
    /// no listing shows another one.
    pub(super) async fn publish_new(mut self, unix_seconds: u32) -> Result<Put, Fault> {
        self.finish(Some(unix_seconds)).await?;
        let put = if self.session.extensions.link { self.by_link().await? } else { self.by_rename().await? };
        if !self.renamed {
            self.renamed = true;
            // No reader takes the temporary name for an object, so a failure does no harm.
            let _ = self.session.request(&Request::Remove(&self.path)).done().await;
        }
        Ok(put)
    }

    /// A hard link never replaces a file, on any server.
    async fn by_link(&mut self) -> Result<Put, Fault> {
        let request = Request::Link { from: &self.path, to: &self.target };
        let refused = match self.session.request(&request).done().await {
            Ok(()) => return Ok(Put::Created),
            Err(fault) => fault,
        };
        match after_link(&refused, self.is_taken().await?) {
            LinkFailure::TargetExists => Ok(Put::Exists),
            LinkFailure::TryRename => self.by_rename().await,
            LinkFailure::Other => Err(vanished(refused)),
        }
    }

    /// A rename of version 3 must not replace a file. Some servers do, so the target is checked first.
    async fn by_rename(&mut self) -> Result<Put, Fault> {
        if self.is_taken().await? {
            return Ok(Put::Exists);
        }
        self.session.rename_replaces.get_or_init(|| self.probe()).await;
        match self.session.request(&Request::Rename { from: &self.path, to: &self.target }).done().await {
            Ok(()) => {
                self.renamed = true;
                Ok(Put::Created)
            }
            Err(_) if self.is_taken().await? => Ok(Put::Exists),
            Err(fault) => Err(vanished(fault)),
        }
    }

    /// Whether a rename replaces a file: renames one new file over another.
    async fn probe(&self) -> bool {
        let from = temp_name(&self.target);
        let to = temp_name(&self.target);
        for path in [&from, &to] {
            let request = Request::Open { path, flags: wire::WRITE_NEW, mode: FILE_MODE };
            if let Ok(handle) = self.session.request(&request).handle().await {
                drop(Open::new(&self.session, handle));
            }
        }
        let replaces = self.session.request(&Request::Rename { from: &from, to: &to }).done().await.is_ok();
        for path in [&from, &to] {
            let _ = self.session.request(&Request::Remove(path)).done().await;
        }
        if replaces {
            tracing::warn!(
                file = self.target,
                "this SFTP server has no hard links, and its rename replaces files: two writers at the same \
                 moment could not be told apart; let one instance write to this replica"
            );
        }
        replaces
    }

    /// Renames the file to its target and replaces a file that is there.
    pub(super) async fn publish_over(mut self) -> Result<(), Fault> {
        self.finish(None).await?;
        let from = self.path.as_str();
        let to = self.target.as_str();
        if self.session.extensions.rename_over {
            self.session.request(&Request::RenameOver { from, to }).done().await?;
        } else if let Err(refused) = self.session.request(&Request::Rename { from, to }).done().await {
            if !self.is_taken().await? {
                return Err(vanished(refused));
            }
            self.session.request(&Request::Remove(to)).done().await?;
            self.session.request(&Request::Rename { from, to }).done().await?;
        }
        self.renamed = true;
        Ok(())
    }

    async fn is_taken(&self) -> Result<bool, Fault> {
        exists(&self.session, &self.target).await
    }

    /// Replaces the fault by "disk full" where that is the cause: the status alone does not say it.
    async fn or_full(&self, fault: Fault) -> Fault {
        if !fault.is(wire::FAILURE) || !self.session.extensions.space {
            return fault;
        }
        let space = self.session.request(&Request::Space(parent(&self.path))).extended().await;
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
            drop(self.session.request(&Request::Remove(&self.path)));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum LinkFailure {
    TargetExists,
    TryRename,
    Other,
}

/// What a refused link means, when the target is there or not.
fn after_link(refused: &Fault, taken: bool) -> LinkFailure {
    match refused {
        Fault::Refused { .. } if taken => LinkFailure::TargetExists,
        Fault::Refused { code: wire::ABSENT, .. } => LinkFailure::Other,
        // A file system without links says anything from "permission denied" to "unsupported".
        Fault::Refused { .. } => LinkFailure::TryRename,
        _ => LinkFailure::Other,
    }
}

/// The temporary file or its directory was removed: that is not the absence of the object.
fn vanished(fault: Fault) -> Fault {
    if fault.is(wire::ABSENT) { Fault::lost("another program removed the temporary file") } else { fault }
}

async fn exists(session: &Session, path: &str) -> Result<bool, Fault> {
    match session.request(&Request::LinkStat(path)).attributes().await {
        Ok(_) => Ok(true),
        Err(fault) if fault.is(wire::ABSENT) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Makes the missing directories: goes up to the first that exists, then down again.
async fn make_directories(session: &Session, directory: &str) -> Result<(), Fault> {
    let mut missing = Vec::new();
    let mut here = directory;
    loop {
        match session.request(&Request::MakeDirectory { path: here, mode: DIRECTORY_MODE }).done().await {
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
        if let Err(fault) =
            session.request(&Request::MakeDirectory { path, mode: DIRECTORY_MODE }).done().await
        {
            // Another writer makes them at the same time.
            is_directory(session, path, fault).await?;
        }
    }
    Ok(())
}

async fn is_directory(session: &Session, path: &str, refused: Fault) -> Result<(), Fault> {
    match session.request(&Request::Stat(path)).attributes().await {
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
            (refused(wire::FAILURE), true, LinkFailure::TargetExists),
            (refused(wire::FORBIDDEN), true, LinkFailure::TargetExists),
            (refused(wire::FAILURE), false, LinkFailure::TryRename),
            (refused(wire::FORBIDDEN), false, LinkFailure::TryRename),
            (refused(wire::UNSUPPORTED), false, LinkFailure::TryRename),
            (refused(wire::ABSENT), false, LinkFailure::Other),
            (Fault::lost("x"), false, LinkFailure::Other),
            (Fault::lost("x"), true, LinkFailure::Other),
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
