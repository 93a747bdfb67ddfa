//! How far a checkpoint is.

use core::fmt::Write;

/// Prints a line for each tenth of the way.
pub struct Progress<'a> {
    what: &'static str,
    tenths: u64,
    out: &'a mut dyn Write,
}

impl<'a> Progress<'a> {
    pub fn new(what: &'static str, out: &'a mut dyn Write) -> Self {
        Self { what, tenths: 0, out }
    }

    pub fn report(&mut self, done: u64, total: u64) {
        let tenths = (done * 10).checked_div(total).unwrap_or(0);
        if tenths > self.tenths {
            self.tenths = tenths;
            let _ = writeln!(self.out, "... {}: {}%", self.what, tenths * 10);
        }
    }
}
