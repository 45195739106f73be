//! A parent and a worker process over one memfd: this test binary, started again as the worker.
#![cfg(all(not(loom), not(miri)))]
#![allow(clippy::unwrap_used, reason = "to fail is to panic here")]

mod common;

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use common::{body_of, watched};
use forkright_shm::{
    Access, Arena, Bell, Block, Consumer, Head, Memory, Producer, PushError, Region, Revocation, Standing,
    ring,
};

const CAPACITY: usize = 4096;
const TASKS: usize = 2 * Bell::BYTES;
const OUTCOMES: usize = TASKS + ring::bytes_for(CAPACITY);
const LEN: usize = OUTCOMES + ring::bytes_for(CAPACITY);
const ROLE: &str = "FORKRIGHT_SHM_ROLE";
const FILES: &str = "FORKRIGHT_SHM_FILES";
/// A bound for each sleep, as every waiter must have one; no test waits for it to pass.
const NAP: Option<Duration> = Some(Duration::from_secs(5));

const WORK: u32 = 1;
const STOP: u32 = 2;

/// One side of the memory between two processes.
struct End {
    outgoing: Producer,
    incoming: Consumer,
    /// Struck by this side.
    theirs: Bell,
    /// Struck by the other side.
    ours: Bell,
}

impl End {
    fn parent(memory: &Memory) -> Self {
        let region = region(memory);
        ring::initialise(&region, TASKS, CAPACITY);
        ring::initialise(&region, OUTCOMES, CAPACITY);
        Self::open(&region, TASKS, OUTCOMES, 0, Bell::BYTES)
    }

    fn worker(memory: &Memory) -> Self {
        Self::open(&region(memory), OUTCOMES, TASKS, Bell::BYTES, 0)
    }

    fn open(region: &Region, outgoing: usize, incoming: usize, theirs: usize, ours: usize) -> Self {
        Self {
            outgoing: Producer::open(region, outgoing, CAPACITY).unwrap(),
            incoming: Consumer::open(region, incoming, CAPACITY).unwrap(),
            theirs: Bell::open(region, theirs),
            ours: Bell::open(region, ours),
        }
    }

    fn send(&mut self, head: Head, body: &[u8]) {
        loop {
            match self.outgoing.push(head, &[body]) {
                Ok(_) => return self.theirs.strike(),
                Err(PushError::Full) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn receive(&mut self, body: &mut Vec<u8>) -> Head {
        loop {
            if let Some(head) = self.incoming.pop(body).unwrap() {
                return head;
            }
            let listener = self.ours.listen();
            if self.incoming.is_empty() {
                let _ = listener.wait(NAP);
            }
        }
    }
}

fn region(memory: &Memory) -> Region {
    Region::mapped(memory.map(0, LEN as u64, Access::Shared).unwrap())
}

fn start_worker(role: &str, files: &[&Memory]) -> Child {
    // The descriptors are closed on exec: the worker opens them through its parent instead.
    let files: Vec<String> = files
        .iter()
        .map(|memory| format!("/proc/{}/fd/{}", process::id(), memory.fd().as_raw_fd()))
        .collect();
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--nocapture"])
        .env(ROLE, role)
        .env(FILES, files.join(":"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The worker's main; as a test of its own it has nothing to do.
#[test]
fn worker_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let memories: Vec<Memory> = env::var(FILES)
        .unwrap()
        .split(':')
        .map(|path| OwnedFd::from(OpenOptions::new().read(true).write(true).open(path).unwrap()))
        .map(|fd| Memory::from_fd(fd).unwrap())
        .collect();
    match role.as_str() {
        "echo" => echo(&memories[0]),
        "map" => map(&memories[0], &memories[1]),
        "hang" => hang(&memories[0]),
        other => panic!("no such role: {other}"),
    }
}

fn echo(memory: &Memory) {
    let mut end = End::worker(memory);
    let mut body = Vec::new();
    loop {
        let head = end.receive(&mut body);
        end.send(head, &body);
        if head.kind == STOP {
            return;
        }
    }
}

/// Answers each block with the sum of its bytes, and scribbles over its private copy of it.
fn map(memory: &Memory, payloads: &Memory) {
    let mut end = End::worker(memory);
    let mut body = Vec::new();
    loop {
        let head = end.receive(&mut body);
        if head.kind == STOP {
            return;
        }
        let block = Block::from_bytes(body[..].try_into().unwrap());
        assert!(block.check(payloads.len().unwrap()));
        let mapping = payloads.map(block.offset, block.len, Access::Private).unwrap();
        // SAFETY: `mapping` is this long, and the parent writes to no block that it has not taken back.
        let bytes = unsafe { std::slice::from_raw_parts_mut(mapping.as_ptr(), mapping.len()) };
        let sum = bytes.iter().map(|&byte| u64::from(byte)).sum();
        bytes.fill(0xff);
        end.send(Head { extra: sum, ..head }, &[]);
    }
}

/// Takes two tasks, answers one of them, and never does anything again.
fn hang(memory: &Memory) {
    let mut end = End::worker(memory);
    let mut body = Vec::new();
    let first = end.receive(&mut body);
    let _second = end.receive(&mut Vec::new());
    end.send(first, &body);
    loop {
        thread::park();
    }
}

#[test]
fn frames_cross_to_a_worker_process_and_back() {
    const FRAMES: u64 = 5_000;
    watched("frames_cross_to_a_worker_process_and_back", || {
        let memory = Memory::create("forkright-test", LEN as u64).unwrap();
        let mut end = End::parent(&memory);
        let mut worker = start_worker("echo", &[&memory]);
        let mut body = Vec::new();
        for id in 0..FRAMES {
            let sent = Head { kind: WORK, id, extra: !id };
            let bytes = body_of(id, id as usize % (end.outgoing.max_body() + 1));
            end.send(sent, &bytes);
            assert_eq!(end.receive(&mut body), sent);
            assert_eq!(body, bytes);
        }
        end.send(Head { kind: STOP, ..Head::default() }, &[]);
        assert_eq!(end.receive(&mut body).kind, STOP);
        assert!(worker.wait().unwrap().success());
    });
}

#[test]
fn a_worker_process_reads_payloads_and_cannot_change_ours() {
    watched("a_worker_process_reads_payloads_and_cannot_change_ours", || {
        let memory = Memory::create("forkright-test", LEN as u64).unwrap();
        let payloads = Memory::create("forkright-test", 0).unwrap();
        let mut arena = Arena::new(payloads, 1 << 20).unwrap();
        let mut end = End::parent(&memory);
        let mut worker = start_worker("map", &[&memory, arena.memory()]);
        let mut body = Vec::new();
        for id in 1..50 {
            let bytes = body_of(id, 3_000 * id as usize);
            let block = arena.place(&[&bytes[..100], &bytes[100..]], Duration::ZERO).unwrap();
            end.send(Head { kind: WORK, id, extra: 0 }, &block.to_bytes());
            let sum = bytes.iter().map(|&byte| u64::from(byte)).sum();
            assert_eq!(end.receive(&mut body), Head { kind: WORK, id, extra: sum });
            let mapping = arena.memory().map(block.offset, block.len, Access::Shared).unwrap();
            // SAFETY: `mapping` is this long, and nobody writes to the block: the worker's copy was its own.
            let after = unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) };
            assert_eq!(after, bytes);
            assert!(arena.free(block, Duration::ZERO));
        }
        end.send(Head { kind: STOP, ..Head::default() }, &[]);
        assert!(worker.wait().unwrap().success());
    });
}

#[test]
fn a_killed_worker_leaves_its_answers_and_what_it_did_not_take() {
    watched("a_killed_worker_leaves_its_answers_and_what_it_did_not_take", || {
        let memory = Memory::create("forkright-test", LEN as u64).unwrap();
        let mut end = End::parent(&memory);
        let positions: Vec<_> = (0..5u64)
            .map(|id| end.outgoing.push(Head { kind: WORK, id, extra: 0 }, &[&body_of(id, 50)]).unwrap())
            .collect();
        let mut worker = start_worker("hang", &[&memory]);
        let mut body = Vec::new();
        assert_eq!(end.receive(&mut body).id, 0, "its answer comes after it took the first two");
        worker.kill().unwrap();
        worker.wait().unwrap();

        assert_eq!(body, body_of(0, 50));
        assert_eq!(end.incoming.pop(&mut body), Ok(None));
        for taken in &positions[..2] {
            assert_eq!(end.outgoing.standing(*taken), Standing::Taken);
            assert_eq!(end.outgoing.revoke(*taken), Revocation::Taken);
        }
        for queued in &positions[2..] {
            assert_eq!(end.outgoing.standing(*queued), Standing::Queued);
            assert_eq!(end.outgoing.revoke(*queued), Revocation::Revoked);
        }
        end.theirs.strike_all();
    });
}
