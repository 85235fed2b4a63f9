//! Every signal reaches the app, once, or as often as it was queued.

use super::support::*;

fn printer(mode: Mode) -> Run {
    let run = start(mode, &Settings::default(), &[python(), "-S", "-c", SIGNAL_PRINTER]);
    run.expect("ready");
    run
}

/// TERM, and what the app had printed by then.
fn finish(mut run: Run) -> Vec<String> {
    run.signal(TERM);
    assert_eq!(run.status(), 0);
    // TERM is followed by a CONT of litevisor's, which the app no longer waits for.
    run.rest()
}

fn each_arrives_once(signals: impl IntoIterator<Item = i32> + Clone) {
    for mode in modes() {
        let run = printer(mode);
        for signal in signals.clone() {
            run.signal(signal);
            run.expect(&signal.to_string());
        }
        assert_eq!(finish(run), ["15"], "{mode:?}: something came twice");
    }
}

#[test]
fn forward_term() {
    each_arrives_once([]);
}

#[test]
fn forward_int() {
    for mode in modes() {
        let mut run = sh(mode, "trap 'echo INT; exit 5' INT; echo ready; while :; do sleep .01; done");
        run.expect("ready");
        run.signal(INT);
        run.expect("INT");
        assert_eq!(run.status(), 5, "{mode:?}");
    }
}

#[test]
fn forward_hup() {
    each_arrives_once([HUP]);
}

#[test]
fn forward_quit() {
    each_arrives_once([QUIT]);
}

#[test]
fn forward_user() {
    each_arrives_once([USR1, USR2]);
}

#[test]
fn forward_rare() {
    each_arrives_once([13, 14, 16, 23, 24, 25, 26, 27, 28, 29, 30]);
}

#[test]
fn forward_realtime() {
    each_arrives_once(34..=64);
}

#[test]
fn realtime_queued() {
    for mode in modes() {
        let run = printer(mode);
        // Frozen, so that all of them are in the queue at once.
        run.signal(STOP);
        for _ in 0..20 {
            run.signal(37);
        }
        run.signal(CONT);
        run.signal(USR2);
        let mut seen = [0; 65];
        while seen[37] < 20 || seen[12] < 1 {
            seen[run.line().parse::<usize>().unwrap()] += 1;
        }
        assert_eq!((seen[37], seen[12]), (20, 1), "{mode:?}");
        run.signal(TERM);
    }
}

#[test]
fn chld_not_forwarded() {
    for mode in modes() {
        let run = printer(mode);
        for _ in 0..3 {
            run.signal(CHLD);
            // Of several the lowest number is taken first: one at a time.
            until("the init has taken it", || all_pending(run.init) == 0);
        }
        run.signal(USR1);
        run.expect("10");
        until("the app has taken all", || all_pending(app_of(&run)) == 0);
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

/// Counts, and makes 200 orphans meanwhile.
const STORM: &str = "
import os, signal, sys
every = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_SETMASK, every)
print('ready', flush=True)
for _ in range(200):
    child = os.fork()
    if child == 0:
        if os.fork() == 0: os._exit(3)
        os._exit(0)
    os.waitpid(child, 0)
count = 0
while True:
    got = signal.sigwaitinfo(every - {17}).si_signo
    count += got == 40
    if got == 15: break
print(count, flush=True)
sys.exit(42)
";

#[test]
fn storm() {
    for mode in modes() {
        let mut run = start(mode, &Settings::default(), &[python(), "-S", "-c", STORM]);
        run.expect("ready");
        for index in 0..1000 {
            run.signal(if index % 2 == 0 { 40 } else { USR1 });
        }
        // Blocked signals are taken lowest number first: TERM must come after the storm has been passed on.
        until("the storm is passed on", || pending(run.init) == 0);
        until("the app has taken the storm", || {
            children_of(run.init).iter().all(|app| pending(app.pid) == 0)
        });
        until("the orphans are reaped", || children_of(run.init).iter().all(|child| child.state != 'Z'));
        run.signal(TERM);
        run.expect("500");
        assert_eq!(run.status(), 42, "{mode:?}");
    }
}

#[test]
fn blocked_at_start() {
    let wrapper = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65)); os.execv(sys.argv[1], sys.argv[1:])";
    for mode in modes() {
        let mut command = wrapped_in_python(mode, wrapper);
        command.args([python(), "-S", "-c", SIGNAL_PRINTER]);
        let run = start_command(mode, command);
        run.expect("ready");
        run.signal(HUP);
        run.expect("1");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn ignored_at_start() {
    let wrapper = "import os, signal, sys
for s in (1, 15, 17): signal.signal(s, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    for mode in modes() {
        // With SIGCHLD ignored no status would ever come.
        let mut command = wrapped_in_python(mode, wrapper);
        command.args(["sh", "-c", "exit 7"]);
        assert_eq!(start_command(mode, command).status(), 7, "{mode:?}");
        let mut command = wrapped_in_python(mode, wrapper);
        command.args([python(), "-S", "-c", SIGNAL_PRINTER]);
        let run = start_command(mode, command);
        run.expect("ready");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn from_inside() {
    for mode in modes() {
        let mut run = sh(mode, "trap 'exit 4' TERM; kill -TERM $PPID; while :; do sleep .01; done");
        assert_eq!(run.status(), 4, "{mode:?}");
    }
}

#[test]
fn tstp_cont() {
    for mode in modes() {
        let mut run = sh(mode, "echo $$; exec sleep 1000");
        run.line();
        let app = app_of(&run);
        let state = |pid| stat(pid).unwrap().state;
        run.signal(TSTP);
        until("the app is stopped, or nobody is", || state(app) == 'T' || state(run.init) == 'S');
        run.signal(CONT);
        until("both go on", || state(app) == 'S' && state(run.init) != 'T');
        run.signal(TERM);
        assert_eq!(run.status(), 143, "{mode:?}");
    }
}

/// At any moment from the first instruction to the app's own: the start ends, at once.
#[test]
fn early_term() {
    for mode in modes() {
        for delay in 0..80 {
            let mut run = start(mode, &Settings::default(), &["sleep", "1000"]);
            if mode == Mode::Pid1 {
                // As PID 1 the kernel drops what comes before signals are blocked or caught; from then on
                // nothing is lost. HUP: unshare itself blocks TERM for a moment.
                until("signals are taken", || takes(run.init, HUP) || !children_of(run.init).is_empty());
            }
            let moment = std::time::Instant::now() + std::time::Duration::from_micros(delay * 75);
            while std::time::Instant::now() < moment {}
            run.signal(TERM);
            assert_eq!(run.status(), 143, "{mode:?}: TERM after {} µs", delay * 75);
        }
    }
}
