//! How what was observed of a machine's costs becomes what a forecast goes by: robust against the odd observation, and
//! replaced when it no longer fits. Pure; `here` feeds it and `cache` keeps it. Without it one disturbed start of a
//! process would decide where work goes for weeks.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Observations whose median counts.
const RECENT: usize = 5;
/// Observations before which there is no estimate: more than half of `RECENT`, so that one alone never decides.
const FEW: usize = 3;
/// An estimate that the median of the recent observations is this many times off no longer fits.
const OFF: f64 = 2.0;
/// Observations over which an estimate that fits is smoothed.
const SPAN: u32 = 16;
/// What is this many times off the default is no cost but an accident: a machine that slept, a clock that jumped.
const PLAUSIBLE: f64 = 100.0;

/// One cost of a machine that is observed where it arises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// `Machine::thread_start`.
    ThreadStart,
    /// `Machine::zygote_start`.
    ZygoteStart,
    /// `Machine::process_start`.
    ProcessStart,
    /// `Machine::hop`.
    Hop,
    /// `Machine::byte`.
    Byte,
}

impl Constant {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ThreadStart, Self::ZygoteStart, Self::ProcessStart, Self::Hop, Self::Byte];

    /// What its field in a machine is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::ThreadStart => "thread_start",
            Self::ZygoteStart => "zygote_start",
            Self::ProcessStart => "process_start",
            Self::Hop => "hop",
            Self::Byte => "byte",
        }
    }

    /// Its figure in a machine.
    pub fn of(self, machine: &mut Machine) -> &mut f64 {
        match self {
            Self::ThreadStart => &mut machine.thread_start,
            Self::ZygoteStart => &mut machine.zygote_start,
            Self::ProcessStart => &mut machine.process_start,
            Self::Hop => &mut machine.hop,
            Self::Byte => &mut machine.byte,
        }
    }

    /// What it is taken to be before anything was observed.
    pub fn default_value(self) -> f64 {
        *self.of(&mut Machine::default())
    }

    fn is_plausible(self, value: f64) -> bool {
        let default = self.default_value();
        (default / PLAUSIBLE..=default * PLAUSIBLE).contains(&value)
    }
}

/// What is known of one cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Estimate {
    /// The estimate; none before there were a few observations.
    pub value: Option<f64>,
    /// All observations there were.
    pub seen: u32,
    /// The last of them.
    recent: Vec<f64>,
}

impl Estimate {
    /// Adds an observation. Whether the estimate is another one now, not the same moved a little.
    pub fn add(&mut self, observed: f64) -> bool {
        if self.recent.len() >= RECENT {
            self.recent.drain(..=self.recent.len() - RECENT);
        }
        self.recent.push(observed);
        self.seen = self.seen.saturating_add(1);
        if self.recent.len() < FEW {
            return false;
        }
        let median = median(&self.recent);
        match &mut self.value {
            Some(value) if median <= *value * OFF && median >= *value / OFF => {
                *value += (median - *value) / f64::from(self.seen.min(SPAN));
                false
            }
            value => {
                *value = Some(median);
                true
            }
        }
    }
}

/// The middle one; of two the lower, as disturbances only add.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
}

/// What is known of all costs that are observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Constants {
    thread_start: Estimate,
    zygote_start: Estimate,
    process_start: Estimate,
    hop: Estimate,
    byte: Estimate,
}

impl Constants {
    /// What is known of one.
    pub fn get(&self, constant: Constant) -> &Estimate {
        match constant {
            Constant::ThreadStart => &self.thread_start,
            Constant::ZygoteStart => &self.zygote_start,
            Constant::ProcessStart => &self.process_start,
            Constant::Hop => &self.hop,
            Constant::Byte => &self.byte,
        }
    }

    fn get_mut(&mut self, constant: Constant) -> &mut Estimate {
        match constant {
            Constant::ThreadStart => &mut self.thread_start,
            Constant::ZygoteStart => &mut self.zygote_start,
            Constant::ProcessStart => &mut self.process_start,
            Constant::Hop => &mut self.hop,
            Constant::Byte => &mut self.byte,
        }
    }

    /// Adds an observation, unless it is an accident. Whether its estimate is another one now.
    pub fn add(&mut self, constant: Constant, observed: f64) -> bool {
        constant.is_plausible(observed) && self.get_mut(constant).add(observed)
    }

    /// The machine with what was measured in place of the defaults.
    pub fn apply(&self, mut machine: Machine) -> Machine {
        for constant in Constant::ALL {
            if let Some(value) = self.get(constant).value {
                *constant.of(&mut machine) = value;
            }
        }
        machine
    }

    /// The same without what can't be: for what was read from a file, which anybody may have written.
    pub fn checked(mut self) -> Self {
        for constant in Constant::ALL {
            let estimate = self.get_mut(constant);
            estimate.value = estimate.value.filter(|&value| constant.is_plausible(value));
            estimate.recent.retain(|&value| constant.is_plausible(value));
            let surplus = estimate.recent.len().saturating_sub(RECENT);
            estimate.recent.drain(..surplus);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(observations: &[f64]) -> Estimate {
        let mut estimate = Estimate::default();
        for &observed in observations {
            estimate.add(observed);
        }
        estimate
    }

    #[test]
    fn one_or_two_observations_are_no_estimate() {
        assert_eq!(after(&[0.07]).value, None);
        assert_eq!(after(&[0.07, 0.07]).value, None);
        assert_eq!(after(&[0.07, 0.07, 0.07]).value, Some(0.07));
    }

    #[test]
    fn what_is_no_cost_is_not_observed() {
        let mut constants = Constants::default();
        for accident in [f64::NAN, f64::INFINITY, -1.0, 0.0, 3600.0] {
            assert!(!constants.add(Constant::ZygoteStart, accident));
        }
        assert_eq!(constants, Constants::default());
    }

    #[test]
    fn a_file_that_somebody_else_wrote_can_not_do_harm() {
        let text = r#"{"hop": {"value": 1e9, "seen": 4294967295, "recent": [1e9, -1, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4]},
            "byte": {"value": -1.0}, "unheard_of": 3}"#;
        let mut constants = serde_json::from_str::<Constants>(text).expect("it is in the form").checked();
        assert_eq!(constants.apply(Machine::default()), Machine::default());
        assert!(constants.add(Constant::Hop, 1e-4));
        assert_eq!(constants.get(Constant::Hop).value, Some(1e-4));
    }

    #[test]
    fn what_was_measured_takes_the_place_of_defaults_and_nothing_else_changes() {
        let mut constants = Constants::default();
        for _ in 0..3 {
            constants.add(Constant::ProcessStart, 0.02);
        }
        let machine = constants.apply(Machine { cores: 7.0, ..Machine::default() });
        assert_eq!(machine, Machine { cores: 7.0, process_start: 0.02, ..Machine::default() });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_estimate_lies_between_what_was_observed(observations in prop::collection::vec(1e-3..10.0_f64, 3..60)) {
            let value = after(&observations).value.expect("there were enough");
            let least = observations.iter().copied().fold(f64::INFINITY, f64::min);
            let most = observations.iter().copied().fold(0.0, f64::max);
            prop_assert!((least * (1.0 - 1e-12)..=most * (1.0 + 1e-12)).contains(&value));
        }

        #[test]
        fn an_odd_observation_now_and_then_decides_nothing(
            usual in 1e-3..1.0_f64, noise in prop::collection::vec(0.9..1.1_f64, 20), odd in 1e-6..1e6_f64, at in 0..20_usize
        ) {
            let mut observations: Vec<f64> = noise.iter().map(|noise| noise * usual).collect();
            observations[at] = odd;
            let value = after(&observations).value.expect("there were enough");
            prop_assert!((0.89 * usual..1.11 * usual).contains(&value), "{value}");
        }

        #[test]
        fn what_no_longer_fits_is_replaced_within_three_observations(
            before in 1e-3..1.0_f64, many in 5..100_usize, times in 2.01..1000.0_f64, slower in any::<bool>()
        ) {
            let mut estimate = after(&vec![before; many]);
            let now = if slower { before * times } else { before / times };
            let replaced: Vec<bool> = (0..3).map(|_| estimate.add(now)).collect();
            prop_assert_eq!(replaced, [false, false, true]);
            prop_assert_eq!(estimate.value, Some(now));
        }

        #[test]
        fn what_still_fits_is_moved_and_not_replaced(before in 1e-3..1.0_f64, by in 0.51..1.99_f64) {
            let mut estimate = after(&[before; 20]);
            for _ in 0..200 {
                prop_assert!(!estimate.add(before * by));
            }
            let value = estimate.value.expect("there were enough");
            prop_assert!((value - before * by).abs() < 0.01 * before);
        }

        #[test]
        fn the_same_observations_give_the_same_through_a_file(
            observations in prop::collection::vec((0..5_usize, 1e-12..1.0_f64), 0..60), cut in 0..60_usize
        ) {
            let (mut whole, mut kept) = (Constants::default(), Constants::default());
            for (at, &(which, observed)) in observations.iter().enumerate() {
                if at == cut {
                    let text = serde_json::to_string(&kept).expect("plain data");
                    kept = serde_json::from_str::<Constants>(&text).expect("it was written so").checked();
                }
                whole.add(Constant::ALL[which], observed);
                kept.add(Constant::ALL[which], observed);
            }
            prop_assert_eq!(whole, kept);
        }
    }
}
