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
    run.rest()
}

#[test]
fn each_signal_arrives_once() {
    let named = [1, 3, 10, 12, 13, 14, 16, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
    for mode in MODES {
        let run = printer(mode);
        for signal in named.into_iter().chain(34..=64) {
            run.signal(signal);
            run.expect(&signal.to_string());
        }
        // TERM is followed by a CONT of ours, which the app no longer waits for.
        assert_eq!(finish(run), ["15"], "{mode:?}: something came twice");
    }
}

#[test]
fn sigchld_from_outside_is_swallowed() {
    for mode in MODES {
        let run = printer(mode);
        for _ in 0..3 {
            run.signal(CHLD);
        }
        run.signal(USR1);
        run.expect("10");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn queued_real_time_signals_all_arrive() {
    for mode in MODES {
        let run = printer(mode);
        // Frozen, so that all of them are in the queue at once.
        run.signal(STOP);
        for _ in 0..20 {
            run.signal(37);
        }
        run.signal(CONT);
        let mut seen = [0; 65];
        while seen[37] < 20 || seen[18] < 1 {
            seen[run.line().parse::<usize>().unwrap()] += 1;
        }
        assert_eq!((seen[37], seen[18]), (20, 1), "{mode:?}");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn a_storm_of_signals_and_orphans() {
    let storm = "
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
    for mode in MODES {
        let mut run = start(mode, &Settings::default(), &[python(), "-S", "-c", storm]);
        run.expect("ready");
        for index in 0..1000 {
            run.signal(if index % 2 == 0 { 40 } else { USR1 });
        }
        // Blocked signals are taken lowest number first: TERM must come after the storm has been passed on.
        until("the storm is passed on", || pending(run.init) == 0);
        until("the orphans are reaped", || children_of(run.init).len() == 1);
        until("the app has taken the storm", || children_of(run.init).iter().all(|app| pending(app.pid) == 0));
        run.signal(TERM);
        run.expect("500");
        assert_eq!(run.status(), 42, "{mode:?}");
    }
}

/// Signals waiting for the process, but for SIGCHLD.
fn pending(pid: i32) -> u64 {
    let shared = status_field(pid, "ShdPnd").unwrap_or_default();
    u64::from_str_radix(&shared, 16).unwrap_or(0) & !(1 << (CHLD - 1))
}

#[test]
fn stop_and_continue_from_the_keyboard() {
    for mode in MODES {
        let mut run = sh(mode, "echo $$; exec sleep 1000");
        run.line();
        let app = children_of(run.init)[0].pid;
        let state = |pid| stat(pid).unwrap().state;
        run.signal(TSTP);
        until("the app is stopped", || state(app) == 'T');
        assert_eq!(state(run.init), 'S', "{mode:?}: the init itself never stops");
        run.signal(CONT);
        until("the app goes on", || state(app) == 'S');
        run.signal(TERM);
        assert_eq!(run.status(), 143, "{mode:?}");
    }
}

#[test]
fn from_inside_the_namespace() {
    for mode in MODES {
        let mut run = sh(mode, "trap 'exit 4' TERM; kill -TERM $PPID; while :; do sleep .01; done");
        assert_eq!(run.status(), 4, "{mode:?}");
    }
}

#[test]
fn started_with_everything_blocked() {
    let wrapper = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65)); os.execv(sys.argv[1], sys.argv[1:])";
    for mode in MODES {
        let mut command = command(mode, &[python(), "-S", "-c", wrapper], &Settings::default());
        command.args([python(), "-S", "-c", SIGNAL_PRINTER]);
        let run = start_command(mode, command);
        run.expect("ready");
        run.signal(HUP);
        run.expect("1");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn started_with_signals_ignored() {
    let wrapper = "import os, signal, sys
for s in (1, 15, 17): signal.signal(s, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    for mode in MODES {
        let wrapped = || command(mode, &[python(), "-S", "-c", wrapper], &Settings::default());
        // With SIGCHLD ignored no status would ever come.
        let (status, ..) = output(wrapped(), &["sh", "-c", "exit 7"]);
        assert_eq!(status, 7, "{mode:?}");
        let mut command = wrapped();
        command.args([python(), "-S", "-c", SIGNAL_PRINTER]);
        let run = start_command(mode, command);
        run.expect("ready");
        assert_eq!(finish(run), ["15"], "{mode:?}");
    }
}

#[test]
fn a_stop_signal_at_any_moment_of_the_start_ends_it() {
    for delay in 0..40 {
        let mut run = start(Mode::Plain, &Settings::default(), &["sleep", "1000"]);
        let moment = run.started + std::time::Duration::from_micros(delay * 150);
        while std::time::Instant::now() < moment {}
        run.signal(TERM);
        assert_eq!(run.status(), 143, "TERM after {} µs", delay * 150);
    }
    // As PID 1 the kernel drops what comes before signals are blocked; from then on nothing is lost.
    for _ in 0..10 {
        let mut run = start(Mode::Pid1, &Settings::default(), &["sleep", "1000"]);
        until("signals are blocked", || {
            let blocked = status_field(run.init, "SigBlk").unwrap_or_default();
            // HUP: unshare itself blocks TERM for a moment.
            u64::from_str_radix(&blocked, 16).unwrap_or(0) & (1 << (HUP - 1)) != 0
        });
        run.signal(TERM);
        assert_eq!(run.status(), 143);
    }
}
