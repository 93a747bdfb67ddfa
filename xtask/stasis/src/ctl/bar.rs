//! [`Bar`]: a bar that shows how far something is.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on the standard error, where that is a terminal, from when progress comes. It goes when it
/// is dropped.
#[derive(Default)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Shows that `done` of `total` is done of what `what` names.
    pub(super) fn show(&mut self, done: u64, total: u64, what: &str) {
        if !io::stderr().is_terminal() {
            return;
        }
        let bar = self.0.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            // The template is a constant, and right.
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3}% {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        // What stands there comes from the machine.
        bar.set_message(what.chars().filter(|c| c.is_ascii_graphic()).take(16).collect::<String>());
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Hides the bar while `print` prints something.
    pub(super) fn hide(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
