//! Figures and mixtures in plain English, for verdicts. Used by `choose` and by whoever prints a report;
//! without it each message would round in its own way.

use crate::profile::{Demand, Evidence};

/// A time as people say it: two figures and a unit.
pub fn seconds(time: f64) -> String {
    let (value, unit) = match time {
        t if t >= 60.0 => (t / 60.0, "min"),
        t if t >= 0.9995 => (t, "s"),
        t if t >= 0.000_999_5 => (t * 1e3, "ms"),
        t => (t.max(0.0) * 1e6, "µs"),
    };
    let tenths = (value * 10.0).round() / 10.0;
    if tenths < 10.0 && tenths.fract() != 0.0 {
        format!("{tenths:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A share as people say it; never a false "all" or "none".
pub fn percent(share: f64) -> String {
    match share {
        s if s <= 0.0 => "0 %".to_owned(),
        s if s < 0.01 => "under 1 %".to_owned(),
        s if s < 1.0 => format!("{:.0} %", (s * 100.0).min(99.0)),
        _ => "100 %".to_owned(),
    }
}

/// What most of a task's time is spent on.
pub fn mixture(demand: &Demand) -> String {
    let parts = [
        (demand.gil(), "holds the GIL"),
        (demand.off, "computes without the GIL"),
        (demand.waiting, "waits"),
    ];
    let mut parts = parts.map(|(part, verb)| (demand.share(part), verb));
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let [first, second, _] = parts;
    let mut words = format!("{} of the time {}", percent(first.0), first.1);
    if second.0 >= 0.1 {
        words += &format!(" and {} {}", percent(second.0), second.1);
    }
    if demand.gil == Evidence::Assumed && demand.share(demand.gil()) >= 0.1 {
        words += " (as far as the clocks tell: nothing is known of the GIL, so CPU time is taken to need it)";
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_as_people_do() {
        let said = [90.0, 1.274, 12.7, 0.999_9, 0.105, 0.0013, 0.0, 2e-6].map(seconds);
        assert_eq!(said, ["1.5 min", "1.3 s", "13 s", "1 s", "105 ms", "1.3 ms", "0 µs", "2 µs"]);
    }

    #[test]
    fn shares_are_never_rounded_to_all_or_none() {
        assert_eq!(
            [0.0, 0.001, 0.984, 0.999, 1.0].map(percent),
            ["0 %", "under 1 %", "98 %", "99 %", "100 %"]
        );
    }

    #[test]
    fn a_mixture_names_what_matters() {
        let page = Demand { held: 0.3, waiting: 0.7, gil: Evidence::Measured, ..Demand::default() };
        assert_eq!(mixture(&page), "70 % of the time waits and 30 % holds the GIL");
        assert!(mixture(&Demand { held: 1.0, ..Demand::default() }).contains("nothing is known of the GIL"));
    }
}
