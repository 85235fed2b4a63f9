//! Starts the init under test (litevisor, unless the environment names another) around an app, talks to both,
//! and never waits without a limit.

pub use super::signals::with_default_signals;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// `LITEVISOR_INIT_SUITE_LIMIT` in seconds: a suite that is expected to fail should fail soon.
pub fn limit() -> Duration {
    let seconds = std::env::var("LITEVISOR_INIT_SUITE_LIMIT").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// Another init than litevisor: the words before the app's.
pub fn subject() -> Option<Vec<String>> {
    let subject = std::env::var("LITEVISOR_INIT_SUITE_SUBJECT").ok()?;
    Some(subject.split_whitespace().map(String::from).collect())
}

pub const HUP: i32 = 1;
pub const INT: i32 = 2;
pub const QUIT: i32 = 3;
pub const KILL: i32 = 9;
pub const USR1: i32 = 10;
pub const USR2: i32 = 12;
pub const TERM: i32 = 15;
pub const CHLD: i32 = 17;
pub const CONT: i32 = 18;
pub const STOP: i32 = 19;
pub const TSTP: i32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Pid1,
}

/// Both, or the one that `LITEVISOR_INIT_SUITE_MODE` names.
pub fn modes() -> Vec<Mode> {
    match std::env::var("LITEVISOR_INIT_SUITE_MODE").as_deref() {
        Ok("plain") => vec![Mode::Plain],
        Ok("pid1") => vec![Mode::Pid1],
        Ok(other) => panic!("LITEVISOR_INIT_SUITE_MODE is {other:?}: plain or pid1"),
        Err(_) => vec![Mode::Plain, Mode::Pid1],
    }
}

/// What a test sets in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub grace_ms: Option<u64>,
    pub app_timeout_ms: Option<u64>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub stop_signal: Option<i32>,
    pub no_new_privs: bool,
    /// Further lines of `[app]`.
    pub app: Vec<String>,
}

impl Settings {
    pub fn app(lines: &[&str]) -> Settings {
        Settings { app: lines.iter().map(|line| (*line).to_string()).collect(), ..Settings::default() }
    }
}

/// `litevisor run --config FILE --`: the one place that knows how settings reach the binary. There is a
/// database to replicate, which no app of these tests creates: the init is tried as it is used.
fn litevisor_run(command: &mut Command, settings: &Settings) {
    let directory = configurations();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut text = String::from("[app]\n");
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("{key} = {value}\n");
        }
    };
    line("user", settings.user.as_ref().map(|user| format!("{user:?}")));
    line("working_dir", settings.working_dir.as_ref().map(|dir| format!("{dir:?}")));
    line(
        "stop_signal",
        settings
            .stop_signal
            .map(|signal| format!("{:?}", litevisor::testing::model::Signal(signal).to_string())),
    );
    line("no_new_privs", settings.no_new_privs.then(|| "true".to_string()));
    for further in &settings.app {
        let (key, value) = further.split_once('=').unwrap();
        line(key, Some(value.to_string()));
    }
    line("[shutdown]\ngrace", settings.grace_ms.map(|ms| format!("\"{ms}ms\"")));
    line("app_timeout", settings.app_timeout_ms.map(|ms| format!("\"{ms}ms\"")));
    text += &format!("[[database]]\npath = \"{0}/{number}.db\"\n", directory.display());
    text += &format!("[database.replica]\nurl = \"{0}/{number}.replica\"\n", directory.display());
    let file = directory.join(format!("{number}.toml"));
    fs::write(&file, text).unwrap();
    command.args(["run", "--config"]).arg(file).arg("--");
}

/// Lives as long as the test process; readable by every user that a test drops to.
fn configurations() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("init-suite").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        directory
    });
    directory.path()
}

/// A command that ends in `litevisor run --`; the test adds the app's words. `wrapper` comes before litevisor
/// and execs it: `sh -c 'umask 7; exec "$@"' sh`.
pub fn command(mode: Mode, wrapper: &[&str], settings: &Settings) -> Command {
    let mut command = bare(mode, wrapper);
    if subject().is_none() {
        litevisor_run(&mut command, settings);
    }
    command
}

/// As `command`, but litevisor has no arguments yet.
pub fn bare(mode: Mode, wrapper: &[&str]) -> Command {
    let mut words: Vec<OsString> = Vec::new();
    if mode == Mode::Pid1 {
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
        words.extend(unshare.map(OsString::from));
        if !is_root() {
            words.push("--map-root-user".into());
        }
    }
    words.extend(wrapper.iter().map(OsString::from));
    match subject() {
        Some(subject) => words.extend(subject.into_iter().map(OsString::from)),
        None => words.push(env!("CARGO_BIN_EXE_litevisor").into()),
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    with_default_signals(&mut command);
    command
}

/// As `command`, with a python script before it that execs its arguments.
pub fn wrapped_in_python(mode: Mode, script: &str) -> Command {
    // execv knows no PATH, and its words begin with the init's path.
    let script = script.replace("os.execv(sys.argv[1]", "os.execvp(sys.argv[1]");
    // Python ignores these two.
    let script = format!("import signal\nfor s in (13, 25): signal.signal(s, signal.SIG_DFL)\n{script}");
    command(mode, &[python(), "-S", "-c", &script], &Settings::default())
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The interpreter itself: version managers put a shell script in its place, which has a life of its own.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let out = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(out.expect("the tests need python3").stdout).unwrap().trim().to_string()
    })
}

/// An interpreter that every user may run: version managers live in a home directory.
pub fn shared_python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { python() }
}

/// A python app that prints `ready`, then the number of each signal as it comes, and ends on TERM (status 0).
pub const SIGNAL_PRINTER: &str = "
import signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
print('ready', flush=True)
while True:
    got = signal.sigwaitinfo(set(range(1, 65)) - {9, 19, 32, 33}).si_signo
    print(got, flush=True)
    if got == 15: sys.exit(0)
";

pub struct Run {
    child: Child,
    /// litevisor's pid as seen from here.
    pub init: i32,
    lines: Receiver<String>,
    errors: Receiver<String>,
    mark: String,
    pub started: Instant,
}

pub fn start(mode: Mode, settings: &Settings, app: &[&str]) -> Run {
    let mut command = command(mode, &[], settings);
    command.args(app);
    start_command(mode, command)
}

pub fn sh(mode: Mode, script: &str) -> Run {
    start(mode, &Settings::default(), &["sh", "-c", script])
}

pub fn start_command(mode: Mode, mut command: Command) -> Run {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    command.env(MARK, &mark);
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting litevisor");
    let lines = lines_of(child.stdout.take().unwrap());
    let errors = lines_of(child.stderr.take().unwrap());
    let pid = i32::try_from(child.id()).unwrap();
    let init = match mode {
        Mode::Plain => pid,
        Mode::Pid1 => first_child(pid),
    };
    Run { child, init, lines, errors, mark, started }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let _ = sender.send(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            line.clear();
        }
    });
    receiver
}

/// unshare's child. 0 when it has ended already: a test that signals it waits for a line of the app first.
fn first_child(parent: i32) -> i32 {
    let start = Instant::now();
    loop {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().unwrap();
        }
        if stat(parent).is_none_or(|stat| stat.state == 'Z') {
            return 0;
        }
        assert!(start.elapsed() < limit(), "unshare has started nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Run {
    /// The next line of the app's stdout.
    pub fn line(&self) -> String {
        self.lines
            .recv_timeout(limit())
            .unwrap_or_else(|_| panic!("no line from the app; log:\n{}", self.log()))
    }

    pub fn expect(&self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        let mut log = String::new();
        for line in self.errors.try_iter() {
            log.push_str(&line);
            log.push('\n');
        }
        log
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.init > 0, "the init has ended");
        kill(self.init, signal);
    }

    /// Waits for the end. Status as a shell reports it.
    pub fn status(&mut self) -> i32 {
        let mut ended = None;
        until("the init ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        use std::os::unix::process::ExitStatusExt;
        let ended = ended.unwrap();
        ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap())
    }

    /// The rest of stdout, after the end.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// The whole log, after the end.
    pub fn whole_log(&self) -> String {
        self.errors.iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // An init that fails its check may have left anything behind.
        let mark = format!("{MARK}={}", self.mark);
        for pid in pids() {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()) {
                // SAFETY: two integers.
                unsafe { nix::libc::kill(pid, KILL) };
            }
        }
    }
}

/// In the environment of everything that a run starts.
const MARK: &str = "INIT_SUITE_RUN";

pub fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process with this text in its command line.
pub fn anyone_mentions(text: &str) -> bool {
    pids().any(|pid| read(format!("/proc/{pid}/cmdline")).contains(text))
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: two integers.
    let sent = unsafe { nix::libc::kill(pid, signal) };
    assert_eq!(sent, 0, "kill -{signal} {pid}");
}

/// Polls until `true`, at most `limit()`.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit(), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[derive(Debug)]
pub struct Stat {
    pub pid: i32,
    pub state: char,
    pub parent: i32,
}

pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { pid, state, parent: fields.next()?.parse().ok()? })
}

/// The app of a run: the init's child.
pub fn app_of(run: &Run) -> i32 {
    let children = children_of(run.init);
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    // A guard that has not run yet has no name of its own, but our program.
    let ours = |pid: i32| subject().is_none() && program(pid).is_some() && program(pid) == program(run.init);
    children.iter().find(|child| !is_guard(child.pid) && !ours(child.pid)).expect("the init has no child").pid
}

/// litevisor's own helper, which ends the app when litevisor is killed.
pub fn is_guard(pid: i32) -> bool {
    read(format!("/proc/{pid}/comm")).trim_end() == "litevisor-guard"
}

/// The process blocks or catches this signal.
pub fn takes(pid: i32, signal: i32) -> bool {
    let set = |name| u64::from_str_radix(&status_field(pid, name).unwrap_or_default(), 16).unwrap_or(0);
    (set("SigBlk") | set("SigCgt")) & (1 << (signal - 1)) != 0
}

/// Signals waiting for the process, but for SIGCHLD.
pub fn pending(pid: i32) -> u64 {
    all_pending(pid) & !(1 << (CHLD - 1))
}

pub fn all_pending(pid: i32) -> u64 {
    let shared = status_field(pid, "ShdPnd").unwrap_or_default();
    u64::from_str_radix(&shared, 16).unwrap_or(0)
}

pub fn children_of(parent: i32) -> Vec<Stat> {
    pids().filter_map(stat).filter(|stat| stat.parent == parent).collect()
}

/// A line `Name:\tvalue` of /proc/PID/status.
pub fn status_field(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_string()
}

/// Runs to the end and returns (status, stdout, log).
pub fn output(mut command: Command, app: &[impl AsRef<OsStr>]) -> (i32, Vec<u8>, String) {
    use std::os::unix::process::ExitStatusExt;
    let mut child =
        command.args(app).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.read_to_end(&mut bytes);
        bytes
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = err.read_to_end(&mut bytes);
        bytes
    });
    let start = Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        if start.elapsed() > limit() {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let status = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap());
    (status, out.join().unwrap(), String::from_utf8_lossy(&err.join().unwrap()).into_owned())
}
