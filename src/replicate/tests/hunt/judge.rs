//! The judge: restores what the replica holds with the real code and compares it with what the app has
//! committed.

use super::bucket::Bucket;
use super::disk::State;
use super::machine::Machine;
use crate::model::Txid;
use crate::model::random::Random;
use crate::replica::{Listing, PlanError, RemoteFile, Target};
use crate::restore::{Owners, Progress, RestoreError, RestoreSettings, restore_to};
use crate::store::Store;
use crate::store::layout::Level;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub struct Judge {
    pub bucket: Arc<Bucket>,
    /// The bucket, or the encrypted replica in it.
    store: Arc<dyn Store>,
    scratch: PathBuf,
    runtime: Rc<Runtime>,
    seen: u64,
    /// The state at every position that the replica has had, and who brought it there.
    pub recorded: BTreeMap<Txid, (State, char)>,
    /// Everything that was ever committed anywhere.
    ever: HashSet<State>,
}

impl Judge {
    pub fn new(bucket: Arc<Bucket>, store: Arc<dyn Store>, scratch: PathBuf, runtime: Rc<Runtime>) -> Judge {
        std::fs::create_dir_all(&scratch).unwrap();
        Judge { bucket, store, scratch, runtime, seen: 0, recorded: BTreeMap::new(), ever: HashSet::new() }
    }

    pub fn files(&self) -> Vec<RemoteFile> {
        let objects = self.runtime.block_on(self.store.list("", super::machine::soon())).unwrap();
        Listing::of(self.store.layout(), &objects).files
    }

    pub fn tip(&self) -> Option<(Txid, State, char)> {
        self.recorded.last_key_value().map(|(txid, (state, by))| (*txid, *state, *by))
    }

    fn restore(&self, target: Target) -> Result<(Txid, State), RestoreError> {
        let out = self.scratch.join("out.db");
        let (settings, owners, progress) =
            (RestoreSettings::default(), Owners::default(), Progress::default());
        let restoring = restore_to(&out, &*self.store, target, &settings, &owners, true, &progress);
        let restored = self.runtime.block_on(restoring)?;
        Ok((restored.txid, State::of(&std::fs::read(&out).unwrap())))
    }

    /// After a step of `actor`: whatever is new in the replica is what the actor has had, in the order in
    /// which it had it.
    pub fn look(&mut self, actor: &mut Machine, random: &mut Random) {
        self.record(actor, random);
        for (txid, committed) in actor.claims.drain(..) {
            if let Some((state, _)) = self.recorded.get(&txid) {
                assert_eq!(
                    *state, committed,
                    "the ledger says that all is uploaded, and TXID {txid} is another state"
                );
            }
        }
    }

    fn record(&mut self, actor: &mut Machine, random: &mut Random) {
        self.ever.extend(&actor.history);
        if std::mem::replace(&mut self.seen, self.bucket.changes()) == self.bucket.changes() {
            return;
        }
        let files = self.files();
        let Some(end) = files.iter().map(|file| file.range.max).max() else { return };
        let known = self.tip().map_or(Txid::NONE, |tip| tip.0);
        let mut next = known.next();
        while next <= end {
            let (_, state) =
                self.restore(Target::Txid(next)).unwrap_or_else(|error| panic!("TXID {next}: {error}"));
            match actor.history[actor.position..].iter().position(|had| *had == state) {
                Some(ahead) => actor.position += ahead,
                None => assert!(self.ever.contains(&state), "TXID {next} is {state:?}, which never existed"),
            }
            self.recorded.insert(next, (state, actor.name));
            next = next.next();
        }
        let (latest, state) =
            self.restore(Target::Latest).unwrap_or_else(|error| panic!("the latest: {error}"));
        let Some(tip) = self.tip() else { panic!("there is a file and no position") };
        assert_eq!((latest, state), (tip.0, tip.1), "the latest is what was recorded");
        self.sample(&files, random);
    }

    /// A position of the past is what it was.
    fn sample(&self, files: &[RemoteFile], random: &mut Random) {
        let all: Vec<_> = self.recorded.iter().collect();
        let (txid, (state, _)) = all[random.below(all.len() as u64) as usize];
        match self.restore(Target::Txid(*txid)) {
            Ok(restored) => assert_eq!(restored, (*txid, *state), "what is restored to and what was there"),
            Err(RestoreError::NoSuchState { source: PlanError::Unreachable { .. }, .. }) => {
                let ends = |file: &&RemoteFile| file.level == Level::RAW && file.range.max == *txid;
                assert_eq!(files.iter().find(ends), None, "TXID {txid} has a file and cannot be restored");
            }
            Err(error) => panic!("TXID {txid} cannot be restored: {error}"),
        }
    }

    /// The replica's newest files are removed by hand, so that it ends at `end`.
    pub fn cut(&mut self, end: Txid) {
        let gone: Vec<String> =
            self.files().into_iter().filter(|file| file.range.max > end).map(|file| file.key).collect();
        self.bucket.lose(&gone);
        self.recorded.retain(|txid, _| *txid <= end);
        self.seen = self.bucket.changes();
    }
}
