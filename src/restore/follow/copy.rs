//! The copy on this machine: where it stands, and the way in which it is written. Blocks; runs on another
//! thread.

use super::Way;
use super::error::{Anew, FollowError};
use super::in_place::InPlace;
use super::stand::{self, Record, Stand};
use super::step::{self, Step};
use super::through_sqlite::ThroughSqlite;
use crate::lineage::state_file;
use crate::model::DbPath;

pub struct Copy {
    record: Record,
    pub stand: Stand,
    writer: Writer,
    /// The last file carried no checksum: SQLite's check has to prove what came of it.
    unchecked: Option<String>,
}

enum Writer {
    InPlace(InPlace),
    ThroughSqlite(ThroughSqlite),
}

impl Copy {
    pub fn open(db: &DbPath, replica: &str, way: Way) -> Result<Copy, FollowError> {
        let record =
            Record { db: db.clone(), replica: replica.to_owned(), node_id: state_file::new_node_id() };
        let (stand, mark) = stand::load(db, replica)?;
        let (writer, stand) = match way {
            Way::InPlace => {
                let (place, stand) = InPlace::open(&record, stand, &mark)?;
                (Writer::InPlace(place), stand)
            }
            Way::ThroughSqlite => {
                let (sqlite, stand) = ThroughSqlite::open(&record, stand, &mark)?;
                (Writer::ThroughSqlite(sqlite), stand)
            }
        };
        Ok(Copy { record, stand, writer, unchecked: None })
    }

    /// Applies the files of a step. `proven`: the replica's file of the position where the copy stands is the
    /// one that the copy has.
    pub fn apply(&mut self, step: &Step, proven: bool) -> Result<(), FollowError> {
        step::check(&self.stand, step, proven)?;
        let Copy { record, stand, writer, unchecked } = self;
        match writer {
            Writer::InPlace(place) => place.apply(record, stand, step)?,
            Writer::ThroughSqlite(sqlite) => sqlite.apply(record, stand, step)?,
        }
        *unchecked = step.stated().is_none().then(|| step.key().to_owned());
        if unchecked.is_none() && stand.torn.is_none() { self.end() } else { Ok(()) }
    }

    /// To be called after the last file that is there: checks what no checksum has proven.
    pub fn check(&mut self) -> Result<(), FollowError> {
        if self.stand.torn.is_some() {
            return Ok(());
        }
        let Some(file) = self.unchecked.take() else { return Ok(()) };
        let found = match &self.writer {
            Writer::InPlace(place) => place.structure_problem(),
            Writer::ThroughSqlite(sqlite) => sqlite.structure_problem(),
        };
        match found {
            Ok(None) => self.end(),
            Ok(Some(problem)) => Err(Anew::Damaged { file, problem }.into()),
            Err(error) => {
                self.unchecked = Some(file);
                Err(error.into())
            }
        }
    }

    fn end(&mut self) -> Result<(), FollowError> {
        match &mut self.writer {
            Writer::InPlace(_) => Ok(self.record.end(&self.stand, None)?),
            Writer::ThroughSqlite(sqlite) => {
                sqlite.end(&self.record, &self.stand);
                Ok(())
            }
        }
    }
}
