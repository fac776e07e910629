//! Figures, as a table for people or one JSON object a line.

/// One figure beside its raw counterpart.
pub(crate) struct Figure {
    pub(crate) scenario: &'static str,
    pub(crate) in_flight: u32,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) raw: Option<f64>,
}

pub(crate) struct Report {
    pub(crate) broker: String,
    pub(crate) json: bool,
}

impl Report {
    pub(crate) fn head(&self) {
        if !self.json {
            println!(
                "{:<28} {:>9} {:>12} {:<7} {:>12} {:>6}",
                "scenario", "in flight", "value", "unit", "raw", "ratio"
            );
        }
    }

    pub(crate) fn say(&self, figure: &Figure) {
        let Figure { scenario, in_flight, value, unit, raw } = figure;
        let ratio = raw.map(|raw| value / raw);
        if self.json {
            let number = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.3}"));
            println!(
                "{{\"broker\":\"{}\",\"scenario\":\"{scenario}\",\"in_flight\":{in_flight},\"value\":{value:.3},\
                 \"unit\":\"{unit}\",\"raw\":{},\"ratio\":{}}}",
                self.broker,
                number(*raw),
                number(ratio)
            );
        } else {
            let shown =
                |value: Option<f64>, digits: usize| value.map_or_else(String::new, |value| format!("{value:.digits$}"));
            let digits = if *unit == "ms" { 2 } else { 0 };
            println!(
                "{scenario:<28} {in_flight:>9} {value:>12.digits$} {unit:<7} {:>12} {:>6}",
                shown(*raw, digits),
                shown(ratio, 2)
            );
        }
    }
}
