//! Hundreds of orphans and a thousand signals while litevisor starts, runs and stops: no zombie, no signal
//! lost or doubled, the app's own status, and a complete replica.
//!
//! `LITEVISOR_STORM_ROUNDS` says how often (5), each time as a plain process and as PID 1.

use crate::support::litevisor::{As, Litevisor};
use crate::support::site::Site;
use crate::support::{SOON, wait_until};
use nix::libc;
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// Real-time signals are counted one by one, so each that is sent must arrive: in the app, or in the log's
/// note of what came before the app was there.
const COUNTED: std::ops::RangeInclusive<i32> = 40..=49;
const LAST: i32 = 50;

/// Runs the bank beside itself, makes orphans in every phase, and counts. Ends with 42 when it has been asked
/// to stop, has heard the last signal, and its parent has no zombie left.
const APP: &str = "
import json, os, signal, subprocess, sys, time
note, bank = sys.argv[1], sys.argv[2:]
counted = set(range(40, 51))
waited = counted | {15}
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
def orphans(number):
    for _ in range(number):
        child = os.fork()
        if child == 0:
            if os.fork() == 0: os._exit(3)
            os._exit(0)
        os.waitpid(child, 0)
def zombies():
    found = 0
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: fields = open('/proc/%s/stat' % pid).read().rsplit(')', 1)[1].split()
        except OSError: continue
        found += fields[0] == 'Z' and int(fields[1]) == os.getppid()
    return found
orphans(170)
# It gets the group's signals as well: only TERM is for it.
child = subprocess.Popen(bank, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, counted))
orphans(170)
open(note + '.ready', 'w').close()
seen = {number: 0 for number in counted}
asked = False
while not (asked and seen[50]):
    got = signal.sigwaitinfo(waited).si_signo
    if got == 15:
        asked = True
        orphans(160)
    else: seen[got] += 1
while (got := signal.sigtimedwait(counted, 0)): seen[got.si_signo] += 1
json.dump(seen, open(note, 'w'))
if child.wait() != 0: sys.exit(90)
end = time.time() + 10
while zombies():
    if time.time() > end: sys.exit(91)
    time.sleep(.01)
sys.exit(42)
";

#[test]
fn nothing_is_lost_in_a_storm() {
    let rounds = std::env::var("LITEVISOR_STORM_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    for round in 0..rounds {
        for kind in [As::Process, As::Pid1] {
            storm(kind, &format!("round {round}, {kind:?}"));
        }
    }
}

fn storm(kind: As, round: &str) {
    let site =
        Site::in_directory().with_settings("[app]\nsignal_to = \"group\"\n[shutdown]\ngrace = \"30s\"");
    let site = if kind == As::Pid1 { site.with_pid1() } else { site };
    site.make_history(200);
    site.wipe();
    let note = site.path("seen");
    let bank = site.bank_words(&["--rate", "200", "--on-term", "write-more"]);
    let mut words = vec!["python3", "-S", "-c", APP, note.to_str().unwrap()];
    words.extend(bank.iter().map(String::as_str));

    // Blocked from its first instruction on, the app can be hit at any moment: litevisor hands our mask on.
    let mut run = with_blocked(|| site.run(&words));
    let pid = run.pid().as_raw();
    // Not a moment later: the restore is short.
    let end = Instant::now() + SOON;
    while !takes_hangups(pid) {
        assert!(Instant::now() < end, "{round}: litevisor does not take the signals");
    }
    let mut sent = BTreeMap::new();
    let mut send = |number: usize| (0..number).for_each(|index| send_one(pid, index, &mut sent));
    send(150);
    run.wait_for_app();
    send(150);
    let ready = site.path("seen.ready");
    wait_until("the app", SOON, || ready.exists() || !run.is_running());
    let before = site.acked();
    send(400);
    wait_until("transfers in the storm", SOON, || site.acked() > before + 20 || !run.is_running());
    assert!(run.is_running(), "{round}:\n{}", run.log_text());
    kill(pid, libc::SIGTERM);
    send(299);
    kill(pid, LAST);
    let ended = run.wait(SOON * 2);

    let log = run.log_text();
    let tail = || log.lines().rev().take(20).collect::<Vec<_>>().join("\n");
    assert_eq!(ended.code, 42, "{round}: 90 is the bank's failure, 91 a zombie\n{}", tail());
    let seen: BTreeMap<String, usize> = serde_json::from_str(&fs::read_to_string(&note).unwrap()).unwrap();
    let early: usize = COUNTED.map(|number| noted(&run, number)).sum();
    println!("{round}: {early} signals before the app's start");
    for number in COUNTED {
        let noted = noted(&run, number);
        let arrived = seen[&number.to_string()] + noted;
        assert_eq!(
            arrived, sent[&number],
            "{round}: signal {number}, {noted} of them noted before the app's start"
        );
    }
    assert_eq!(seen[&LAST.to_string()], 1, "{round}");
    site.assert_replica_holds_everything(round);
}

/// Signals that came when there was no app yet.
fn noted(run: &Litevisor, number: i32) -> usize {
    run.log().iter().filter(|line| line.contains(&format!("signal {number} received and ignored"))).count()
}

fn send_one(pid: i32, index: usize, sent: &mut BTreeMap<i32, usize>) {
    let number = COUNTED.clone().nth(index % COUNTED.count()).unwrap();
    kill(pid, number);
    *sent.entry(number).or_default() += 1;
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: two integers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "kill -{signal} {pid}");
}

fn takes_hangups(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap_or_default();
    u64::from_str_radix(blocked, 16).unwrap_or(0) & 1 != 0
}

/// What is started meanwhile begins with the counted signals blocked.
fn with_blocked<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: initialised by sigemptyset, live for each call.
    unsafe {
        let mut set = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for number in COUNTED.chain([LAST]) {
            libc::sigaddset(&mut set, number);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        started
    }
}
