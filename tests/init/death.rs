//! The init is killed.

use super::support::*;

/// The app does not go on writing without anybody to replicate it. (A namespace ends with its PID 1 by
/// itself.)
#[test]
fn init_killed() {
    for mode in modes() {
        let run = sh(mode, "echo ready; exec sleep 1000");
        run.expect("ready");
        let app = app_of(&run);
        run.signal(KILL);
        until("the app is gone", || stat(app).is_none_or(|stat| stat.state == 'Z'));
    }
}
