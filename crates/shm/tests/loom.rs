//! Models of the protocols: two threads, one question each, all interleavings up to the preemption bound.
//!
//! `LOOM_MAX_PREEMPTIONS=2 RUSTFLAGS="--cfg loom" cargo test -p forkright-shm --test loom --release`
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "to fail is to panic here")]

use forkright_shm::{Bell, Consumer, Head, Position, Producer, PushError, Region, Revocation, Woken, ring};
use loom::thread;

const CAPACITY: usize = 256;

fn ends() -> (Producer, Consumer) {
    let region = Region::heap(ring::bytes_for(CAPACITY));
    ring::initialise(&region, 0, CAPACITY);
    let producer = Producer::open(&region, 0, CAPACITY).unwrap();
    (producer, Consumer::open(&region, 0, CAPACITY).unwrap())
}

fn push(producer: &mut Producer, id: u64) -> Result<Position, PushError> {
    producer.push(Head { kind: 1, id, extra: !id }, &[&[id as u8; 32]])
}

/// Pops a frame and checks that it is all of one piece.
fn pop(consumer: &mut Consumer) -> Option<u64> {
    let mut body = Vec::new();
    let head = consumer.pop(&mut body).unwrap()?;
    assert_eq!(head, Head { kind: 1, id: head.id, extra: !head.id });
    assert_eq!(body, [head.id as u8; 32]);
    Some(head.id)
}

#[test]
fn a_pushed_frame_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = thread::spawn(move || push(&mut producer, 7).unwrap());
        let early = pop(&mut consumer);
        writer.join().unwrap();
        assert_eq!(early.or_else(|| pop(&mut consumer)), Some(7));
    });
}

#[test]
fn space_is_reused_only_after_its_frame_was_read() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        for id in 0..4 {
            push(&mut producer, id).unwrap();
        }
        let writer = thread::spawn(move || push(&mut producer, 4));
        assert_eq!(pop(&mut consumer), Some(0));
        let pushed = writer.join().unwrap();
        for id in 1..4 {
            assert_eq!(pop(&mut consumer), Some(id));
        }
        assert_eq!(pop(&mut consumer), pushed.ok().map(|_| 4));
    });
}

#[test]
fn a_frame_is_popped_or_revoked_but_never_both() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let position = push(&mut producer, 7).unwrap();
        let reader = thread::spawn(move || pop(&mut consumer));
        let revocation = producer.revoke(position);
        let popped = reader.join().unwrap();
        assert_eq!(popped.is_some(), revocation == Revocation::Taken);
    });
}

#[test]
fn a_frame_in_the_place_of_a_popped_one_is_not_revoked_for_it() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let old = push(&mut producer, 0).unwrap();
        for id in 1..4 {
            push(&mut producer, id).unwrap();
        }
        let reader = thread::spawn(move || {
            assert_eq!(pop(&mut consumer), Some(0));
            consumer
        });
        if push(&mut producer, 4).is_ok() {
            assert_eq!(producer.revoke(old), Revocation::Taken);
        }
        let mut consumer = reader.join().unwrap();
        let left: Vec<u64> = std::iter::from_fn(|| pop(&mut consumer)).collect();
        assert!(left == [1, 2, 3] || left == [1, 2, 3, 4]);
    });
}

#[test]
fn a_waiter_never_sleeps_through_a_strike() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let bell = Bell::open(&Region::heap(Bell::BYTES), 0);
        let striker = thread::spawn({
            let bell = bell.clone();
            move || {
                push(&mut producer, 7).unwrap();
                bell.strike();
            }
        });
        // A strike slept through leaves this thread waiting for good, which loom reports.
        while pop(&mut consumer).is_none() {
            let listener = bell.listen();
            if consumer.is_empty() {
                assert_eq!(listener.wait(None), Woken::Struck);
            }
        }
        striker.join().unwrap();
    });
}
