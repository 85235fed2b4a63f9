//! One deployment: a disk that can be wiped, a replica that stays, an app, and the acknowledgements the app's
//! users hold (kept away from both).

use super::litevisor::{As, Litevisor};
use super::replica::Replica;
use super::{bank, litestream};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub struct Site {
    directory: tempfile::TempDir,
    pub replica: Replica,
    pub kind: As,
    /// In litevisor's environment.
    pub env: Vec<(String, String)>,
    /// Text before `[[database]]`, e.g. a `[shutdown]` table.
    pub settings: String,
    /// More keys of `[[database]]`.
    pub database_settings: String,
    /// More keys of `[database.replica]`.
    pub replica_settings: String,
}

impl Site {
    pub fn in_directory() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let bucket = directory.path().join("bucket");
        std::fs::create_dir(&bucket).unwrap();
        Site::new(directory, Replica::Directory(bucket))
    }

    /// In a bucket of its own; `name` is the bucket's.
    pub fn in_s3(name: &str) -> Site {
        Site::new(tempfile::tempdir().unwrap(), Replica::s3(name, "app/bank.db"))
    }

    /// In a bucket of its own on Google's stand-in.
    pub fn in_gs(name: &str) -> Site {
        Site::new(tempfile::tempdir().unwrap(), Replica::gs(name, "app/bank.db"))
    }

    /// In a container of its own; `name` is the container's.
    pub fn in_abs(name: &str) -> Site {
        Site::new(tempfile::tempdir().unwrap(), Replica::abs(name, "app/bank.db"))
    }

    /// Behind the shared OpenSSH; `name` is the directory's.
    pub fn in_sftp(name: &str) -> Site {
        Site::new(tempfile::tempdir().unwrap(), Replica::sftp(&format!("{name}/bank.db")))
    }

    fn new(directory: tempfile::TempDir, replica: Replica) -> Site {
        std::fs::create_dir(directory.path().join("disk")).unwrap();
        let none = String::new;
        let (settings, database_settings, replica_settings) = (none(), none(), none());
        let (kind, env) = (As::Process, Vec::new());
        Site { directory, replica, kind, env, settings, database_settings, replica_settings }
    }

    pub fn with_pid1(mut self) -> Site {
        self.kind = As::Pid1;
        self
    }

    pub fn with_settings(mut self, text: &str) -> Site {
        self.settings = format!("{text}\n");
        self
    }

    pub fn with_database_settings(mut self, text: &str) -> Site {
        self.database_settings = format!("{text}\n");
        self
    }

    pub fn with_replica_settings(mut self, text: &str) -> Site {
        self.replica_settings = format!("{text}\n");
        self
    }

    pub fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    pub fn db(&self) -> PathBuf {
        self.path("disk/bank.db")
    }

    pub fn ack(&self) -> PathBuf {
        self.path("ack")
    }

    /// A path outside of the disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// supervisor.toml as things are now.
    pub fn config(&self) -> PathBuf {
        self.config_with(&self.replica)
    }

    fn config_with(&self, replica: &Replica) -> PathBuf {
        let path = self.path("supervisor.toml");
        let db = self.db();
        let text = format!(
            "{}\n[[database]]\npath = \"{}\"\n{}\n[database.replica]\n{}{}",
            self.settings,
            db.display(),
            self.database_settings,
            replica.toml(),
            self.replica_settings
        );
        // One that has just been started may be reading it.
        if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return path;
        }
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `litevisor run --config … -- COMMAND`.
    pub fn run(&self, command: &[&str]) -> Litevisor {
        let mut args: Vec<OsString> = vec!["--config".into(), self.config().into(), "--".into()];
        args.extend(command.iter().map(OsString::from));
        Litevisor::run_with(self.kind, &args, &self.env)
    }

    /// litevisor with the bank as its app.
    pub fn run_bank(&self, options: &[&str]) -> Litevisor {
        let words = self.bank_words(options);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A command line of the bank on this site's database.
    pub fn bank_words(&self, options: &[&str]) -> Vec<String> {
        let (db, ack) = (self.db(), self.ack());
        let mut words = vec![bank::binary().to_str().unwrap().to_owned()];
        words.extend(["run", "--db", db.to_str().unwrap(), "--ack", ack.to_str().unwrap()].map(String::from));
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words
    }

    /// The same as one line for `sh -c`.
    pub fn bank_line(&self, options: &[&str]) -> String {
        self.bank_words(options).join(" ")
    }

    /// litevisor and a bank that makes `count` transfers and ends: history in the replica.
    pub fn make_history(&self, count: u64) {
        let mut run = self.run_bank(&["--rate", "max", "--count", &count.to_string()]);
        let ended = run.wait(super::SOON);
        assert_eq!(ended.code, 0, "making history failed:\n{}", run.log_text());
        self.assert_replica_holds_everything("after the first run");
    }

    /// The container is gone and its disk with it.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.disk()).unwrap();
        std::fs::create_dir(self.disk()).unwrap();
    }

    pub fn acked(&self) -> usize {
        bank::acked(&self.ack())
    }

    pub fn wait_for_acks(&self, more_than: usize) {
        super::wait_until("acknowledged transfers", super::SOON, || self.acked() > more_than);
    }

    /// Restores with Litestream and lets the bank check the result.
    pub fn judge_replica(&self, before_ms: Option<u64>) -> Result<String, String> {
        let out = self.path("judged.db");
        litestream::restore(&self.replica, &out)?;
        bank::check(&out, &self.ack(), before_ms)
    }

    pub fn assert_replica_holds_everything(&self, when: &str) {
        self.judge_replica(None).unwrap_or_else(|wrong| panic!("{when}: {wrong}"));
    }

    pub fn assert_disk_holds_everything(&self, when: &str) {
        self.check_disk().unwrap_or_else(|wrong| panic!("{when}: {wrong}"));
    }

    pub fn check_disk(&self) -> Result<String, String> {
        bank::check(&self.db(), &self.ack(), None)
    }

    /// Names of all files beside the database.
    pub fn files_on_disk(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.disk()).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A file that only a started app makes.
pub fn marker_app(marker: &Path) -> Vec<String> {
    vec!["touch".into(), marker.to_str().unwrap().into()]
}
