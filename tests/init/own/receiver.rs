//! Who of the app's processes hears a signal.

use crate::support::*;

/// A server with a worker, as celery and php-fpm have them: the worker dies of the stop signal, the main
/// process lets it finish its task first. USR1 asks the main process to reopen its log, and would kill the
/// worker.
const SERVER: &str = "
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {10, 15})
r, w = os.pipe()
worker = os.fork()
if worker == 0:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {10, 15})
    os.write(1, b'ready\\n')
    os.close(w)
    os.read(r, 1)
    time.sleep(.3)
    os.write(1, b'task done\\n')
    os._exit(0)
while signal.sigwait({10, 15}) == 10: os.write(1, b'reopened\\n')
os.write(w, b'x')
status = os.waitpid(worker, 0)[1]
sys.exit(0 if status == 0 else 9)
";

fn served(mode: Mode, lines: &[&str], signals: &[i32]) -> (i32, Vec<String>) {
    let mut run = start(mode, &Settings::app(lines), &[python(), "-S", "-c", SERVER]);
    run.expect("ready");
    for &signal in signals {
        run.signal(signal);
        run.expect("reopened");
    }
    run.signal(TERM);
    (run.status(), run.rest())
}

#[test]
fn a_server_tells_its_workers_itself() {
    for mode in modes() {
        for lines in [&[][..], &["signal_to=\"main\""]] {
            let (status, said) = served(mode, lines, &[USR1, USR1]);
            assert_eq!((status, said), (0, vec!["task done".to_owned()]), "{mode:?} {lines:?}");
        }
        let (status, said) = served(mode, &["signal_to=\"group\""], &[]);
        assert_eq!((status, said), (9, vec![]), "{mode:?}");
    }
}

/// `npm start` and shells pass nothing on.
#[test]
fn behind_a_wrapper_the_group_is_told() {
    let wrapped = "sh -c 'trap \"echo told; exit 5\" TERM; echo ready; while :; do sleep .01; done'; exit $?";
    let node = format!("trap : TERM; {wrapped}");
    for mode in modes() {
        let run_with = |lines: &[&str]| {
            let settings =
                Settings { grace_ms: Some(20_000), app_timeout_ms: Some(1_000), ..Settings::app(lines) };
            let mut run = start(mode, &settings, &["sh", "-c", &node]);
            run.expect("ready");
            run.signal(TERM);
            (run.status(), run.rest())
        };
        assert_eq!(run_with(&[]), (5, vec!["told".to_owned()]), "{mode:?}");
        let (status, _) = run_with(&["signal_to=\"main\""]);
        assert_eq!(status, 137, "{mode:?}: as it was asked for");
    }
}

/// Somebody who came in through `docker exec` has nothing to do with the app's lives, but must not write
/// after the last flush.
#[test]
fn who_entered_from_outside_stays_until_the_end() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let note = path(&dir, "entered");
    let lives = path(&dir, "lives");
    let settings = Settings::app(&["restart=\"on-failure\"", "backoff={ limit = 3, delay = \"10ms\" }"]);
    let script = format!(
        "trap 'exit 4' TERM; echo x >> {lives}; n=$(wc -l < {lives}); echo life $n; if [ $n = 1 ]; then \
         while ! [ -e {note} ]; do sleep .01; done; exit 1; fi; while :; do sleep .01; done"
    );
    let mut run = start(Mode::Pid1, &settings, &["sh", "-c", &script]);
    run.expect("life 1");
    let mut entered = std::process::Command::new("nsenter")
        .args(["-t", &run.init.to_string(), "-p", "-m", "sh", "-c"])
        .arg(format!(": > {note}; while :; do sleep .05; done"))
        .spawn()
        .unwrap();
    run.expect("life 2");
    assert!(entered.try_wait().unwrap().is_none(), "it was ended with the app's first life");
    run.signal(TERM);
    assert_eq!(run.status(), 4, "{}", run.whole_log());
    until("it is ended before the last flush", || entered.try_wait().unwrap().is_some());
}
