//! `top` with a time, asked for by the channel: tables that come as time goes on, while other
//! requests are carried out.

use crate::answer::Answer;
use crate::console::find::guests_are_free;
use crate::console::top::Reading;
use stasis_arch::timer;
use stasis_console::command::Command;
use stasis_run::turns::Task;

/// What is shown again and again.
pub struct TopWatch {
    /// The request's id.
    pub id: u16,
    answer: Answer,
    json: bool,
    earlier: Reading,
    /// Ticks from one table to the next.
    period: u64,
    /// The counter at which the next table is due.
    pub due: u64,
    /// Tables that are still to be shown.
    left: u64,
}

impl TopWatch {
    /// Returns what a command wants to be shown; `None` if it is no `top` with a time.
    pub fn of(id: u16, command: &Command, answer: Answer) -> Option<Self> {
        let Command::Top { seconds: Some(seconds), times, json } = *command else { return None };
        let earlier = Reading::take();
        let period = seconds * timer::frequency();
        let due = timer::counter() + period;
        Some(Self { id, answer, json, earlier, period, due, left: times })
    }

    /// Shows a table, if one is due. Returns whether it was the last one.
    pub fn step(&mut self, task: &mut Task) -> bool {
        if timer::counter() < self.due || !guests_are_free() {
            return false;
        }
        let now = Reading::take();
        // Writing an answer does not fail.
        let _ = now.since(&self.earlier).write(&mut self.answer, self.json);
        self.answer.send(task);
        self.earlier = now;
        self.due += self.period;
        self.left -= 1;
        self.left == 0
    }
}
