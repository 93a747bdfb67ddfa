//! [`Progress`]: what says how much of a checkpoint is done.

use crate::answer::Answer;

/// Tells whoever has asked for work how much of it is done.
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

    /// Tells that `done` of `total` is done.
    pub fn report(&mut self, done: u64, total: u64) {
        let tenths = (done * 10).checked_div(total).unwrap_or(0);
        self.out.progress(self.what, done, total, tenths > self.tenths);
        self.tenths = tenths.max(self.tenths);
    }
}
