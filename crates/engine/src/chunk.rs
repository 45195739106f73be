//! How many items travel together, and how many messages go ahead of need. Pure.

/// A chunk should take about this long: far above what sending it costs, far below what a person waits for.
const WORTH: f64 = 0.01;
/// What takes less than this, all of it, is not worth dividing where one worker has it, s.
const TRIFLE: f64 = 1e-4;
/// Messages sent ahead of need are worth at most this much work, s: what is ahead can be stolen, but not for free.
const AHEAD: f64 = 0.002;
/// Messages sent ahead of need, at most, for each thread of the worker.
const MOST_AHEAD: f64 = 256.0;

/// Items for the next chunk, by guided self-scheduling (Polychronopoulos and Kuck, 1987): a share of what
/// remains, so that chunks shrink towards the end and the last workers finish together; but no more than
/// `WORTH` seconds of them, and one at a time until `seconds` per item is known. That is known of `seen` items,
/// and those to come may be longer: no more than as many again go at once, as what has begun can't be moved.
pub fn size(remaining: usize, workers: u32, seconds: Option<f64>, seen: u64) -> usize {
    let Some(seconds) = seconds else { return remaining.min(1) };
    let trifle = workers <= 1 && seconds * remaining as f64 <= TRIFLE;
    let fair = if trifle { remaining } else { remaining.div_ceil(2 * workers.max(1) as usize) };
    let worth = (WORTH / seconds.max(1e-9)).ceil();
    let foreseen = usize::try_from(seen).unwrap_or(usize::MAX);
    fair.min(worth as usize).min(foreseen).clamp(1, remaining.max(1)).min(remaining)
}

/// Chunks that may be with so many workers at a time: one runs, one is ready. Each further one would be smaller than it
/// could be later, when more is known of the items.
pub fn most_out(workers: u32) -> usize {
    2 * workers.max(1) as usize
}

/// Items that travel together while there are many, if each takes so many seconds.
pub fn company(seconds: f64) -> f64 {
    (WORTH / seconds.max(1e-9)).max(1.0)
}

/// How many messages a worker process with so many threads has, if each takes `pace` seconds: one per thread runs, at
/// least one more waits ready.
pub fn depth(threads: u32, pace: Option<f64>) -> usize {
    let ahead = pace.map_or(1.0, |pace| (AHEAD / pace).clamp(1.0, MOST_AHEAD));
    (f64::from(threads) * (1.0 + ahead)) as usize
}

/// The pace of a worker process after a message that took so many seconds. A slow one counts at once, fast ones
/// gradually: a queue too deep is worse than one too shallow.
pub fn paced(before: Option<f64>, took: f64) -> f64 {
    let took = took.max(1e-6);
    before.map_or(took, |pace| took.max(pace + 0.2 * (took - pace)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_all_items_and_never_more(
            items in 0usize..100_000, workers in 1u32..64, seconds in proptest::option::of(1e-8f64..1.0),
            seen in 0u64..1000,
        ) {
            let mut left = items;
            while left > 0 {
                let size = size(left, workers, seconds, seen);
                prop_assert!(size >= 1 && size <= left);
                left -= size;
            }
            prop_assert_eq!(size(0, workers, seconds, seen), 0);
        }

        #[test]
        fn long_items_travel_alone(items in 1usize..1000, workers in 1u32..64) {
            prop_assert_eq!(size(items, workers, Some(0.02), 1000), 1);
        }

        #[test]
        fn each_thread_has_one_message_to_run_and_one_ready(threads in 1u32..64, pace in 1e-7f64..10.0) {
            let depth = depth(threads, Some(pace));
            prop_assert!(depth >= 2 * threads as usize && depth <= 257 * threads as usize);
            prop_assert!(pace < 0.002 || depth == 2 * threads as usize, "what takes long is not queued for");
        }

        #[test]
        fn a_slow_message_counts_at_once(before in 1e-5f64..1.0, took in 1e-5f64..1.0) {
            let pace = paced(Some(before), took);
            let holds = if took >= before { pace == took } else { pace < before && pace > took };
            prop_assert!(holds, "{pace}");
        }

        #[test]
        fn no_more_go_at_once_than_have_been_seen(items in 1usize..100_000, workers in 1u32..64, seen in 1u64..1000) {
            prop_assert!(size(items, workers, Some(1e-6), seen) <= seen as usize);
        }

        #[test]
        fn a_trifle_that_nobody_shares_is_not_divided(items in 1usize..100) {
            prop_assert_eq!(size(items, 1, Some(1e-6), 1000), items);
            prop_assert!(size(items, 2, Some(1e-6), 1000) < items || items == 1);
        }

        #[test]
        fn the_last_items_are_spread_over_the_workers(workers in 2u32..64) {
            prop_assert!(size(workers as usize, workers, Some(1e-6), 1000) == 1);
        }
    }
}
