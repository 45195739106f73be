//! How many cores this process may use: what its affinity allows and what its cgroups grant. Read when a
//! `machine` is described; without it a container with half a core would start 64 processes.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// The count, and what went into it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// Workers that can compute at once: the quota counts as the next whole number, at least 1.
    pub usable: u32,
    /// Cores the scheduler may put this process on.
    pub affinity: u32,
    /// Cores the machine has switched on.
    pub online: u32,
    /// Cores' worth of time the tightest cgroup grants; none when there is no limit.
    pub quota: Option<f64>,
    /// What makes `usable` smaller than `online`.
    pub limited_by: Limit,
}

/// What keeps a process from using every core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Every core is usable.
    Nothing,
    /// The affinity mask (`taskset`, cpusets).
    Affinity,
    /// A CPU quota of a cgroup (containers).
    Cgroup,
    /// It is a worker process, and others have their part.
    Worker,
}

impl Cores {
    /// Puts the three counts together.
    pub fn new(affinity: u32, online: u32, quota: Option<f64>) -> Self {
        let affinity = affinity.max(1);
        let granted = quota.map_or(affinity, |quota| (quota.ceil() as u32).max(1));
        let limited_by = match () {
            () if granted < affinity => Limit::Cgroup,
            () if affinity < online => Limit::Affinity,
            () => Limit::Nothing,
        };
        Self { usable: granted.min(affinity), affinity, online: online.max(affinity), quota, limited_by }
    }

    /// Cores' worth of time per second; unlike `usable` it keeps the fraction.
    pub fn budget(&self) -> f64 {
        let most = if self.limited_by == Limit::Worker { self.usable } else { self.affinity };
        self.quota.map_or(f64::INFINITY, |quota| quota.max(0.01)).min(f64::from(most))
    }

    /// As it is for a process that may take only so many of them.
    fn shared(self, share: u32) -> Self {
        if share < self.usable {
            return Self { usable: share.max(1), limited_by: Limit::Worker, ..self };
        }
        self
    }
}

/// What a worker process may take of the cores, for what it starts in turn; 0 stands for all.
static SHARE: AtomicU32 = AtomicU32::new(0);

/// Has this process, a worker, count no more cores than this. False: it did not count more before.
pub fn set_share(share: u32) -> bool {
    SHARE.swap(share, Relaxed) != share
}

/// What files say is believed for so long: reading them takes longer than many a map.
const BELIEVED: Duration = Duration::from_secs(1);

/// What files said last.
static TOLD: Mutex<Option<Told>> = Mutex::new(None);

#[derive(Clone, Copy)]
struct Told {
    at: Instant,
    online: Option<u32>,
    quota: Option<f64>,
}

/// Counts them now; what only files tell may be a second old.
pub fn usable() -> Cores {
    let affinity = rustix::thread::sched_getaffinity(None::<Pid>).map(|set| set.count()).ok();
    // Masks of more than 1024 cores don't fit that call; the standard library grows its buffer.
    let affinity =
        affinity.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32));
    let told = told();
    let cores = Cores::new(affinity, told.online.unwrap_or(affinity), told.quota);
    match SHARE.load(Relaxed) {
        0 => cores,
        share => cores.shared(share),
    }
}

/// Whether more threads are ready to run than there are cores, on the whole machine; the one that asks counts.
pub fn are_taken() -> bool {
    let ready = fs::read_to_string("/proc/loadavg").ok().and_then(|text| parse_ready(&text));
    ready.zip(told().online).is_some_and(|(ready, online)| ready > online)
}

fn told() -> Told {
    let mut last = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(told) = *last
        && told.at.elapsed() < BELIEVED
    {
        return told;
    }
    let text = |path: &Path| fs::read_to_string(path).ok();
    let online = text(Path::new("/sys/devices/system/cpu/online")).and_then(|list| parse_list(&list));
    let quota = match (text(Path::new("/proc/self/cgroup")), text(Path::new("/proc/self/mountinfo"))) {
        (Some(groups), Some(mounts)) => quota(&groups, &mounts, text),
        _ => None,
    };
    *last.insert(Told { at: Instant::now(), online, quota })
}

/// The tightest CPU quota, in cores, from a process's cgroups up to their mount points.
///
/// `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`, `read` reads a file.
pub fn quota(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(parse_mount).collect();
    let mut tightest: Option<f64> = None;
    for (version, group) in groups.lines().filter_map(parse_group) {
        for mount in mounts.iter().filter(|mount| mount.version == version) {
            for folder in mount.folder_of(&group).ancestors().take_while(|at| at.starts_with(&mount.point)) {
                let found = match version {
                    Version::Two => read(&folder.join("cpu.max")).and_then(|text| parse_max(&text)),
                    Version::One => read(&folder.join("cpu.cfs_quota_us"))
                        .zip(read(&folder.join("cpu.cfs_period_us")))
                        .and_then(|(quota, period)| {
                            parse_max(&format!("{} {}", quota.trim(), period.trim()))
                        }),
                };
                tightest = tightest.into_iter().chain(found).reduce(f64::min);
            }
        }
    }
    tightest
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a cgroup hierarchy with CPU quotas is mounted.
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// The folder of a cgroup. One outside the mounted part (a container that sees its parent's names)
    /// is represented by the mount point, which is the nearest ancestor that can be seen.
    fn folder_of(&self, group: &Path) -> PathBuf {
        match group.strip_prefix(&self.root) {
            Ok(inside) if inside.components().all(|part| matches!(part, Component::Normal(_))) => {
                self.point.join(inside)
            }
            _ => self.point.clone(),
        }
    }
}

/// One line of `/proc/self/cgroup`: `0::/path` or `4:cpu,cpuacct:/path`.
fn parse_group(line: &str) -> Option<(Version, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    match (id, controllers) {
        ("0", "") => Some((Version::Two, path.into())),
        _ if controllers.split(',').any(|name| name == "cpu") => Some((Version::One, path.into())),
        _ => None,
    }
}

/// One line of `/proc/self/mountinfo`, if it mounts CPU cgroups.
fn parse_mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (unescape(place.next()?), unescape(place.next()?));
    let mut kind = kind.split(' ');
    let (name, options) = (kind.next()?, kind.nth(1).unwrap_or(""));
    let version = match name {
        "cgroup2" => Version::Two,
        "cgroup" if options.split(',').any(|option| option == "cpu") => Version::One,
        _ => return None,
    };
    Some(Mount { version, root: root.into(), point: point.into() })
}

/// Mount tables write blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                plain.push(byte);
                rest = &tail[3..];
            }
            _ => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// `150000 100000` is 1.5 cores; `max 100000` and `-1 100000` are no limit.
fn parse_max(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok());
    let (quota, period) = (numbers.next()??, numbers.next()??);
    (quota > 0.0 && period > 0.0 && quota.is_finite() && period.is_finite()).then(|| quota / period)
}

/// The threads that are ready to run, of "0.20 0.18 0.12 3/180 11206".
fn parse_ready(text: &str) -> Option<u32> {
    text.split_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// `0-3,8` names five cores.
fn parse_list(text: &str) -> Option<u32> {
    text.trim().split(',').try_fold(0, |sum: u32, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct";

    fn of(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<f64> {
        quota(groups, mounts, |path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_tightest_of_nested_limits_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        assert_eq!(of("0::/a/b\n", V2, &files), Some(1.5));
    }

    #[test]
    fn no_limit_is_told_from_a_limit() {
        assert_eq!(of("0::/\n", V2, &[("/sys/fs/cgroup/cpu.max", "max 100000\n")]), None);
        assert_eq!(of("0::/\n", V2, &[]), None);
        assert_eq!(of("", "", &[]), None);
    }

    #[test]
    fn the_first_version_of_cgroups_is_read_too() {
        let at = "/sys/fs/cgroup/cpu,cpuacct/x/";
        let (quota, period) = (format!("{at}cpu.cfs_quota_us"), format!("{at}cpu.cfs_period_us"));
        let files = [(quota.as_str(), "50000\n"), (period.as_str(), "100000\n")];
        assert_eq!(of("4:cpu,cpuacct:/x\n2:memory:/y\n", V1, &files), Some(0.5));
        let files = [(quota.as_str(), "-1\n"), (period.as_str(), "100000\n")];
        assert_eq!(of("4:cpu,cpuacct:/x\n", V1, &files), None);
    }

    #[test]
    fn a_machine_with_both_versions_obeys_both() {
        let files = [
            ("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "300000"),
            ("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000"),
            ("/sys/fs/cgroup/unified/x/cpu.max", "200000 100000"),
        ];
        let unified = "31 32 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(of("4:cpu,cpuacct:/x\n0::/x\n", &format!("{V1}\n{unified}\n"), &files), Some(2.0));
    }

    #[test]
    fn a_container_that_sees_its_hosts_names_reads_its_own_mount() {
        let mount = r"30 23 0:26 /docker/abc /sys/fs/cgroup\040x rw - cgroup2 cgroup2 rw";
        let files =
            [("/sys/fs/cgroup x/cpu.max", "100000 100000"), ("/sys/fs/cgroup x/in/cpu.max", "50000 100000")];
        assert_eq!(of("0::/docker/abc/in", mount, &files), Some(0.5));
        assert_eq!(of("0::/elsewhere", mount, &files), Some(1.0));
        assert_eq!(of("0::/docker/abc/../../etc", mount, &files), Some(1.0));
    }

    #[test]
    fn a_quota_counts_as_the_next_whole_core_and_at_least_one() {
        assert_eq!(Cores::new(8, 8, Some(1.5)).usable, 2);
        assert_eq!(Cores::new(8, 8, Some(0.1)).usable, 1);
        assert_eq!(Cores::new(8, 8, Some(1.5)).limited_by, Limit::Cgroup);
        assert_eq!(Cores::new(2, 8, Some(16.0)).limited_by, Limit::Affinity);
        assert_eq!(Cores::new(2, 8, None).usable, 2);
        assert_eq!(Cores::new(8, 8, Some(7.5)).limited_by, Limit::Nothing);
        assert!(Cores::new(8, 8, Some(1.5)).budget() < 1.6);
    }

    #[test]
    fn this_machine_has_a_core() {
        let cores = usable();
        assert!(cores.usable >= 1 && cores.usable <= cores.affinity && cores.affinity <= cores.online);
    }

    #[test]
    fn threads_that_are_ready_are_told_from_all() {
        assert_eq!(parse_ready("0.20 0.18 0.12 3/180 11206\n"), Some(3));
        assert_eq!(["", "0.20 0.18 0.12", "1 2 3 4 5", "1 2 3 x/4"].map(parse_ready), [None; 4]);
    }

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(parse_list("0-3,8\n"), Some(5));
        assert_eq!(parse_list("0"), Some(1));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("0-4294967295"), None);
        assert_eq!(parse_list(""), None);
    }

    proptest! {
        #[test]
        fn malformed_text_is_no_limit_and_no_panic(groups in ".{0,80}", mounts in ".{0,80}", file in ".{0,20}") {
            let found = quota(&groups, &format!("{V2}\n{mounts}"), |_| Some(file.clone()));
            prop_assert!(found.is_none_or(|quota| quota > 0.0));
            let _ = (parse_list(&groups), unescape(&mounts), parse_mount(&mounts));
        }
    }
}
