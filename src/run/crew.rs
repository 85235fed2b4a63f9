//! The databases of a run: those that were prepared, and those that appear in watched directories while the app runs. Owns
//! their tasks. Lives on the engine's thread.

use super::discover::{Directory, Newcomers};
use super::flush::Running;
use super::prepare::{Prepared, room_for};
use crate::config::DatabaseSettings;
use crate::observe::Board;
use crate::replicate::{Conflict, Replicator, Target};
use crate::store::Stores;
use std::sync::Arc;

pub struct Crew {
    replicator: Replicator,
    stores: Arc<Stores>,
    running: Vec<Running>,
    newcomers: Newcomers,
    board: Arc<Board>,
}

impl Crew {
    /// Starts replicating what was prepared, on the current runtime.
    pub fn start(
        prepared: Vec<Prepared>,
        directories: &[Directory],
        stores: Arc<Stores>,
        conflict: Conflict,
        board: Arc<Board>,
    ) -> Crew {
        let newcomers = Newcomers::new(directories, prepared.iter().map(|one| one.db.as_path()));
        let (replicator, mut running) = (Replicator::new(conflict), Vec::new());
        for one in prepared {
            running.push(if one.replicate {
                let target = Target { db: one.db.clone(), store: one.store, settings: one.settings, late: false };
                let (replica, counts) = (target.store.url().to_owned(), target.store.counts());
                let handle = replicator.start(target, one.hold);
                board.replicating(&one.db, &replica, counts, handle.clone());
                Running::Task(one.db, handle)
            } else {
                let why = "it was started without its restore";
                board.not_replicated(&one.db, why.into());
                Running::Not(one.db, why.into())
            });
        }
        Crew { replicator, stores, running, newcomers, board }
    }

    /// Whether databases may still appear.
    pub fn expects(&self) -> bool {
        self.newcomers.expected()
    }

    /// Takes in those that have appeared.
    pub fn look(&mut self) {
        for settings in self.newcomers.look() {
            let newcomer = self.newcomer(settings);
            if let Running::Not(db, why) = &newcomer {
                tracing::error!(%db, "NOT REPLICATED: {why}");
                self.board.not_replicated(db, why.clone());
            }
            self.running.push(newcomer);
        }
    }

    fn newcomer(&self, settings: DatabaseSettings) -> Running {
        let DatabaseSettings { path: db, replicate, replica, .. } = settings;
        if let Err(error) = room_for(self.running.len() + 1) {
            return Running::Not(db, error.to_string());
        }
        let store = match self.stores.open(&replica) {
            Ok(store) => store,
            Err(error) => return Running::Not(db, error.to_string()),
        };
        tracing::info!(%db, replica = store.url(), "a database has appeared");
        let target = Target { db: db.clone(), store, settings: replicate, late: true };
        let (replica, counts) = (target.store.url().to_owned(), target.store.counts());
        let handle = self.replicator.start(target, None);
        self.board.replicating(&db, &replica, counts, handle.clone());
        Running::Task(db, handle)
    }

    /// Everybody that is here now.
    pub fn all(&mut self) -> Vec<Running> {
        self.look();
        self.running.clone()
    }

    /// Everybody, for the last flush: nobody is expected any more.
    pub fn last(&mut self) -> Vec<Running> {
        let all = self.all();
        self.newcomers = Newcomers::default();
        all
    }
}
