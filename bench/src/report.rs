//! Figures, as a table for people or one JSON object a line.

use std::io::Write;

/// One figure beside its raw counterpart, with what each round gave.
pub(crate) struct Figure {
    pub(crate) scenario: String,
    pub(crate) in_flight: u32,
    pub(crate) unit: &'static str,
    /// The figure of each round.
    pub(crate) values: Vec<f64>,
    /// The probe's in the same round; none where there is nothing to compare with.
    pub(crate) raws: Vec<f64>,
}

pub(crate) struct Report {
    pub(crate) broker: String,
    pub(crate) json: bool,
}

impl Report {
    pub(crate) fn head(&self) {
        if !self.json {
            print(&format!(
                "{:<34} {:>9} {:>11} {:<7} {:>23} {:>11} {:>6}",
                "scenario", "in flight", "median", "unit", "from .. to", "raw", "ratio"
            ));
        }
    }

    pub(crate) fn say(&self, figure: &Figure) {
        let Figure { scenario, in_flight, unit, values, raws } = figure;
        let Some(value) = median(values) else { return };
        let raw = median(raws);
        // Of each round, for a busy moment hits both.
        let ratios: Vec<f64> = values.iter().zip(raws).map(|(value, raw)| value / raw).collect();
        let ratio = median(&ratios);
        if self.json {
            let number = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.3}"));
            print(&format!(
                "{{\"broker\":\"{}\",\"scenario\":\"{scenario}\",\"in_flight\":{in_flight},\"value\":{value:.3},\
                 \"unit\":\"{unit}\",\"raw\":{},\"ratio\":{}}}",
                self.broker,
                number(raw),
                number(ratio)
            ));
        } else {
            let digits = if value.abs() >= 1000.0 { 0 } else { 2 };
            let shown = |value: f64| format!("{value:.digits$}");
            let (from, to) = values.iter().fold((f64::MAX, f64::MIN), |(from, to), v| (from.min(*v), to.max(*v)));
            let spread = if values.len() > 1 { format!("{} .. {}", shown(from), shown(to)) } else { String::new() };
            print(&format!(
                "{scenario:<34} {in_flight:>9} {:>11} {unit:<7} {spread:>23} {:>11} {:>6}",
                shown(value),
                raw.map(shown).unwrap_or_default(),
                ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
            ));
        }
    }
}

/// One line. Whoever reads may have had enough; the rest is then for nobody.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The middle one; of an even number the lower of the two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }
}
