//! The thread that decompresses and writes the staged file while the next bytes are downloaded. It takes
//! bytes in order and returns the verified staged file, or the first error. The caller limits how many bytes
//! may wait here. Dropping it ends the thread after the current piece.

use super::assemble::Assembly;
use super::error::RestoreError;
use super::memory::Parts;
use super::verify::{VerifiedDb, verify};
use crate::model::Txid;
use crate::replica::RemoteFile;
use tokio::sync::{mpsc, oneshot};

enum Job {
    Bytes {
        file: RemoteFile,
        parts: Parts,
        last: bool,
    },
    /// Another plan follows, of so many bytes.
    GoOn(u64),
    Finish(Txid),
}

pub struct Applier {
    work: mpsc::UnboundedSender<Job>,
    ended: oneshot::Receiver<Result<VerifiedDb, RestoreError>>,
}

impl Applier {
    pub fn start(assembly: Assembly) -> Result<Applier, RestoreError> {
        let path = assembly.path().to_owned();
        let (work, inbox) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("restore".into());
        let run = move || {
            if let Some(result) = run(assembly, inbox).transpose() {
                let _ = end.send(result);
            }
        };
        thread.spawn(run).map_err(RestoreError::io("start a thread that writes", &path))?;
        Ok(Applier { work, ended })
    }

    /// The next bytes of `file`. Does not wait until they are used; an error may be that of earlier ones.
    pub async fn apply(&mut self, file: &RemoteFile, parts: Parts, last: bool) -> Result<(), RestoreError> {
        self.hand_over(Job::Bytes { file: file.clone(), parts, last }).await
    }

    /// The file in hand does not come to its end; the next piece begins another one.
    pub async fn go_on(&mut self, bytes: u64) -> Result<(), RestoreError> {
        self.hand_over(Job::GoOn(bytes)).await
    }

    /// After the last piece: everything is verified and on the disk.
    pub async fn finish(&mut self, txid: Txid) -> Result<VerifiedDb, RestoreError> {
        self.hand_over(Job::Finish(txid)).await?;
        (&mut self.ended).await.unwrap_or_else(|_| Err(lost()))
    }

    async fn hand_over(&mut self, work: Job) -> Result<(), RestoreError> {
        if self.work.send(work).is_ok() {
            return Ok(());
        }
        match (&mut self.ended).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(lost()),
        }
    }
}

/// None: the caller does not want it any more.
fn run(
    mut assembly: Assembly,
    mut inbox: mpsc::UnboundedReceiver<Job>,
) -> Result<Option<VerifiedDb>, RestoreError> {
    while let Some(work) = inbox.blocking_recv() {
        match work {
            Job::Bytes { file, parts, last } => {
                for part in parts.iter() {
                    assembly.feed(&file, part)?;
                }
                if last {
                    assembly.end(&file)?;
                }
            }
            Job::GoOn(bytes) => assembly.go_on(bytes),
            Job::Finish(txid) => {
                let replica = assembly.replica().to_owned();
                return verify(assembly.finish()?, &replica, txid).map(Some);
            }
        }
    }
    Ok(None)
}

/// The thread has panicked, which the log tells.
fn lost() -> RestoreError {
    let source = std::io::Error::other("the thread that does it has ended");
    RestoreError::io("write", std::path::Path::new("the staged file"))(source)
}
