//! `name`, `uid` or `uid:gid` → the ids to run as. Reads /etc/passwd and /etc/group itself: the C library's
//! lookup loads modules of the image, which does not work in a static binary, and a scratch image has none.
//! The rules are pure; `lookup` reads two files.

use std::fmt;

/// The user that the app runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// None for a uid without an entry.
    pub name: Option<String>,
    pub home: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserError {
    user: String,
    reason: &'static str,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user `{}`: {}", self.user, self.reason)
    }
}

impl std::error::Error for UserError {}

/// A missing file counts as empty: numbers need neither.
pub fn lookup(user: &str) -> Result<Identity, UserError> {
    let read = |path| std::fs::read(path).unwrap_or_default();
    resolve(
        user,
        &String::from_utf8_lossy(&read("/etc/passwd")),
        &String::from_utf8_lossy(&read("/etc/group")),
    )
}

/// The groups of `initgroups` for a user alone; exactly the given group when one is named.
fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let fail = |reason| UserError { user: user.to_string(), reason };
    let (who, which) = match user.split_once(':') {
        Some((who, which)) => (who, Some(which)),
        None => (user, None),
    };
    let entry = find_user(who, passwd);
    let uid = match &entry {
        Some(entry) => entry.uid,
        None => id(who).ok_or_else(|| fail("not in /etc/passwd"))?,
    };
    let (gid, groups) = match (which, &entry) {
        (Some(which), _) => {
            let gid = find_group(which, group).ok_or_else(|| fail("its group is not in /etc/group"))?;
            (gid, vec![gid])
        }
        (None, Some(entry)) => (entry.gid, groups_of(entry, group)),
        (None, None) => return Err(fail("not in /etc/passwd; write uid:gid")),
    };
    let (name, home) = entry.map(|entry| (entry.name.to_string(), entry.home.to_string())).unzip();
    Ok(Identity { uid, gid, groups, name, home })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A name wins over a number, as in chown: a user may be called 1000.
fn find_user<'a>(who: &str, passwd: &'a str) -> Option<Entry<'a>> {
    let entries = || passwd.lines().filter_map(user_line);
    entries().find(|entry| entry.name == who).or_else(|| {
        let uid = id(who)?;
        entries().find(|entry| entry.uid == uid)
    })
}

/// `name:password:uid:gid:comment:home:shell`
fn user_line(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields.nth(1)?;
    Some(Entry { name, uid, gid, home })
}

fn find_group(which: &str, group: &str) -> Option<u32> {
    group
        .lines()
        .filter_map(group_line)
        .find(|(name, ..)| *name == which)
        .map(|(_, gid, _)| gid)
        .or_else(|| id(which))
}

fn groups_of(entry: &Entry<'_>, group: &str) -> Vec<u32> {
    let member = |members: &str| members.split(',').any(|member| member.trim() == entry.name);
    let others =
        group.lines().filter_map(group_line).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
    let mut groups = vec![entry.gid];
    groups.extend(others);
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// `name:password:gid:member,member`
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// Digits only. The kernel takes the highest number as "do not change", so no user has it.
fn id(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = if plain { digits.parse().ok() } else { None };
    number.filter(|&id| id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x\n\
        grafana:x:472:0:,,,:/usr/share/grafana:/bin/ash\n1000:x:77:88::/odd:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root,grafana\ntty:x:5:someone\nmedia:x:44: grafana ,x\nempty:x:9\n";

    #[test]
    fn table() {
        let ok = |uid, gid, groups: &[u32], name: Option<&str>, home: Option<&str>| {
            let (name, home) = (name.map(String::from), home.map(String::from));
            Ok(Identity { uid, gid, groups: groups.to_vec(), name, home })
        };
        let grafana = ok(472, 0, &[0, 10, 44], Some("grafana"), Some("/usr/share/grafana"));
        let cases = [
            ("grafana", grafana.clone()),
            ("472", grafana),
            ("grafana:tty", ok(472, 5, &[5], Some("grafana"), Some("/usr/share/grafana"))),
            ("472:44", ok(472, 44, &[44], Some("grafana"), Some("/usr/share/grafana"))),
            ("5000:6000", ok(5000, 6000, &[6000], None, None)),
            ("1000", ok(77, 88, &[88], Some("1000"), Some("/odd"))),
            ("root", ok(0, 0, &[0, 10], Some("root"), Some("/root"))),
        ];
        for (user, expected) in cases {
            assert_eq!(resolve(user, PASSWD, GROUP), expected, "{user}");
        }
    }

    #[test]
    fn refused() {
        let too_big = u32::MAX.to_string();
        for user in
            ["nobody", "", "5000", ":", "-1", "+5:5", &too_big, "grafana:nogroup", "grafana:", "broken", "5:"]
        {
            assert!(resolve(user, PASSWD, GROUP).is_err(), "{user}");
        }
        assert!(resolve("1:1", "", "").is_ok(), "numbers need no files");
    }
}
