//! How often the kernel's OOM killer has killed a process of our cgroup: `memory.events` (cgroup v2) or
//! `memory.oom_control` (v1). In a container the app is in the same cgroup as litevisor.

use std::path::{Path, PathBuf};

/// None: the kernel does not say.
pub fn oom_kills() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&own).iter().find_map(|file| count(&std::fs::read_to_string(file).ok()?))
}

/// Where the counter may be, the nearest place first. In a container the cgroup's own directory is often
/// mounted as the root. Pure.
fn files(own_cgroups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own_cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            list if list.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => continue,
        };
        files.push(Path::new(root).join(path).join(name));
        files.push(Path::new(root).join(name));
    }
    files
}

/// Both files have a line `oom_kill N`. Pure.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_counter_is() {
        for (own, expected) in [
            ("0::/\n", vec!["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events"]),
            ("0::/a/b\n", vec!["/sys/fs/cgroup/a/b/memory.events", "/sys/fs/cgroup/memory.events"]),
            (
                "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
                vec![
                    "/sys/fs/cgroup/memory/docker/1/memory.oom_control",
                    "/sys/fs/cgroup/memory/memory.oom_control",
                ],
            ),
            ("nonsense\n\n1:x\n", vec![]),
        ] {
            let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
            assert_eq!(files(own), expected, "{own:?}");
        }
    }

    #[test]
    fn what_it_says() {
        for (text, expected) in [
            ("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 0\n", Some(3)),
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", Some(7)),
            ("oom_kill_disable 0\nunder_oom 0\n", None),
            ("oom_kill x\n", None),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }
}
