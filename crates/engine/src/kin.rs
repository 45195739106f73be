//! Kills a process together with all that it started, whatever sessions or groups these moved to.
//!
//! A process that is stopped forks no more. So the worker is stopped first, then its children, then theirs, until
//! there is no new one; only then are all killed. Whose parent has died is a child of the worker, if that adopts
//! orphans (`PR_SET_CHILD_SUBREAPER`). Each is signalled by a pidfd, so that a number that is used again hits nobody.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A stop signal takes effect within this time, or is not waited for: then a fork may be missed.
const STOPS: Duration = Duration::from_millis(20);
/// Generations that are looked through.
const GENERATIONS: usize = 64;

/// Kills the process behind `pidfd`, whose number is `pid`, and its descendants.
pub(crate) fn kill(pidfd: impl AsFd, pid: i32) {
    if pidfd_send_signal(&pidfd, Signal::STOP).is_err() {
        // It is gone, and whatever it left belongs to somebody else now.
        return;
    }
    await_stop(pid);
    let mut held: Vec<(i32, OwnedFd)> = Vec::new();
    for _ in 0..GENERATIONS {
        let known: Vec<i32> = held.iter().map(|(pid, _)| *pid).chain([pid]).collect();
        let children =
            known.iter().flat_map(|parent| children(*parent).into_iter().map(|pid| (*parent, pid)));
        let new: Vec<_> = children.filter(|(_, pid)| !known.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for (parent, child) in new {
            let Some(fd) = hold(child, parent) else { continue };
            // One that may not be signalled is somebody else's by now.
            if pidfd_send_signal(&fd, Signal::STOP).is_ok() {
                await_stop(child);
            }
            held.push((child, fd));
        }
    }
    for (_, fd) in held {
        let _ = pidfd_send_signal(&fd, Signal::KILL);
    }
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
}

/// A handle to the child, if the number still means it.
fn hold(child: i32, parent: i32) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(child)?, PidfdFlags::empty()).ok()?;
    // The number could have been used again before it was opened, but hardly for a child of the same parent.
    (stat(child)?.1 == parent).then_some(fd)
}

fn await_stop(pid: i32) {
    let end = Instant::now() + STOPS;
    while stat(pid).is_some_and(|(state, _)| !matches!(state, 'T' | 't' | 'Z' | 'X')) && Instant::now() < end
    {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The state and the parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, parentheses included.
    let mut words = text.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn children(pid: i32) -> Vec<i32> {
    listed(pid).unwrap_or_else(|| {
        // A kernel without the list: everybody is asked for their parent.
        numbers("/proc")
            .into_iter()
            .filter(|other| stat(*other).is_some_and(|(_, parent)| parent == pid))
            .collect()
    })
}

/// The children of each of its threads. `None`: this kernel does not list them.
fn listed(pid: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for thread in numbers(&format!("/proc/{pid}/task")) {
        match fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")) {
            Ok(text) => {
                children.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()))
            }
            // A thread that ended meanwhile is no reason for doubt.
            Err(_) if stat(pid).is_some() && thread == pid => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

fn numbers(folder: &str) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
