//! How many messages may be under way at a time, by what the server said of the last ones.
//!
//! A server that says no to one message will say no to the next thousand as well: after three refusals in a row one
//! message goes out at a time. Five acknowledgements in a row open the window again, in steps.

/// Refusals in a row that close the window.
const NACKS: u8 = 3;
/// Acknowledgements in a row that open it by a step.
const ACKS: u8 = 5;
/// The steps below the full window.
const STEPS: [usize; 3] = [1, 8, 64];

/// The window and what moves it.
#[derive(Debug)]
pub(super) struct Pace {
    full: usize,
    /// The index into the steps, and their number for the full window.
    step: usize,
    nacks: u8,
    acks: u8,
}

impl Pace {
    pub(super) fn new(full: usize) -> Self {
        Self { full, step: STEPS.len(), nacks: 0, acks: 0 }
    }

    pub(super) fn window(&self) -> usize {
        STEPS.get(self.step).map_or(self.full, |step| self.full.min(*step)).max(1)
    }

    /// The server took a message in.
    pub(super) fn acked(&mut self) {
        self.nacks = 0;
        if self.step == STEPS.len() {
            return;
        }
        self.acks += 1;
        if self.acks == ACKS {
            self.acks = 0;
            self.step += 1;
            tracing::info!(window = self.window(), "the server takes in messages; more are sent at a time");
        }
    }

    /// The server refused a message.
    pub(super) fn nacked(&mut self) {
        self.acks = 0;
        self.nacks = self.nacks.saturating_add(1);
        if self.nacks >= NACKS && self.step > 0 {
            self.step = 0;
            tracing::warn!(refused = self.nacks, "the server refuses messages; one is sent at a time");
        }
    }

    /// Whether refusals have begun, but are not yet so many that they close the window.
    pub(super) fn in_doubt(&self) -> bool {
        (1..NACKS).contains(&self.nacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(full: usize, words: &str) -> (usize, bool) {
        let mut pace = Pace::new(full);
        for word in words.chars() {
            if word == 'a' { pace.acked() } else { pace.nacked() }
        }
        (pace.window(), pace.in_doubt())
    }

    #[test]
    fn three_refusals_in_a_row_close_it_and_five_acks_each_open_it_by_a_step() {
        assert_eq!(after(1024, ""), (1024, false));
        assert_eq!(after(1024, "nn"), (1024, true));
        assert_eq!(after(1024, "nnannann"), (1024, true), "not in a row");
        assert_eq!(after(1024, "nnn"), (1, false));
        assert_eq!(after(1024, "nnnnnnnn"), (1, false));
        assert_eq!(after(1024, "nnnaaaa"), (1, false));
        assert_eq!(after(1024, "nnnaaaaa"), (8, false));
        assert_eq!(after(1024, "nnnaaaanaaaa"), (1, false), "not in a row");
        assert_eq!(after(1024, &format!("nnn{}", "a".repeat(10))), (64, false));
        assert_eq!(after(1024, &format!("nnn{}", "a".repeat(14))), (64, false));
        assert_eq!(after(1024, &format!("nnn{}", "a".repeat(15))), (1024, false));
        assert_eq!(after(1024, &format!("nnn{}nnn", "a".repeat(10))), (1, false), "from any step");
    }

    #[test]
    fn a_small_window_stays_small() {
        assert_eq!(after(4, &format!("nnn{}", "a".repeat(5))), (4, false));
        assert_eq!(after(1, ""), (1, false));
        assert_eq!(after(0, ""), (1, false));
    }
}
