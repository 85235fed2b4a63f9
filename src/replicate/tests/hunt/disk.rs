//! One machine's disk: the database, what lies beside it, and what a kill, a power cut or a loss makes of it.

use crate::lineage::{file_times, state_file};
use crate::model::DbPath;
use crate::model::random::Random;
use crate::sqlite::files;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// One content of a whole database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State(u64);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}", self.0 >> 48)
    }
}

impl State {
    pub fn of(image: &[u8]) -> State {
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        State(hasher.finish())
    }
}

/// How another content gets into the place of the database.
#[derive(Clone, Copy, Debug)]
pub struct Replacing {
    pub renamed: bool,
    pub wal_left: bool,
}

/// A WAL that has the recorded place.
pub struct RecordedWal {
    /// It ends there.
    pub is_whole: bool,
}

pub struct Disk {
    dir: PathBuf,
    pub db: DbPath,
    /// Of the database file: modification times are the hunt's own, so that they differ on every machine,
    /// however coarse its clock is.
    content: Option<State>,
    ns: i64,
    /// Every record that was ever written, for power cuts.
    records: Vec<Vec<u8>>,
}

impl Disk {
    pub fn new(dir: PathBuf) -> Disk {
        fs::create_dir_all(&dir).unwrap();
        let db = DbPath::new(dir.join("app.db"));
        let ns = 1_700_000_000_000_000_000;
        Disk { dir, db, content: None, ns, records: Vec::new() }
    }

    fn record(&self) -> PathBuf {
        self.db.state_dir().join("state.json")
    }

    /// To be called after everything that may have written.
    pub fn settle(&mut self) {
        if let Ok(record) = fs::read(self.record())
            && self.records.last() != Some(&record)
        {
            self.records.push(record);
        }
        let path = self.db.as_path();
        // Through the one descriptor that is never closed: anything else would drop SQLite's locks.
        let Ok((_, file)) = files::keep(path) else { return };
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        files::read_full(&file, 0, &mut bytes).unwrap();
        let content = Some(State::of(&bytes));
        if self.content != content {
            self.content = content;
            self.ns += 1_000_000;
            let time = TimeSpec::nanoseconds(self.ns);
            utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::FollowSymlink).unwrap();
        }
    }

    /// The replicator's process has died, with everything that it kept open.
    pub fn replicator_died(&self, app_lives: bool) {
        if let Ok(Some(id)) = files::identity(self.db.as_path()) {
            files::died(id, app_lives);
        }
        if !app_lives {
            files::indexes_died(&self.db);
        }
    }

    /// What an app would find that opened the database now. Nobody has it open.
    pub fn state(&self) -> Option<State> {
        let bytes = fs::read(self.db.as_path()).ok().filter(|bytes| !bytes.is_empty())?;
        let Some(wal) = fs::read(self.db.wal()).ok().filter(|wal| !wal.is_empty()) else {
            return Some(State::of(&bytes));
        };
        let look = self.dir.join("look");
        fs::create_dir_all(&look).unwrap();
        let copy = DbPath::new(look.join("app.db"));
        fs::write(copy.as_path(), bytes).unwrap();
        fs::write(copy.wal(), wal).unwrap();
        let mut eyes = rusqlite::Connection::open(copy.as_path()).unwrap();
        // A WAL beside a file that it does not belong to may make no database.
        let state = eyes.serialize("main").map_or_else(|_| State::of(b"damaged"), |image| State::of(&image));
        drop(eyes);
        fs::remove_dir_all(&look).unwrap();
        Some(state)
    }

    /// A power cut: what was not synced may be gone. SQLite syncs the WAL before it copies from it, so at
    /// least that is there; and the record is never synced. What happened to the WAL and to the record.
    pub fn power_cut(&mut self, random: &mut Random) -> (bool, bool) {
        let cut = self.cut_wal(random);
        let shm = &self.db.sides()[1];
        if random.percent(50) && shm.exists() {
            fs::remove_file(shm).unwrap();
        }
        (cut, self.lose_record(random))
    }

    fn cut_wal(&self, random: &mut Random) -> bool {
        let (Ok(wal), Ok(shm)) = (fs::read(self.db.wal()), fs::read(&self.db.sides()[1])) else {
            return false;
        };
        if wal.len() < 32 || shm.len() < 132 || wal[16..24] != shm[32..40] || random.percent(30) {
            return false;
        }
        let page_size = u64::from(u32::from_be_bytes(wal[8..12].try_into().unwrap()));
        let copied = u64::from(u32::from_ne_bytes(shm[128..132].try_into().unwrap()));
        let least = 32 + copied * (page_size + 24);
        let length = wal.len() as u64;
        if least >= length {
            return false;
        }
        let left = random.between(least, length - 1);
        fs::write(self.db.wal(), &wal[..left as usize]).unwrap();
        true
    }

    fn lose_record(&self, random: &mut Random) -> bool {
        let Ok(now) = fs::read(self.record()) else { return false };
        let then = match random.below(8) {
            0 => {
                fs::remove_file(self.record()).unwrap();
                return true;
            }
            1 => now[..random.below(now.len() as u64) as usize].to_vec(),
            2..4 => self.records[random.below(self.records.len() as u64) as usize].clone(),
            _ => return false,
        };
        fs::write(self.record(), &then).unwrap();
        then != now
    }

    /// Another file takes the place of the database, by a rename, or its bytes are written over it. Nobody
    /// has it open.
    pub fn replace(&mut self, bytes: &[u8], by: Replacing) {
        self.forget_descriptors();
        if !by.wal_left {
            self.db.sides().iter().for_each(|side| drop(fs::remove_file(side)));
        }
        let path = self.db.as_path();
        if by.renamed {
            let new = DbPath::new(self.dir.join("new.db"));
            let born = |db: &DbPath| file_times(db).map(|file| file.born_ns);
            // The clock of a file system has ticks.
            loop {
                fs::write(new.as_path(), bytes).unwrap();
                if born(&new) != born(&self.db) {
                    break;
                }
                fs::remove_file(new.as_path()).unwrap();
            }
            fs::rename(new.as_path(), path).unwrap();
        } else {
            fs::write(path, bytes).unwrap();
        }
        self.settle();
    }

    /// The WAL, if the record says that it ends at what is in the replica or about to be. None: it holds
    /// something else.
    pub fn recorded_wal(&self) -> Option<RecordedWal> {
        let place = state_file::load(&self.db).ok()??.wal;
        let wal = fs::read(self.db.wal()).ok()?;
        let salts = [place.salt1.to_be_bytes(), place.salt2.to_be_bytes()].concat();
        let reached = wal.get(16..24)? == salts && place.offset > 32 && wal.len() as u64 >= place.offset;
        reached.then_some(RecordedWal { is_whole: wal.len() as u64 == place.offset })
    }

    /// Another, empty disk.
    pub fn lost(&mut self) {
        self.forget_descriptors();
        fs::remove_dir_all(&self.dir).unwrap();
        fs::create_dir_all(&self.dir).unwrap();
        (self.content, self.records) = (None, Vec::new());
    }

    /// To be called as long as the file is there.
    pub fn forget_descriptors(&mut self) {
        self.replicator_died(false);
    }
}
