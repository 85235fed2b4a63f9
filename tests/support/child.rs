//! A test in a process of its own, with an environment of its own.

use std::process::Command;

/// Runs the ignored test `child` of `module` (`module_path!()`) with these variables alone; what it prints
/// after `RESULT `.
pub fn run_child(module: &str, own: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    let (_, module) = module.split_once("::").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::child"), "--ignored", "--nocapture"])
        .env_clear()
        .envs(own.iter().chain(env).copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    result.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}
