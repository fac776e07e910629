//! How many messages may be without the server's word.

/// This many refusals in a row close the window to one message at a time.
const CLOSE_AFTER: u32 = 3;

/// This many confirms in a row open it by one step.
const OPEN_AFTER: u32 = 5;

/// What one step multiplies the window by: 1, 8, 64, 512, …
const STEP: usize = 8;

/// The adaptive window: a server that refuses is asked one message at a time, until it takes them again.
#[derive(Debug)]
pub(super) struct Window {
    widest: usize,
    now: usize,
    refusals: u32,
    confirms: u32,
}

impl Window {
    pub(super) fn new(widest: usize) -> Self {
        let widest = widest.max(1);
        Self { widest, now: widest, refusals: 0, confirms: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.now
    }

    /// Takes note of a refusal; says whether it has closed the window.
    pub(super) fn refused(&mut self) -> bool {
        self.confirms = 0;
        self.refusals += 1;
        let closes = self.refusals >= CLOSE_AFTER && self.now > 1;
        if closes {
            self.now = 1;
        }
        closes
    }

    /// Takes note of a confirm.
    pub(super) fn confirmed(&mut self) {
        self.refusals = 0;
        if self.now == self.widest {
            return;
        }
        self.confirms += 1;
        if self.confirms >= OPEN_AFTER {
            self.confirms = 0;
            self.now = (self.now * STEP).min(self.widest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(window: &mut Window, times: usize) -> Vec<bool> {
        (0..times).map(|_| window.refused()).collect()
    }

    fn confirm(window: &mut Window, times: usize) -> usize {
        (0..times).for_each(|_| window.confirmed());
        window.size()
    }

    #[test]
    fn three_refusals_in_a_row_close_it_and_five_confirms_open_it_step_by_step() {
        let mut window = Window::new(1024);
        assert_eq!(refuse(&mut window, 2), [false, false]);
        assert_eq!(confirm(&mut window, 1), 1024);
        assert_eq!(refuse(&mut window, 4), [false, false, true, false]);
        assert_eq!(window.size(), 1);
        assert_eq!(confirm(&mut window, 4), 1);
        assert_eq!(confirm(&mut window, 1), 8);
        // A refusal in between starts the count again.
        confirm(&mut window, 4);
        refuse(&mut window, 1);
        assert_eq!(confirm(&mut window, 4), 8);
        assert_eq!(confirm(&mut window, 1), 64);
        assert_eq!(confirm(&mut window, 5), 512);
        assert_eq!(confirm(&mut window, 5), 1024);
        assert_eq!(Window::new(0).size(), 1);
    }
}
