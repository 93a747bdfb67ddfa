//! [`Progress`]: lines that say how much of a checkpoint is done.

use crate::answer::Answer;
use core::fmt::Write;

/// Writes a line for each tenth of the work that is done.
pub struct Progress<'a> {
    what: &'static str,
    tenths: u64,
    out: &'a mut Answer,
}

impl<'a> Progress<'a> {
    /// Returns the progress of work that `what` names, such as `stored`.
    pub fn new(what: &'static str, out: &'a mut Answer) -> Self {
        Self { what, tenths: 0, out }
    }

    /// Writes a line if another tenth of `total` is done, and sends it at once.
    pub fn report(&mut self, done: u64, total: u64) {
        let tenths = (done * 10).checked_div(total).unwrap_or(0);
        if tenths > self.tenths {
            self.tenths = tenths;
            let _ = writeln!(self.out, "... {}: {}%", self.what, tenths * 10);
            self.out.send_lines();
        }
    }
}
