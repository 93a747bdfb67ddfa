//! Changes to a core whose tasks run: their weights, and the frame; and what became of its windows.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Chosen, Group, Roused, SCALE, SHARED, Scheduler, State, TaskId};
use crate::config::CoreConfig;

/// The windows that a guest has missed on a core, since the core was divided last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The guest.
    pub guest: String,
    /// Number of windows of which more than a tenth was over before a vCPU could run that wanted
    /// to.
    pub count: u64,
    /// Ticks by which the last of them was late; 0 if there was none.
    pub late: u64,
}

impl Scheduler {
    /// Returns a task's weight.
    pub fn weight(&self, task: TaskId) -> u64 {
        self.tasks[task].weight
    }

    /// Gives a task another weight, from `now` on. What it has had until then counts as before.
    pub fn set_weight(&mut self, task: TaskId, weight: u16, now: u64) {
        self.charge(now);
        let weight = u64::from(weight.max(1));
        let task = &mut self.tasks[task];
        (task.weight, task.credit) = (weight, (self.slice / 2 * SCALE / weight).into());
    }

    /// Divides the core's time anew from `now` on, whatever tasks it has: by the frame and the
    /// windows of `plan`, or by weights alone if there is none. Among the tasks of a window, and
    /// among those without one, who was ahead of the others stays so. The caller makes the core
    /// [decide](Self::decide).
    pub fn divide_anew(&mut self, plan: Option<&CoreConfig>, frequency: u64, now: u64) {
        self.charge(now);
        (0..self.groups.len()).for_each(|group| {
            self.catch_up(group);
        });
        let least = |group: usize| self.groups[group].least;
        let leads: Vec<u128> =
            self.tasks.iter().map(|task| task.had.saturating_sub(least(task.group))).collect();
        self.groups = Vec::from([Group::new("")]);
        self.frame = None;
        if let Some(plan) = plan {
            let windows = plan.windows.iter();
            let windows = windows.map(|one| (one.guest.as_str(), one.at_us, one.length_us));
            self.divide(plan.frame_us, windows, frequency, 0);
            self.frame.iter_mut().for_each(|frame| frame.tell_from(now));
        }
        for (id, lead) in leads.into_iter().enumerate() {
            let group = self.group_of(&self.names[id]).unwrap_or(SHARED);
            (self.tasks[id].group, self.tasks[id].had) = (group, lead);
            match self.tasks[id].state {
                State::Runnable if self.current == Chosen(id) => {
                    self.groups[group].current = Chosen(id);
                }
                State::Runnable => self.groups[group].ready.insert(id, lead),
                State::Asleep(until) => self.note_wake(group, until),
                State::Gone => {}
            }
        }
        (self.group, self.slice_end, self.turn_end) = (SHARED, 0, now);
        self.roused = Roused::Several;
    }

    /// Returns what became of the windows of each guest that has any.
    pub fn missed(&self) -> Vec<Missed> {
        let of = |group: &Group| Missed {
            guest: group.name.clone(),
            count: group.missed,
            late: group.late,
        };
        self.groups.iter().skip(1).map(of).collect()
    }
}
