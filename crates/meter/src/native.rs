//! Threads that Python did not start: those of BLAS, OpenMP, Arrow and the like.
//!
//! Their work is nobody's task, and yet it takes the cores that tasks are given. The binding takes a [`Snapshot`]
//! when it begins to measure and another at the end; what grew in threads that aren't Python's is [`Hidden`]. Named are
//! they by the libraries that are mapped, as most give their threads no name.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::clock;

/// Parts of file names, and the library that is known by them. The first that fits names a file.
const LIBRARIES: [(&str, &str); 12] = [
    ("openblas", "OpenBLAS"),
    ("libmkl_", "Intel MKL"),
    ("libblis", "BLIS"),
    ("libgomp", "OpenMP (libgomp)"),
    ("libiomp5", "OpenMP (libiomp5)"),
    ("libomp", "OpenMP (libomp)"),
    ("libarrow", "Apache Arrow"),
    ("libtbb", "Intel TBB"),
    ("polars", "Polars"),
    ("libtorch_cpu", "PyTorch"),
    ("librayon", "Rayon"),
    ("libdispatch", "libdispatch"),
];

/// What each thread of this process had used of the CPU at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(Vec<(i32, Duration)>);

/// CPU time that went to threads which Python did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// All of it.
    pub cpu: Duration,
    /// The threads, with the part of each.
    pub threads: Vec<Thread>,
    /// The libraries that are mapped and may have started them.
    pub libraries: Vec<&'static str>,
}

/// A thread that Python did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The kernel's id.
    pub tid: i32,
    /// Its name, if it was given one of its own.
    pub name: Option<String>,
    /// What it used of the CPU.
    pub cpu: Duration,
}

impl Snapshot {
    /// Of all threads as they are now; of none where `/proc` can't be read.
    pub fn take() -> Snapshot {
        let tids = tids();
        Snapshot(tids.into_iter().filter_map(|tid| Some((tid, clock::thread_cpu_of(tid)?))).collect())
    }

    /// What the threads have used since `before`. One that ended meanwhile is not here any more.
    pub fn since(&self, before: &Snapshot) -> Snapshot {
        let earlier = |tid: i32| before.0.iter().find(|(other, _)| *other == tid).map(|(_, cpu)| *cpu);
        let grown = |&(tid, cpu): &(i32, Duration)| {
            // A thread whose number was another's before has used less than that one had.
            let used = earlier(tid).and_then(|before| cpu.checked_sub(before)).unwrap_or(cpu);
            (!used.is_zero()).then_some((tid, used))
        };
        Snapshot(self.0.iter().filter_map(grown).collect())
    }

    /// What went to threads other than `known` and this crate's own.
    pub fn of_others(&self, known: &[i32]) -> Duration {
        let is_ours = |tid: i32| name_of(tid).is_some_and(|name| name.starts_with("forkright-"));
        let others = self.0.iter().filter(|(tid, _)| !known.contains(tid) && !is_ours(*tid));
        others.map(|(_, cpu)| *cpu).sum()
    }

    /// The part of it that went to threads other than `known` and this crate's own; `None` if it is less than
    /// `least`. Names are looked up only then.
    pub fn hidden(&self, known: &[i32], least: Duration) -> Option<Hidden> {
        let others: Vec<_> = self.0.iter().filter(|(tid, _)| !known.contains(tid)).collect();
        if others.iter().map(|(_, cpu)| *cpu).sum::<Duration>() < least {
            return None;
        }
        let process = name_of(std::process::id() as i32);
        let threads: Vec<Thread> = others
            .into_iter()
            .map(|(tid, cpu)| Thread { tid: *tid, name: name_of(*tid), cpu: *cpu })
            .filter(|thread| !thread.name.as_deref().is_some_and(|name| name.starts_with("forkright-")))
            .map(|thread| Thread {
                name: thread.name.filter(|name| Some(name) != process.as_ref()),
                ..thread
            })
            .collect();
        let cpu = threads.iter().map(|thread| thread.cpu).sum();
        (cpu >= least).then(|| Hidden { cpu, threads, libraries: mapped() })
    }
}

/// The ids of this process's threads.
pub fn tids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The name the kernel knows a thread of this process by: that of the process, unless it was given another.
pub fn name_of(tid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// The known libraries that this process has mapped.
pub fn mapped() -> Vec<&'static str> {
    fs::read("/proc/self/maps").map(|maps| libraries(&String::from_utf8_lossy(&maps))).unwrap_or_default()
}

/// The known libraries in the text of a `/proc/…/maps`, in the order of their names.
pub fn libraries(maps: &str) -> Vec<&'static str> {
    // The path is the sixth column, and may have blanks.
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let files: BTreeSet<&str> = paths.filter_map(|path| path.rsplit('/').next()).collect();
    let known = |file: &&str| {
        let is_library = file.contains(".so");
        LIBRARIES.iter().find(|(part, _)| is_library && file.contains(part)).map(|(_, name)| *name)
    };
    files.iter().filter_map(known).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAPS: &str = "\
55d0-55d1 r-xp 00000000 08:01 12                         /usr/bin/python3.11
7f00-7f01 r-xp 00000000 08:01 13    /a place/numpy.libs/libscipy_openblas64_-56d6093b.so
7f01-7f02 r--p 00000000 08:01 13    /a place/numpy.libs/libscipy_openblas64_-56d6093b.so
7f02-7f03 r-xp 00000000 08:01 14    /usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0
7f03-7f04 r-xp 00000000 08:01 15    /v/polars/polars.abi3.so
7f04-7f05 r--p 00000000 08:01 16    /home/me/openblas/notes.txt
7f05-7f06 rw-p 00000000 00:00 0                          [heap]
7ffc-7ffd rw-p 00000000 00:00 0
";

    #[test]
    fn libraries_are_known_by_the_names_of_their_files() {
        assert_eq!(libraries(MAPS), ["OpenBLAS", "OpenMP (libgomp)", "Polars"]);
        assert_eq!(libraries(""), Vec::<&str>::new());
        let intel = "7f00-7f01 r-xp 0 08:01 1 /o/libmkl_core.so.2\n7f01-7f02 r-xp 0 08:01 2 /o/libiomp5.so";
        assert_eq!(libraries(intel), ["Intel MKL", "OpenMP (libiomp5)"]);
    }

    #[test]
    fn threads_that_compute_are_seen_and_named_but_for_known_ones() {
        let before = Snapshot::take();
        let (tell, told) = std::sync::mpsc::channel();
        let (let_go, may_go) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("blas-worker".into()).spawn(move || {
            let start = clock::thread_cpu();
            while clock::thread_cpu() < start + Duration::from_millis(20) {}
            tell.send(clock::current_tid()).expect("the test listens");
            let _ = may_go.recv();
        });
        let tid = told.recv().expect("the thread tells");
        let grown = Snapshot::take().since(&before);
        let hidden = grown.hidden(&[], Duration::from_millis(10)).expect("20 ms were used");
        let seen = hidden.threads.iter().find(|thread| thread.tid == tid).expect("it is one of them");
        assert_eq!(seen.name.as_deref(), Some("blas-worker"));
        assert!(seen.cpu >= Duration::from_millis(20) && hidden.cpu >= seen.cpu);
        assert!(grown.of_others(&[]) >= Duration::from_millis(20));
        assert!(grown.of_others(&[tid]) + seen.cpu <= grown.of_others(&[]));
        let all: Vec<i32> = grown.0.iter().map(|(tid, _)| *tid).collect();
        assert_eq!(grown.hidden(&all, Duration::from_millis(1)), None, "all are known");
        assert_eq!(grown.hidden(&[], Duration::from_secs(3600)), None, "that is not much");
        drop(let_go);
        thread.expect("a thread").join().expect("no panic");
    }

    #[test]
    fn a_thread_that_got_anothers_number_is_not_credited_with_its_past() {
        let at = |tid, ms| (tid, Duration::from_millis(ms));
        let before = Snapshot(vec![at(1, 100), at(2, 50)]);
        let after = Snapshot(vec![at(1, 100), at(2, 20), at(3, 7)]);
        assert_eq!(after.since(&before), Snapshot(vec![at(2, 20), at(3, 7)]));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(maps in ".{0,200}") {
            libraries(&maps);
        }
    }
}
