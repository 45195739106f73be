//! The choice of a report, made again: for a whole map, from its start, on any machine. Pure; called for
//! `forkright replay`, so that a laptop's reading tells what a server would do. What a running map chose at some moment
//! needs no more than its [`Case`]: [`choose`](crate::choose::choose) it again.

use serde::{Deserialize, Serialize};

use crate::choose::{Case, Constraints, Leave, Limits};
use crate::forecast::{Remaining, Zygote};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::profile::{Demand, Evidence};

/// What a report keeps of a function's calls for a choice about all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// What one call asks for; none if too little was measured.
    pub demand: Option<Demand>,
    /// Where that was measured.
    pub machine: Machine,
    /// The most workers that the user allowed.
    pub workers: Option<u32>,
    /// Whether the calls may run in another process.
    pub may_leave: Leave,
}

/// In what another machine differs from the one that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Cores' worth of time.
    pub cores: Option<f64>,
    /// Starting the helper that forks workers, s.
    pub zygote_start: Option<f64>,
    /// Forking one worker, s.
    pub process_start: Option<f64>,
}

/// What one call asks for, when some of it is `known` from its clocks and whoever chose, and its mixture was `seen` by
/// samples without anybody who chose.
pub fn demand(known: Option<Demand>, seen: Option<Demand>) -> Option<Demand> {
    let Some(mixture) = seen.filter(|_| known.is_none_or(|known| known.gil == Evidence::Assumed)) else {
        return known;
    };
    let Demand { held, blocked, off, waiting, gil, .. } = mixture;
    Some(Demand { held, blocked, off, waiting, gil, ..known.unwrap_or_default() })
}

impl Change {
    /// The machine with what differs.
    pub fn apply(&self, machine: &Machine) -> Machine {
        Machine {
            cores: self.cores.unwrap_or(machine.cores),
            zygote_start: self.zygote_start.unwrap_or(machine.zygote_start),
            process_start: self.process_start.unwrap_or(machine.process_start),
            ..machine.clone()
        }
    }
}

impl Given {
    /// The case of a whole map of so many tasks, of which nothing has begun and for which nothing is up; none if too
    /// little was measured.
    pub fn whole(&self, change: &Change, tasks: u64) -> Option<Case> {
        let demand = self.demand?;
        let machine = change.apply(&self.machine);
        let remaining = Remaining::fresh(tasks as f64, Plan::SERIAL, Zygote::Cold);
        let limits = Limits::of(&demand, &machine, self.workers);
        let may_leave = self.may_leave.clone();
        let constraints = Constraints { may_leave, current: Plan::SERIAL, spent: 0.0, here: 0 };
        Some(Case { demand, machine, remaining, limits, constraints })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_of_the_gil_stands_in_for_what_was_assumed() {
        let assumed = Demand { held: 0.3, bytes: 1e6, spread: 0.5, ..Demand::default() };
        let seen = Demand { off: 0.2, waiting: 0.1, gil: Evidence::Measured, ..Demand::default() };
        let both = demand(Some(assumed), Some(seen)).expect("both are known");
        assert_eq!((both.held, both.off, both.waiting), (0.0, 0.2, 0.1));
        assert_eq!((both.bytes, both.spread, both.gil), (1e6, 0.5, Evidence::Measured));
        let measured = Demand { gil: Evidence::Measured, ..assumed };
        assert_eq!(demand(Some(measured), Some(seen)), Some(measured));
        assert_eq!((demand(None, Some(seen)), demand(Some(assumed), None)), (Some(seen), Some(assumed)));
        assert_eq!(demand(None, None), None);
    }
}
