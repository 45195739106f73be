//! What a ring promises, over heap and memfd regions alike.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "to fail is to panic here")]

mod common;

use std::collections::VecDeque;
use std::mem;
use std::thread;

use common::{body_of, mapped, regions, rings, watched};
use forkright_shm::{Consumer, Head, Memory, Position, Producer, PushError, Revocation, Standing, ring};
use proptest::prelude::*;

const SMALL: usize = 256;
/// What a frame takes besides its body.
const FRAME_HEAD: usize = 32;

fn head(id: u64) -> Head {
    Head { kind: id as u32 ^ 7, id, extra: !id }
}

fn push(producer: &mut Producer, id: u64, len: usize) -> Position {
    producer.push(head(id), &[&body_of(id, len)]).unwrap()
}

#[test]
fn frames_arrive_whole_and_in_order() {
    for (mut producer, mut consumer) in rings(1024) {
        let mut body = Vec::new();
        for id in 0..if cfg!(miri) { 60 } else { 500 } {
            let len = id as usize * 7 % (producer.max_body() + 1);
            push(&mut producer, id, len);
            assert_eq!(consumer.pop(&mut body), Ok(Some(head(id))));
            assert_eq!(body, body_of(id, len));
        }
        assert_eq!(consumer.pop(&mut body), Ok(None));
        assert!(consumer.is_empty() && producer.is_drained());
    }
}

#[test]
fn parts_are_joined_wherever_they_are_cut() {
    let whole = body_of(3, if cfg!(miri) { 9 } else { 29 });
    for (mut producer, mut consumer) in rings(1024) {
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let parts = [&whole[..first], &whole[first..second], &[], &whole[second..]];
                producer.push(head(1), &parts).unwrap();
                let mut body = Vec::new();
                assert_eq!(consumer.pop(&mut body), Ok(Some(head(1))));
                assert_eq!(body, whole);
            }
        }
    }
}

#[test]
fn a_full_ring_says_so_and_has_room_again_after_a_pop() {
    for (mut producer, mut consumer) in rings(SMALL) {
        let longest = producer.max_body();
        for id in 0..4 {
            push(&mut producer, id, longest);
        }
        assert_eq!(producer.free_bytes(), 0);
        assert_eq!(producer.push(head(4), &[]), Err(PushError::Full));
        let mut body = Vec::new();
        assert_eq!(consumer.pop(&mut body), Ok(Some(head(0))));
        push(&mut producer, 4, longest);
        for id in 1..5 {
            assert_eq!(consumer.pop(&mut body), Ok(Some(head(id))));
            assert_eq!(body, body_of(id, longest));
        }
    }
}

#[test]
fn a_body_beyond_the_longest_is_refused_for_good() {
    for (mut producer, consumer) in rings(SMALL) {
        let longest = producer.max_body();
        assert_eq!(longest, SMALL / 4 - FRAME_HEAD);
        assert_eq!(longest, consumer.max_body());
        assert_eq!(producer.push(head(1), &[&vec![0; longest], &[0]]), Err(PushError::TooLarge));
        assert!(consumer.is_empty());
    }
}

#[test]
fn a_revoked_frame_is_never_popped() {
    for (mut producer, mut consumer) in rings(1024) {
        let positions: Vec<_> = (0..4).map(|id| push(&mut producer, id, 9)).collect();
        assert_eq!(producer.revoke(positions[0]), Revocation::Revoked);
        assert_eq!(producer.revoke(positions[2]), Revocation::Revoked);
        assert_eq!(producer.revoke(positions[2]), Revocation::Revoked, "a second time changes nothing");
        assert_eq!(producer.standing(positions[2]), Standing::Revoked);
        let mut body = Vec::new();
        assert_eq!(consumer.pop(&mut body), Ok(Some(head(1))));
        assert_eq!(consumer.pop(&mut body), Ok(Some(head(3))));
        assert_eq!(consumer.pop(&mut body), Ok(None));
    }
}

#[test]
fn a_popped_frame_cannot_be_revoked() {
    for (mut producer, mut consumer) in rings(1024) {
        let position = push(&mut producer, 1, 9);
        assert_eq!(producer.standing(position), Standing::Queued);
        assert_eq!(consumer.pop(&mut Vec::new()), Ok(Some(head(1))));
        assert_eq!(producer.standing(position), Standing::Taken);
        assert_eq!(producer.revoke(position), Revocation::Taken);
    }
}

#[test]
fn revoking_what_was_popped_spares_the_frame_in_its_place() {
    for (mut producer, mut consumer) in rings(SMALL) {
        let old = push(&mut producer, 0, 32);
        assert_eq!(consumer.pop(&mut Vec::new()), Ok(Some(head(0))));
        for id in 1..=4 {
            push(&mut producer, id, 32);
        }
        assert_eq!(producer.revoke(old), Revocation::Taken);
        for id in 1..=4 {
            assert_eq!(consumer.pop(&mut Vec::new()), Ok(Some(head(id))));
        }
    }
}

#[test]
fn a_ring_of_revoked_frames_drains_to_nothing() {
    for (mut producer, mut consumer) in rings(SMALL) {
        let positions: Vec<_> = (0..4).map(|id| push(&mut producer, id, 32)).collect();
        for position in positions {
            assert_eq!(producer.revoke(position), Revocation::Revoked);
        }
        assert!(!producer.is_drained());
        assert_eq!(consumer.pop(&mut Vec::new()), Ok(None));
        assert!(producer.is_drained() && consumer.is_empty());
    }
}

#[test]
fn frames_of_an_abandoned_consumer_can_be_taken_back() {
    for (mut producer, mut consumer) in rings(1024) {
        let positions: Vec<_> = (0..3).map(|id| push(&mut producer, id, 5)).collect();
        assert_eq!(consumer.pop(&mut Vec::new()), Ok(Some(head(0))));
        mem::forget(consumer);
        assert_eq!(producer.revoke(positions[0]), Revocation::Taken);
        assert_eq!(producer.revoke(positions[1]), Revocation::Revoked);
        assert_eq!(producer.revoke(positions[2]), Revocation::Revoked);
    }
}

#[test]
fn frames_of_an_abandoned_producer_are_still_whole() {
    for (mut producer, mut consumer) in rings(1024) {
        for id in 0..3 {
            push(&mut producer, id, 33);
        }
        mem::forget(producer);
        let mut body = Vec::new();
        for id in 0..3 {
            assert_eq!(consumer.pop(&mut body), Ok(Some(head(id))));
            assert_eq!(body, body_of(id, 33));
        }
        assert_eq!(consumer.pop(&mut body), Ok(None));
    }
}

#[test]
fn a_reopened_end_goes_on_where_the_last_one_stopped() {
    for region in regions(ring::bytes_for(SMALL)) {
        ring::initialise(&region, 0, SMALL);
        for id in 0..20 {
            push(&mut Producer::open(&region, 0, SMALL).unwrap(), id, 20);
            let popped = Consumer::open(&region, 0, SMALL).unwrap().pop(&mut Vec::new());
            assert_eq!(popped, Ok(Some(head(id))));
        }
    }
}

#[test]
fn a_ring_that_is_not_there_is_not_opened() {
    for region in regions(ring::bytes_for(SMALL)) {
        assert!(Producer::open(&region, 0, SMALL).is_err(), "never made");
        ring::initialise(&region, 0, SMALL);
        assert!(Consumer::open(&region, 0, 2 * SMALL).is_err(), "beyond the region");
        assert!(Consumer::open(&region, 8, SMALL).is_err(), "beyond the region");
        assert!(Consumer::open(&region, 4, SMALL).is_err(), "not on a word");
        assert!(Consumer::open(&region, usize::MAX - 7, SMALL).is_err(), "beyond all memory");
        assert!(Consumer::open(&region, 0, SMALL).is_ok());
    }
    for region in regions(ring::bytes_for(2 * SMALL)) {
        ring::initialise(&region, 0, 2 * SMALL);
        assert!(Consumer::open(&region, 0, SMALL).is_err(), "of another capacity");
    }
}

#[test]
fn two_threads_exchange_each_frame_once() {
    const FRAMES: u64 = if cfg!(miri) { 60 } else { 100_000 };
    for (mut producer, mut consumer) in rings(1024) {
        watched("two_threads_exchange_each_frame_once", move || {
            let reader = thread::spawn(move || {
                let (mut popped, mut body) = (Vec::new(), Vec::new());
                loop {
                    match consumer.pop(&mut body).unwrap() {
                        Some(Head { kind: 0, .. }) => return popped,
                        Some(found) => {
                            assert_eq!(body, body_of(found.id, found.extra as usize));
                            popped.push(found.id);
                        }
                        None => thread::yield_now(),
                    }
                }
            });
            let mut send = |head: Head, body: &[u8]| loop {
                match producer.push(head, &[body]) {
                    Ok(position) => {
                        let revoke = head.kind != 0 && head.id.is_multiple_of(3);
                        return revoke && producer.revoke(position) == Revocation::Revoked;
                    }
                    Err(PushError::Full) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            };
            let mut kept = Vec::new();
            for id in 0..FRAMES {
                let len = id as usize * 7 % 200;
                if !send(Head { kind: 1, id, extra: len as u64 }, &body_of(id, len)) {
                    kept.push(id);
                }
            }
            send(Head::default(), &[]);
            assert_eq!(reader.join().unwrap(), kept, "each frame was popped or revoked, never both");
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { len: usize, cut: usize },
    Pop,
    Revoke { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..260, 0usize..260).prop_map(|(len, cut)| Step::Push { len, cut }),
        3 => Just(Step::Pop),
        2 => (0usize..64).prop_map(|which| Step::Revoke { which }),
    ]
}

/// A frame in the model.
struct Queued {
    position: Position,
    id: u64,
    len: usize,
    revoked: bool,
}

fn size(len: usize) -> usize {
    FRAME_HEAD + len.next_multiple_of(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 256 }, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_queue_one_can_take_back_from(
        exponent in 8u32..11,
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let capacity = 1 << exponent;
        for (mut producer, mut consumer) in rings(capacity) {
            let mut model: VecDeque<Queued> = VecDeque::new();
            let mut passed: Vec<Position> = Vec::new();
            let mut body = Vec::new();
            for (id, step) in steps.iter().enumerate() {
                let id = id as u64;
                match *step {
                    Step::Push { len, cut } => {
                        let bytes = body_of(id, len);
                        let (left, right) = bytes.split_at(cut.min(len));
                        let used: usize = model.iter().map(|queued| size(queued.len)).sum();
                        match producer.push(head(id), &[left, right]) {
                            Ok(position) => {
                                prop_assert!(len <= producer.max_body() && used + size(len) <= capacity);
                                prop_assert!(model.back().is_none_or(|last| last.position < position));
                                model.push_back(Queued { position, id, len, revoked: false });
                            }
                            Err(PushError::TooLarge) => prop_assert!(len > producer.max_body()),
                            Err(PushError::Full) => prop_assert!(used + size(len) > capacity),
                            Err(PushError::Corrupt(corrupt)) => prop_assert!(false, "{corrupt}"),
                        }
                    }
                    Step::Pop => {
                        let mut expected = None;
                        while let Some(queued) = model.pop_front() {
                            passed.push(queued.position);
                            if !queued.revoked {
                                expected = Some(queued);
                                break;
                            }
                        }
                        let popped = consumer.pop(&mut body).unwrap();
                        prop_assert_eq!(popped, expected.as_ref().map(|queued| head(queued.id)));
                        if let Some(queued) = expected {
                            prop_assert_eq!(&body, &body_of(queued.id, queued.len));
                        }
                    }
                    Step::Revoke { which } => {
                        if let Some(queued) = model.get_mut(which) {
                            prop_assert_eq!(producer.revoke(queued.position), Revocation::Revoked);
                            queued.revoked = true;
                        } else if let Some(&position) = passed.get(which) {
                            prop_assert_eq!(producer.revoke(position), Revocation::Taken);
                        }
                    }
                }
                for queued in &model {
                    let standing = if queued.revoked { Standing::Revoked } else { Standing::Queued };
                    prop_assert_eq!(producer.standing(queued.position), standing);
                }
                for &position in &passed {
                    prop_assert_eq!(producer.standing(position), Standing::Taken);
                }
                prop_assert_eq!(producer.is_drained(), model.is_empty());
                prop_assert_eq!(consumer.is_empty(), model.is_empty());
            }
        }
    }
}

/// Everything both ends can be asked to do, over whatever is in memory now.
fn exercise(producer: &mut Producer, consumer: &mut Consumer, positions: &mut Vec<Position>) {
    let mut body = Vec::new();
    for id in 0..8 {
        match producer.push(head(id), &[&body_of(id, 3 * id as usize)]) {
            Ok(position) => positions.push(position),
            Err(PushError::Full | PushError::Corrupt(_)) => {}
            Err(PushError::TooLarge) => panic!("that body is short"),
        }
        for &position in positions.iter() {
            let _ = producer.standing(position);
        }
        if let Some(&position) = positions.get(id as usize) {
            let _ = producer.revoke(position);
        }
        if consumer.pop(&mut body).is_ok_and(|popped| popped.is_some()) {
            assert!(body.len() <= consumer.max_body());
        }
        let _ = (producer.is_drained(), consumer.is_empty());
        assert!(producer.free_bytes() <= 2048);
    }
}

fn scribbled_over(capacity: usize, scribbles: &[(usize, Vec<u8>)]) {
    let len = ring::bytes_for(capacity);
    let (memory, region) = mapped(len);
    ring::initialise(&region, 0, capacity);
    let mut producer = Producer::open(&region, 0, capacity).unwrap();
    let mut consumer = Consumer::open(&region, 0, capacity).unwrap();
    let mut positions = Vec::new();
    exercise(&mut producer, &mut consumer, &mut positions);
    for (offset, bytes) in scribbles {
        scribble(&memory, len, *offset, bytes);
        exercise(&mut producer, &mut consumer, &mut positions);
        let reopened = (Producer::open(&region, 0, capacity), Consumer::open(&region, 0, capacity));
        if let (Ok(mut producer), Ok(mut consumer)) = reopened {
            exercise(&mut producer, &mut consumer, &mut Vec::new());
        }
    }
}

fn scribble(memory: &Memory, len: usize, offset: usize, bytes: &[u8]) {
    let offset = offset % len;
    let bytes = &bytes[..bytes.len().min(len - offset)];
    memory.write_at(bytes, offset as u64).unwrap();
}

#[cfg(not(miri))] // Miri has no shared mappings.
proptest! {
    #[test]
    fn scribbling_over_a_ring_costs_no_more_than_the_ring(
        scribbles in prop::collection::vec((any::<usize>(), prop::collection::vec(any::<u8>(), 1..64)), 1..12),
    ) {
        watched("scribbling_over_a_ring_costs_no_more_than_the_ring", || scribbled_over(512, &scribbles));
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no shared mappings")]
fn no_value_of_any_single_word_breaks_a_ring() {
    const VALUES: [u64; 14] = [
        0,
        1,
        2,
        3,
        4,
        31,
        32,
        33,
        u32::MAX as u64,
        1 << 32 | 96,
        u64::MAX / 2,
        u64::MAX / 2 + 1,
        u64::MAX - 3,
        u64::MAX,
    ];
    watched("no_value_of_any_single_word_breaks_a_ring", || {
        for offset in (0..ring::bytes_for(SMALL)).step_by(8) {
            for value in VALUES {
                scribbled_over(SMALL, &[(offset, value.to_ne_bytes().to_vec())]);
            }
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no shared mappings")]
fn an_impossible_word_is_called_corrupt() {
    const HEAD: u64 = 128;
    const TAIL: u64 = 256;
    const CLAIM: u64 = 384;
    const LEN: u64 = 392;
    let cases = [(TAIL, 33), (TAIL, u64::MAX), (TAIL, 1), (CLAIM, 0), (CLAIM, 2), (LEN, 33), (LEN, u64::MAX)];
    for (offset, value) in cases {
        let (memory, mut producer, mut consumer) = ring_in_a_file();
        push(&mut producer, 1, 8);
        memory.write_at(&u64::to_ne_bytes(value), offset).unwrap();
        for _again in 0..2 {
            assert!(consumer.pop(&mut Vec::new()).is_err(), "{value} at {offset}");
        }
    }
    for value in [33, u64::MAX] {
        let (memory, mut producer, _consumer) = ring_in_a_file();
        for id in 0..4 {
            push(&mut producer, id, 32);
        }
        memory.write_at(&u64::to_ne_bytes(value), HEAD).unwrap();
        assert!(matches!(producer.push(head(5), &[]), Err(PushError::Corrupt(_))), "{value} as head");
    }
}

fn ring_in_a_file() -> (Memory, Producer, Consumer) {
    let (memory, region) = mapped(ring::bytes_for(SMALL));
    ring::initialise(&region, 0, SMALL);
    let producer = Producer::open(&region, 0, SMALL).unwrap();
    let consumer = Consumer::open(&region, 0, SMALL).unwrap();
    (memory, producer, consumer)
}
