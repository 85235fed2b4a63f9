//! A small bank on SQLite: the app of the demo and of the tests. It moves money between accounts. The total
//! never changes, every transfer has a sequential number, and an acknowledged number must never be missing
//! later. It does not depend on litevisor: it runs under any supervisor, or without one.

mod check;
mod ledger;
mod options;
mod page;
mod run;

use options::{Mode, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("bank: {message}\n\n{}", options::USAGE);
            return ExitCode::from(64);
        }
    };
    let result = match options.mode {
        Mode::Run => run::run(&options),
        Mode::Check => check::check(&options),
        Mode::Seed => ledger::seed(&options.db).map(|()| 0).map_err(|error| error.to_string()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("bank: {message}");
            ExitCode::from(1)
        }
    }
}
