//! A list of steps with a clock: each says what it does, the end is a table.

use std::time::{Duration, Instant};

use crate::Result;

/// The steps that were run, in order.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    passed: bool,
}

impl Steps {
    /// Runs one step and notes how long it took and how it ended.
    pub(crate) fn run<T>(&mut self, name: impl Into<String>, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let name = name.into();
        println!("\n== {name}");
        let started = Instant::now();
        let result = step();
        self.done.push(Step { name, took: started.elapsed(), passed: result.is_ok() });
        result
    }

    /// The steps with their seconds, and the sum.
    pub(crate) fn table(&self) -> String {
        let width = self.done.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).max(5);
        let row =
            |name: &str, took: Duration, end: &str| format!("{name:<width$} {:>7.1} s  {end}\n", took.as_secs_f64());
        let mut text: String = self
            .done
            .iter()
            .map(|step| row(&step.name, step.took, if step.passed { "ok" } else { "FAILED" }))
            .collect();
        let passed = self.done.iter().all(|step| step.passed);
        text.push_str(&row(
            "total",
            self.done.iter().map(|step| step.took).sum(),
            if passed { "ok" } else { "FAILED" },
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn the_table_tells_which_step_failed() {
        let mut steps = Steps::default();
        steps.run("first", || Ok(())).unwrap();
        steps.run("second", || Err::<(), _>(Failure::new("no"))).unwrap_err();
        let table = steps.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("first") && lines[0].ends_with("ok"), "{table}");
        assert!(lines[1].starts_with("second") && lines[1].ends_with("FAILED"), "{table}");
        assert!(lines[2].starts_with("total") && lines[2].ends_with("FAILED"), "{table}");
    }
}
