//! How many items travel together. Pure.

/// A chunk should take about this long: far above what sending it costs, far below what a person waits for.
const WORTH: f64 = 0.01;

/// Items for the next chunk, by guided self-scheduling (Polychronopoulos and Kuck, 1987): a share of what
/// remains, so that chunks shrink towards the end and the last workers finish together; but no more than
/// `WORTH` seconds of them, and one at a time until `seconds` per item is known.
pub fn size(remaining: usize, workers: u32, seconds: Option<f64>) -> usize {
    let Some(seconds) = seconds else { return remaining.min(1) };
    let fair = remaining.div_ceil(2 * workers.max(1) as usize);
    let worth = (WORTH / seconds.max(1e-9)).ceil();
    fair.min(worth as usize).clamp(1, remaining.max(1)).min(remaining)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_all_items_and_never_more(
            items in 0usize..100_000, workers in 1u32..64, seconds in proptest::option::of(1e-8f64..1.0),
        ) {
            let mut left = items;
            while left > 0 {
                let size = size(left, workers, seconds);
                prop_assert!(size >= 1 && size <= left);
                left -= size;
            }
            prop_assert_eq!(size(0, workers, seconds), 0);
        }

        #[test]
        fn long_items_travel_alone(items in 1usize..1000, workers in 1u32..64) {
            prop_assert_eq!(size(items, workers, Some(0.02)), 1);
        }

        #[test]
        fn the_last_items_are_spread_over_the_workers(workers in 2u32..64) {
            prop_assert!(size(workers as usize, workers, Some(1e-6)) == 1);
        }
    }
}
