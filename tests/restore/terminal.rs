//! How far a restore is, for whoever sits before it: one line that is redrawn in place, meets no log line,
//! and is gone at the end. In a log it is a line now and then, and nothing of a terminal.

use crate::disk::large_replica;
use crate::support::gate::Mood;
use std::process::{Command, Output};

/// Runs its arguments on a terminal of their own; everything that came there goes to stdout.
const DRIVER: &str = "
import os, pty, subprocess, sys
master, slave = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
os.close(slave)
while True:
    try: came = os.read(master, 65536)
    except OSError: break
    if not came: break
    sys.stdout.buffer.write(came)
sys.exit(process.wait())
";

/// What stands on the screen after `bytes`: as much of a terminal as we use.
fn screen(bytes: &str) -> Vec<String> {
    let (mut rows, mut column) = (vec![Vec::new()], 0);
    let mut left = bytes;
    while let Some(first) = left.chars().next() {
        let row: &mut Vec<char> = rows.last_mut().unwrap();
        if let Some(rest) = left.strip_prefix("\x1b[K") {
            row.truncate(column);
            left = rest;
            continue;
        }
        if let Some(rest) = left.strip_prefix("\x1b[?7l").or(left.strip_prefix("\x1b[?7h")) {
            left = rest;
            continue;
        }
        match first {
            '\r' => column = 0,
            '\n' => rows.push(Vec::new()),
            shown => {
                row.resize(row.len().max(column + 1), ' ');
                row[column] = shown;
                column += 1;
            }
        }
        left = &left[first.len_utf8()..];
    }
    rows.into_iter().map(|row| row.into_iter().collect()).filter(|row: &String| !row.is_empty()).collect()
}

fn on_a_terminal(command: &Command) -> (Output, String) {
    let mut driver = Command::new("python3");
    driver.args(["-S", "-c", DRIVER]).arg(command.get_program()).args(command.get_args());
    for name in ["K_SERVICE", "CLOUD_RUN_JOB", "GOOGLE_CLOUD_PROJECT"] {
        driver.env_remove(name);
    }
    let output = driver.output().unwrap();
    let bytes = String::from_utf8(output.stdout.clone()).unwrap();
    (output, bytes)
}

#[test]
fn a_line_in_place_on_a_terminal_and_lines_in_a_log() {
    let (site, gate) = large_replica("terminal", 8);
    gate.set(Mood::Dripping(128 << 10));
    let litevisor = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_litevisor"));
        command.args(words).arg("--config").arg(site.config());
        command
    };
    let mut run = litevisor(&["run"]);
    run.args(["--", "sh", "-c", "echo the app is here"]);
    for (mut command, last) in [(litevisor(&["restore"]), "restored "), (run, "the app is here")] {
        site.wipe();
        let (output, bytes) = on_a_terminal(&command);
        assert!(output.status.success(), "{bytes}");
        let drawn: Vec<&str> = bytes.split("\r\x1b[K\x1b[?7l").skip(1).collect();
        assert!(drawn.len() >= 3, "{bytes:?}");
        let told = |part: &str| drawn.iter().any(|line| line.contains(part));
        assert!(told("of 8.") && told(" MiB/s, ") && told(" s left"), "{drawn:#?}");
        let screen = screen(&bytes);
        assert!(!screen.iter().any(|row| row.contains("MiB/s")), "{screen:#?}");
        assert!(screen.iter().any(|row| row.contains(last)), "{screen:#?}");
        // Log lines are whole, each in a row of its own.
        let ours = screen.iter().filter(|row| *row != "the app is here");
        assert!(ours.clone().count() >= 2, "{screen:#?}");
        for row in ours {
            assert!(row.starts_with("20") && row.contains("Z "), "{screen:#?}");
        }

        // The same without a terminal.
        site.wipe();
        let output = command.output().unwrap();
        assert!(output.status.success());
        assert!(!output.stderr.contains(&b'\r') && !output.stderr.contains(&0x1b), "{output:?}");
    }
}
