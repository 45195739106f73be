//! Where the time of a task is heading: least squares over the order in which tasks have ended. A mean in which the
//! recent weigh more follows a drift but does not run ahead of it. Without this, items that grow from nothing would look
//! as if they were over before processes are up, until most of their time is spent.

use serde::{Deserialize, Serialize};

/// Readings that are remembered: older ones fade, so that a bend is followed.
const SPAN: f64 = 64.0;
/// Readings before which nothing is a trend.
const FEW: f64 = 8.0;
/// A slope this many times its standard error is one. It is asked for again with each reading, so twice is not enough.
const PLAIN: f64 = 4.0;

/// The moments of a line through values at the places where they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trend {
    /// Tasks so far.
    at: f64,
    readings: f64,
    /// Tasks that the readings stand for.
    weight: f64,
    /// The means of places and values, then the sums of their deviations' products.
    place: f64,
    value: f64,
    places: f64,
    both: f64,
    values: f64,
}

impl Trend {
    /// Adds the mean of the next so many tasks.
    pub(crate) fn add(&mut self, value: f64, tasks: f64) {
        if !value.is_finite() {
            return;
        }
        if self.readings >= SPAN {
            let fade = 1.0 - 1.0 / SPAN;
            for sum in
                [&mut self.readings, &mut self.weight, &mut self.places, &mut self.both, &mut self.values]
            {
                *sum *= fade;
            }
        }
        // West's update of weighted moments (CACM 22, 1979).
        self.readings += 1.0;
        self.weight += tasks;
        let (place, share) = (self.at + tasks / 2.0, tasks / self.weight);
        let (along, up) = (place - self.place, value - self.value);
        self.place += share * along;
        self.value += share * up;
        self.places += tasks * along * (place - self.place);
        self.both += tasks * along * (value - self.value);
        self.values += tasks * up * (value - self.value);
        self.at += tasks;
    }

    /// The mean to expect of the next `rest` tasks; none if there is no plain trend. It is taken to go on for as long
    /// again as it has been seen, and then to end. It never leads to less than a quarter of what was.
    pub(crate) fn ahead(&self, rest: f64) -> Option<f64> {
        if self.readings < FEW || self.places <= 0.0 || rest <= 0.0 {
            return None;
        }
        let slope = self.both / self.places;
        let explained = slope * self.both;
        let left = (self.values - explained).max(0.0);
        if explained * (self.readings - 2.0) <= PLAIN * PLAIN * left {
            return None;
        }
        // Places that are spread evenly over a stretch have this standard deviation times the root of twelve.
        let seen = (12.0 * self.places / self.weight).sqrt();
        let near = rest.min(seen);
        let now = self.value + slope * (self.at - self.place);
        let expected = now + slope * near * (1.0 - near / (2.0 * rest));
        Some(expected.max(self.value / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(values: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::default();
        values.into_iter().for_each(|value| trend.add(value, 1.0));
        trend
    }

    proptest! {
        #[test]
        fn a_line_is_followed_for_as_long_again(
            start in 0.0..1.0_f64, slope in 1e-4..0.1_f64, seen in 9_u32..60, share in 0.01..0.9_f64,
        ) {
            let line = |place: u32| start + slope * f64::from(place);
            let trend = after((0..seen).map(line));
            let rest = ((f64::from(seen) * share) as u32).max(1);
            let truth = (seen..seen + rest).map(line).sum::<f64>() / f64::from(rest);
            let expected = trend.ahead(rest.into()).expect("a plain trend");
            prop_assert!((expected - truth).abs() <= 0.01 * truth, "{expected} {truth}");
        }

        #[test]
        fn a_line_is_not_followed_for_longer(slope in 1e-4..0.1_f64, seen in 9_u32..60, rest in 1e3..1e9_f64) {
            let trend = after((0..seen).map(|place| slope * f64::from(place)));
            let farthest = slope * 2.0 * f64::from(seen);
            prop_assert!(trend.ahead(rest).is_some_and(|expected| expected <= farthest * 1.001));
        }

        #[test]
        fn a_chunk_counts_as_its_tasks_one_by_one(slope in -0.01..0.01_f64, chunk in 1_u32..9, rest in 1.0..1e4_f64) {
            let line = |place: u32| 1.0 + slope * f64::from(place);
            let mut chunked = Trend::default();
            for first in (0..10).map(|number| number * chunk) {
                let mean = (first..first + chunk).map(line).sum::<f64>() / f64::from(chunk);
                chunked.add(mean, chunk.into());
            }
            let single = after((0..10 * chunk).map(line));
            let (a, b) = (chunked.ahead(rest), single.ahead(rest));
            let near = a.zip(b).is_none_or(|(a, b)| (a - b).abs() <= 0.05 * b);
            prop_assert!(near && (slope.abs() < 1e-6 || chunk > 1 || a.is_some()), "{a:?} {b:?}");
        }

        #[test]
        fn whatever_comes_the_expectation_is_a_time(
            values in proptest::collection::vec((0.0..1e3_f64, 1_u32..1000), 0..200), rest in 0.0..1e9_f64,
        ) {
            let mut trend = Trend::default();
            for (value, tasks) in values {
                trend.add(value, tasks.into());
            }
            prop_assert!(trend.ahead(rest).is_none_or(|expected| expected.is_finite() && expected >= 0.0));
        }

        #[test]
        fn shrinking_items_never_come_to_nothing(seen in 9_u32..60, rest in 1.0..1e6_f64) {
            let values: Vec<f64> = (0..seen).map(|place| f64::from(seen - place)).collect();
            let mean = values.iter().sum::<f64>() / f64::from(seen);
            prop_assert!(after(values).ahead(rest).is_some_and(|expected| expected >= mean / 4.0));
        }
    }

    #[test]
    fn what_goes_up_and_down_is_no_trend() {
        let alternating = after((0..40).map(|place| f64::from(place % 2)));
        let slow_first = after((0..40).map(|place| if place == 0 { 50.0 } else { 1.0 }));
        let slow_last = after((0..12).map(|place| if place == 11 { 50.0 } else { 1.0 }));
        let waves = after((0..48).map(|place| f64::from(place).sin()));
        for trend in [alternating, slow_first, slow_last, waves] {
            assert_eq!(trend.ahead(100.0), None, "{trend:?}");
        }
    }

    #[test]
    fn a_bend_is_followed() {
        let trend = after((0..100).map(|_| 1.0).chain((0..200).map(|place| 1.0 + f64::from(place))));
        assert!(trend.ahead(10.0).is_some_and(|expected| expected > 190.0), "{:?}", trend.ahead(10.0));
    }
}
