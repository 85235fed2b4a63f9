//! The disk side of one database has one owner. A session and the WAL limiter beside its requests share it:
//! their work runs on threads of the blocking pool, one piece after the other. A piece runs to its end even
//! if its caller stops waiting; if it cannot continue then, the next piece returns that end of the session.

use super::ReplicateSettings;
use super::capture::Capture;
use super::database_writer::DatabaseWriter;
use super::end::{End, blocking};
use super::status::StatusCell;
use super::upload::attempts::{self, Outcome, Tries};
use super::upload::pressure::{Need, Seen};
use std::sync::{Arc, Mutex, TryLockError};

#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    status: Arc<StatusCell>,
}

struct State {
    side: Side,
    /// The session ends with it: what the limiter did or met leaves nothing to continue from.
    end: Option<End>,
}

enum Side {
    /// The database is held and scanned. Until its replica was read nothing can be numbered.
    Scanned(Box<Capture>, Tries),
    Replicating(Box<DatabaseWriter>),
    Closed,
}

/// What the WAL limiter decides by.
pub struct WalState {
    pub seen: Seen,
    /// Everything is uploaded and copied: no process can wait for the hold.
    pub calm: bool,
}

impl Disk {
    pub fn new(capture: Capture, status: &Arc<StatusCell>) -> Disk {
        let side = Side::Scanned(Box::new(capture), Tries::default());
        Disk { state: Arc::new(Mutex::new(State { side, end: None })), status: Arc::clone(status) }
    }

    /// Turns the scanned database into one that is replicated.
    pub async fn begin<T: Send + 'static, E: Send + 'static>(
        &self,
        make: impl FnOnce(Capture) -> Result<(DatabaseWriter, T), E> + Send + 'static,
    ) -> Result<Result<T, E>, End> {
        self.locked(move |state| {
            let Side::Scanned(capture, _) = std::mem::replace(&mut state.side, Side::Closed) else {
                return Err(misused());
            };
            Ok(make(*capture).map(|(writer, begun)| {
                state.side = Side::Replicating(Box::new(writer));
                begun
            }))
        })
        .await
    }

    /// Runs one piece of work with the database's writer.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut DatabaseWriter) -> T + Send + 'static,
    ) -> Result<T, End> {
        self.locked(|state| match &mut state.side {
            Side::Replicating(writer) => Ok(work(writer)),
            Side::Scanned(..) | Side::Closed => Err(misused()),
        })
        .await
    }

    /// Does what the WAL needs.
    pub async fn limit(&self, need: Need, settings: Arc<ReplicateSettings>) -> Result<Outcome, End> {
        let limited = self.locked(move |state| {
            let done = match &mut state.side {
                Side::Scanned(capture, tries) => attempts::of_scanned(capture, tries, need, &settings),
                Side::Replicating(writer) => writer.act(need, &settings),
                Side::Closed => Ok(Outcome::Nothing),
            };
            match done {
                Ok(Outcome::Anew(why)) => state.end = Some(End::Again(why.to_owned())),
                Ok(outcome) => return Ok(outcome),
                Err(error) => state.end = Some(error.into()),
            }
            Ok(Outcome::Nothing)
        });
        limited.await
    }

    /// Looks without waiting. None: a piece of work runs, or the database is closed.
    pub fn wal_state(&self) -> Result<Option<WalState>, End> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Poisoned(_)) => return Err(failed()),
        };
        if let Some(end) = state.end.take() {
            return Err(end);
        }
        Ok(match &state.side {
            Side::Scanned(capture, tries) => {
                Some(WalState { seen: attempts::seen(capture.view().as_ref(), tries), calm: false })
            }
            Side::Replicating(writer) => Some(WalState {
                seen: Seen {
                    reads_pages: writer.reads_pages(),
                    ..attempts::seen(writer.view().as_ref(), &writer.tries)
                },
                calm: writer.pending().is_none() && writer.settled(),
            }),
            Side::Closed => None,
        })
    }

    /// Lets go of the database. The app has ended, and everything is in the replica.
    pub async fn close(&self) -> Result<(), End> {
        self.locked(|state| {
            if let Side::Replicating(writer) = std::mem::replace(&mut state.side, Side::Closed) {
                writer.close();
            }
            Ok(())
        })
        .await
    }

    /// Closes litevisor's connections, once the piece of work that runs has ended. The WAL stays as it is.
    pub async fn disconnect(&self) -> Result<(), End> {
        let state = Arc::clone(&self.state);
        blocking(move || state.lock().map(|mut state| state.side = Side::Closed).map_err(|_| failed()))
            .await?
    }

    /// The status shows what the replica lacks after each piece of work that a caller waits for.
    async fn locked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, End> + Send + 'static,
    ) -> Result<T, End> {
        let state = Arc::clone(&self.state);
        let (done, left) = blocking(move || {
            let Ok(mut state) = state.lock() else { return (Err(failed()), None) };
            if let Some(end) = state.end.take() {
                return (Err(end), None);
            }
            let done = work(&mut state);
            let Side::Replicating(writer) = &mut state.side else { return (done, None) };
            writer.prove();
            (done, Some((writer.capture_state(), writer.spilled_bytes())))
        })
        .await?;
        if let Some((capture, spilled_bytes)) = left {
            self.status.set_capture(Some(capture));
            self.status.update(|status| status.spilled_bytes = spilled_bytes);
        }
        done
    }
}

fn failed() -> End {
    End::Again("internal error: earlier work on the disk failed".to_owned())
}

fn misused() -> End {
    End::Again("internal error: the database is not open".to_owned())
}
