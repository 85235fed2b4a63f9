//! The engine's side of `[app] setup`: what comes before and after its commands, and a stop without
//! replication.

use super::super::flush::FlushResult;
use super::super::messages::{Report, StartFailure};
use super::super::prepare::Prepared;
use super::super::setup::{self, Recording};
use super::{Flushed, LastFlush, Serving, SetupStep};
use crate::lineage::state_file;
use crate::model::proof::Restored;
use crate::model::{Txid, threads};
use tokio::task::JoinError;

impl Serving<'_> {
    /// Everything is restored, and the replica is this instance's: the app may start, or its setup.
    pub(super) fn start(&mut self, ready: Vec<Prepared>, proof: Restored) {
        let Some(plan) = self.context.setup.clone() else {
            self.prepared = ready;
            return self.reports.send(Report::Restored(Ok(proof)));
        };
        self.record_store = setup::record_store(&ready).filter(|_| plan.is_recorded());
        let context = self.context.clone();
        self.setups.spawn(async move {
            let (ready, due) = setup::begin(context, plan, ready).await?;
            Ok(SetupStep::Ready { ready, proof, due })
        });
    }

    pub(super) async fn set_up(&mut self, done: Result<Result<SetupStep, StartFailure>, JoinError>) {
        match done.unwrap_or_else(|error| Err(StartFailure::Local(threads::describe_task_failure(&error)))) {
            Ok(SetupStep::Ready { ready, proof, due: false }) => {
                self.prepared = ready;
                self.reports.send(Report::Restored(Ok(proof)));
            }
            Ok(SetupStep::Ready { ready, proof, due: true }) => {
                self.prepared = ready;
                self.reports.send(Report::SetupDue(proof));
            }
            Ok(SetupStep::Kept) => {
                let plan = self.context.setup.as_deref();
                self.recording = plan.and_then(|plan| Recording::of(plan, &self.prepared));
                self.reports.send(Report::SetupKept(Ok(())));
            }
            Err(failure) if self.prepared.is_empty() => {
                self.ownership.give_back().await;
                self.reports.send(Report::Restored(Err(failure)));
            }
            Err(failure) => self.reports.send(Report::SetupKept(Err(failure))),
        }
    }

    /// The commands of the setup did not succeed: nothing was replicated, and the replica stays as it is.
    pub(super) fn end_without_replication(&mut self, last: LastFlush) {
        let prepared = std::mem::take(&mut self.prepared);
        let position = |db| state_file::load(db).ok().flatten().map_or(Txid::NONE, |state| state.acked);
        let result =
            FlushResult::untouched(setup::replicated(&prepared).map(|one| (&one.db, position(&one.db))));
        self.flushes.spawn(async move {
            setup::give_up(prepared).await;
            Flushed { result, last: Some(last) }
        });
    }
}
