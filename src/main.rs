//! Stand-in until the command line is there: `litevisor run -- CMD ARGS...`, settings from LITEVISOR_TEST_* variables.

use litevisor::config::{Config, LogFormat, LogLevel, LogSettings, ShutdownSettings};
use litevisor::model::Signal;
use litevisor::restore::RestoreSettings;
use litevisor::supervise::{self, AppSettings};
use std::ffi::OsString;
use std::time::Duration;

struct Stderr;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Stderr {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        use std::io::Write;
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {}={value:?}", field.name()));
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        line.0.push('\n');
        let (sender, done) = std::sync::mpsc::channel();
        // Never blocks the caller for long: the real log is a queue of its own.
        std::thread::spawn(move || {
            let _ = std::io::stderr().write_all(line.0.as_bytes());
            let _ = sender.send(());
        });
        let _ = done.recv_timeout(Duration::from_millis(200));
    }
}

fn main() -> std::process::ExitCode {
    let Ok(claimed) = supervise::claim() else { return 70.into() };
    use tracing_subscriber::layer::SubscriberExt;
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Stderr));
    let mut command: Vec<OsString> = std::env::args_os().skip(2).collect();
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    if command.is_empty() {
        eprintln!("usage: litevisor run -- CMD ARGS...");
        return 64.into();
    }
    let var = |name: &str| std::env::var(format!("LITEVISOR_TEST_{name}")).ok();
    let millis = |name, default| Duration::from_millis(var(name).and_then(|v| v.parse().ok()).unwrap_or(default));
    let names = ["GRACE", "APP_TIMEOUT", "PRE_SYNC", "USER", "DIR", "STOP_SIGNAL", "NO_NEW_PRIVS"];
    let app = AppSettings {
        command,
        user: var("USER"),
        working_dir: var("DIR").map(Into::into),
        stop_signal: Signal(var("STOP_SIGNAL").and_then(|v| v.parse().ok()).unwrap_or(15)),
        env: vec![],
        env_remove: names.iter().map(|name| format!("LITEVISOR_TEST_{name}").into()).collect(),
        no_new_privs: var("NO_NEW_PRIVS").is_some(),
    };
    let config = Config {
        app: Some(app),
        shutdown: ShutdownSettings {
            grace: millis("GRACE", 10_000),
            app_timeout: millis("APP_TIMEOUT", 7_000),
            pre_sync_timeout: millis("PRE_SYNC", 2_000),
        },
        restore: RestoreSettings::default(),
        databases: vec![],
        log: LogSettings { level: LogLevel::Info, format: LogFormat::Auto },
    };
    litevisor::run::run(config, claimed).into()
}
