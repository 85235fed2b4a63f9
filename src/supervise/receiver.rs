//! Which of the app's processes get a signal: the main process alone, or its whole group. Pure.
//!
//! A server with child processes (gunicorn, celery, php-fpm, nginx, PostgreSQL) handles a signal for them,
//! and the children often die of it: celery's tasks and php-fpm's requests are lost if they get the SIGTERM,
//! too. A shell or npm in front of the app forwards nothing: there only a signal to the group reaches the
//! app.

use super::settings::SignalTo;

/// `command_line`: of the main process at this moment, NUL after each word; None if it cannot be read.
pub(super) fn sends_to_group(setting: SignalTo, command_line: Option<&[u8]>) -> bool {
    match setting {
        SignalTo::Group => true,
        SignalTo::Main => false,
        SignalTo::Auto => command_line.is_none_or(is_wrapper),
    }
}

const SHELLS: [&[u8]; 9] = [b"sh", b"ash", b"bash", b"dash", b"fish", b"ksh", b"mksh", b"rbash", b"zsh"];
/// Programs that start a script of package.json through a shell. Their name is `npm run start`, or a file
/// that node runs.
const RUNNERS: [&[u8]; 4] = [b"npm", b"npx", b"yarn", b"pnpm"];
const HOSTS: [&[u8]; 3] = [b"node", b"nodejs", b"bun"];

/// Whether the program starts other programs and forwards no signals.
fn is_wrapper(command_line: &[u8]) -> bool {
    let mut words = command_line.split(|&byte| byte == 0);
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    // A login shell's name begins with a dash. A program that renames itself puts everything into one word.
    let name = base(first.split(|&byte| byte == b' ').next().unwrap_or_default());
    let name = name.strip_prefix(b"-").unwrap_or(name);
    SHELLS.contains(&name)
        || RUNNERS.contains(&name)
        || (name == b"busybox" && SHELLS.contains(&second))
        || (HOSTS.contains(&name) && RUNNERS.contains(&script(second)))
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// `/usr/lib/node_modules/npm/bin/npm-cli.js`, `/usr/bin/yarn.js`, `/usr/bin/npm`.
fn script(path: &[u8]) -> &[u8] {
    let name = base(path).split(|&byte| byte == b'.').next().unwrap_or_default();
    name.strip_suffix(b"-cli").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers() {
        for (line, wrapper) in [
            ("sh\0-c\0app; true\0", true),
            ("/bin/sh\0./start.sh\0", true),
            ("/bin/bash\0/usr/local/bin/docker-entrypoint.sh\0app\0", true),
            ("-bash\0", true),
            ("busybox\0sh\0-c\0app\0", true),
            ("busybox\0httpd\0", false),
            ("npm start\0\0\0\0", true),
            ("npm run serve --port 80\0", true),
            ("node\0/usr/local/bin/npm\0start\0", true),
            ("/usr/bin/node\0/usr/lib/node_modules/npm/bin/npm-cli.js\0start\0", true),
            ("node\0/usr/bin/yarn.js\0start\0", true),
            ("node\0server.js\0", false),
            ("nginx: master process nginx -g daemon off;\0", false),
            ("php-fpm: master process (/etc/php-fpm.conf)\0", false),
            ("/usr/bin/python3\0/usr/bin/celery\0-A\0tasks\0worker\0", false),
            ("gunicorn: master [app:app]\0", false),
            ("/usr/bin/python3\0-m\0shell\0", false),
            ("/usr/sbin/sshd\0", false),
            ("\0", false),
        ] {
            assert_eq!(is_wrapper(line.as_bytes()), wrapper, "{line:?}");
        }
    }

    #[test]
    fn what_is_set_counts() {
        for (setting, line, group) in [
            (SignalTo::Group, Some("app"), true),
            (SignalTo::Main, Some("sh"), false),
            (SignalTo::Main, None, false),
            (SignalTo::Auto, Some("app"), false),
            (SignalTo::Auto, Some("sh"), true),
            (SignalTo::Auto, None, true),
        ] {
            assert_eq!(sends_to_group(setting, line.map(str::as_bytes)), group, "{setting:?} {line:?}");
        }
    }
}
