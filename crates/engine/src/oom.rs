//! Whether the kernel ran out of memory and killed a process for it: the counts that it keeps, before and after.
//!
//! A control group counts its own kills, the machine counts all. Neither says whom they hit: so a worker that was
//! killed while its group's count rose was *probably* killed for memory.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups and the machine's counts are found.
const GROUPS: &str = "/sys/fs/cgroup";
const MACHINE: &str = "/proc/vmstat";

/// The kills of a worker's surroundings, as they were when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kills {
    /// Its control group's count, where that is kept.
    group: Option<(PathBuf, u64)>,
    /// The machine's.
    machine: Option<u64>,
}

impl Kills {
    /// As they are now around the process `pid`.
    pub(crate) fn around(pid: i32) -> Kills {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let files = files(&groups, Path::new(GROUPS));
        let group = files.into_iter().find_map(|file| count(&file).map(|kills| (file, kills)));
        // The machine's count is dear to read.
        let machine = if group.is_some() { None } else { count(Path::new(MACHINE)) };
        Kills { group, machine }
    }

    /// Why a process may have been killed that started when the counts were these.
    pub(crate) fn suspicion(&self) -> Option<String> {
        let group = self.group.as_ref().and_then(|(file, before)| Some(count(file)?.saturating_sub(*before)));
        let machine = self.machine.and_then(|before| Some(count(Path::new(MACHINE))?.saturating_sub(before)));
        suspicion(group, machine)
    }

    /// A kill that another's death is explained by explains none of this one's.
    pub(crate) fn forget_one(&mut self) {
        for count in self.group.iter_mut().map(|(_, count)| count).chain(&mut self.machine) {
            *count += 1;
        }
    }
}

/// What kills in its group and on its machine mean for a process that was killed.
fn suspicion(group: Option<u64>, machine: Option<u64>) -> Option<String> {
    let kernel = |how: &str, whose: &str| {
        Some(format!(
            "{how} by the kernel, for want of memory: it has killed one of {whose} for that since this one started"
        ))
    };
    match (group, machine) {
        (Some(1..), _) => kernel("probably", "the processes of its control group"),
        // The group would have counted it.
        (Some(0), _) => None,
        (None, Some(1..)) => kernel("perhaps", "the processes of this machine"),
        (None, _) => None,
    }
}

/// The files that may have the count of a process with this `/proc/self/cgroup`, the best first.
fn files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        let (base, name) = if controllers.is_empty() {
            (root.to_owned(), "memory.events")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.oom_control")
        } else {
            continue;
        };
        files.push(base.join(path).join(name));
        // In a container the path may be the host's, and the mount its own group.
        files.push(base.join(name));
    }
    files
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_own_count_is_looked_for_first() {
        let root = Path::new("/r");
        let unified = files("0::/user/job\n", root);
        assert_eq!(unified[0], Path::new("/r/user/job/memory.events"));
        let old = files("4:memory:/job\n3:cpuset:/x\n0::/\n", root);
        assert_eq!(old[0], Path::new("/r/memory/job/memory.oom_control"));
        assert!(files("nonsense\n", root).is_empty());
    }

    #[test]
    fn a_kill_in_the_group_is_probably_meant_and_one_on_the_machine_perhaps() {
        assert!(suspicion(Some(1), Some(1)).is_some_and(|why| why.starts_with("probably")));
        assert!(suspicion(None, Some(2)).is_some_and(|why| why.starts_with("perhaps")));
        assert_eq!(suspicion(Some(0), Some(5)), None);
        assert_eq!(suspicion(None, None), None);
    }

    #[test]
    fn one_kill_explains_one_death() {
        let folder = std::env::temp_dir().join(format!("forkright-oom-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("memory.events");
        fs::write(&file, "low 0\noom 1\noom_kill 1\n").expect("a file");
        let mut kills = Kills { group: Some((file, 0)), machine: None };
        assert!(kills.suspicion().is_some());
        kills.forget_one();
        assert_eq!(kills.suspicion(), None);
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
