//! How far we are: a bar on a terminal, a line now and then everywhere else.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

#[derive(Debug)]
pub(crate) enum Progress {
    Bar(ProgressBar),
    /// Remembers the last tenth it has told about.
    Lines {
        tenth: u64,
    },
}

impl Progress {
    pub(crate) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { tenth: 0 };
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs, {elapsed}") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    pub(crate) fn show(&mut self, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines { tenth } => {
                let reached = (done * 10).checked_div(total).unwrap_or(10);
                if reached > *tenth {
                    *tenth = reached;
                    eprintln!("{done} of {total} jobs");
                }
            }
        }
    }

    /// Tells something without tearing the bar.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Self::Lines { .. } => eprintln!("{text}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
