//! Frozen past the grace (a cgroup freezer, a debugger, a throttled instance): what was committed still
//! reaches the replica when litevisor goes on.

use crate::support::*;
use std::time::Duration;

/// Commits, then says so; ends on TERM.
const APP: &str = "
import signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute('pragma journal_mode=wal')
db.execute('create table if not exists t(x)')
db.execute('insert into t values (1)')
db.commit()
def end(*_):
    db.execute('insert into t values (2)')
    db.commit()
    print('told', flush=True)
    sys.exit(5)
signal.signal(15, end)
print('ready', flush=True)
while True: signal.pause()
";

#[test]
fn frozen_past_the_grace() {
    for mode in modes() {
        let dir = tempfile::tempdir().unwrap();
        let (db, replica) = (path(&dir, "app.db"), path(&dir, "replica"));
        let config = path(&dir, "supervisor.toml");
        let text = format!(
            "[shutdown]\ngrace = \"2s\"\n[[database]]\npath = \"{db}\"\n[database.replica]\nurl = \"{replica}\"\n\
             sync_interval = \"1h\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = bare(mode, &[]);
        command.args(["run", "--config", &config, "--", python(), "-c", APP, &db]);
        let mut run = start_command(mode, command);
        run.expect("ready");
        run.signal(TERM);
        run.expect("told");
        run.signal(STOP);
        until("it is frozen", || stat(run.init).is_none_or(|stat| stat.state == 'T'));
        std::thread::sleep(Duration::from_millis(2500)); // The subject is time.
        run.signal(CONT);
        let status = run.status();
        let log = run.whole_log();
        assert_eq!(status, 5, "{mode:?}: {log}");
        assert!(log.contains("\"flushed\":true"), "{mode:?}: {log}");
    }
}
