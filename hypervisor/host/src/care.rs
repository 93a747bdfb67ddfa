//! What is done about guests without a command: those that have stopped by themselves, and
//! checkpoints that are due.
//!
//! [`Care`] remembers what it must of each guest, and says what comes [next](Care::next) and when.
//! [`recovery`](crate::recovery) decides what helps a guest that has stopped, and [`remedy`]
//! carries that out by [`Means`](remedy::Means), which `boot` has. [`crate::periodic`] has the
//! timetables of checkpoints. Times are in microseconds since the machine was switched on.

mod news;
pub mod remedy;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use stasis_guest::stop::Stopped;

use crate::config::{GuestConfig, Policy};
use crate::periodic::{self, Courtesy, Timetable};
use crate::recovery::{Recovery, Remedy};
use crate::run_state::RunState;

pub use news::{Attempt, AttemptReport, Outcome};

/// What is remembered of all guests of type `G`, whose checkpoints fail with `E`.
#[derive(Debug)]
pub struct Care<G, E> {
    /// Guests that have stopped by themselves, with their numbers, and nothing was done about it
    /// yet. The first one waits the longest.
    stopped: VecDeque<(usize, Arc<G>, Stopped)>,
    /// Guests that have stopped and could not be helped for want of memory, with their numbers, and
    /// when that is tried again.
    put_off: Vec<(u64, usize, Arc<G>, Stopped)>,
    /// By the guests' numbers.
    records: Vec<Record<E>>,
    /// When the console was used, and when a checkpoint was made.
    courtesy: Courtesy,
}

/// Microseconds after which a guest that was put off is tried again. A try may read a whole
/// checkpoint, so each pause is twice as long as the one before.
const PUT_OFF_US: u64 = 1_000_000;
/// Most times that a pause becomes longer.
const MOST_DOUBLED: u32 = 4;

/// What is remembered of a guest.
#[derive(Debug)]
struct Record<E> {
    recovery: Recovery,
    /// How often it was put off since it has stopped.
    times_put_off: u32,
    checkpoints: Option<Timetable>,
    /// Why its last periodic checkpoint failed: the same is not said twice.
    failure: Option<E>,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Duty<G> {
    /// A guest has stopped so.
    Treat(Arc<G>, Stopped),
    /// A guest's checkpoint is due.
    Store(Arc<G>, Timetable),
}

impl<E> Record<E> {
    fn new() -> Self {
        Self { recovery: Recovery::default(), times_put_off: 0, checkpoints: None, failure: None }
    }
}

impl<G, E> Care<G, E> {
    /// Returns the care for no guests.
    pub const fn new() -> Self {
        Self {
            stopped: VecDeque::new(),
            put_off: Vec::new(),
            records: Vec::new(),
            courtesy: Courtesy::new(),
        }
    }

    /// Notes that the console is used: checkpoints that are due wait for it.
    pub fn console_is_used(&mut self, now_us: u64) {
        self.courtesy.typed(now_us);
    }

    /// Begins to care for a guest that was made, is in this state, and is configured so, if it is.
    pub fn begin(
        &mut self,
        number: usize,
        config: Option<&GuestConfig>,
        state: RunState,
        now_us: u64,
    ) {
        let mut recovery =
            config.map_or_else(Recovery::default, |config| Recovery::new(config.well_after_us));
        if state == RunState::Running {
            recovery.runs(now_us);
        }
        let periodic = config.and_then(|config| config.periodic);
        let checkpoints = periodic.map(|periodic| Timetable::new(periodic, now_us));
        *self.record(number) = Record { recovery, checkpoints, ..Record::new() };
    }

    /// Ends to care for a guest that is removed: nothing is remembered of it.
    pub fn end(&mut self, number: usize) {
        self.forget_stop(number);
        self.settle(number);
        *self.record(number) = Record::new();
    }

    /// Notes that a guest runs from now on, whoever has started it.
    pub fn runs(&mut self, number: usize, now_us: u64) {
        self.settle(number);
        self.record(number).recovery.runs(now_us);
    }

    /// Notes that a guest starts anew.
    pub fn starts(&mut self, number: usize, now_us: u64) {
        self.settle(number);
        self.record(number).recovery.starts(now_us);
    }

    /// Notes that a guest does not run from now on.
    pub fn rests(&mut self, number: usize) {
        self.record(number).recovery.rests();
    }

    /// Notes that a guest was resumed from this checkpoint, by whomever, and whether it is on then.
    pub fn resumed(&mut self, number: usize, checkpoint: u64, is_on: bool, now_us: u64) {
        if !is_on {
            // If the guest before had stopped, that is over. Of one that is on nothing is
            // forgotten: it may have stopped anew, and who treats it passes over what concerns a
            // guest that is alive.
            self.forget_stop(number);
        }
        self.settle(number);
        let recovery = &mut self.record(number).recovery;
        recovery.resumed(checkpoint, now_us);
        if !is_on {
            recovery.rests();
        }
    }

    /// Notes that a guest has stopped by itself.
    pub fn stopped(&mut self, number: usize, guest: Arc<G>, how: Stopped) {
        self.stopped.push_back((number, guest, how));
    }

    /// Notes that a guest that has stopped could not be helped for want of memory: that is tried
    /// again in a while, unless the guest starts, is resumed or is removed before. Returns whether
    /// it was not put off before, since it has stopped.
    pub fn put_off(&mut self, number: usize, guest: Arc<G>, how: Stopped, now_us: u64) -> bool {
        let times = &mut self.record(number).times_put_off;
        let pause_us = PUT_OFF_US << (*times).min(MOST_DOUBLED);
        *times = times.saturating_add(1);
        let is_first = *times == 1;
        self.put_off.push((now_us.saturating_add(pause_us), number, guest, how));
        is_first
    }

    /// Returns whether the guest was put off since it has stopped.
    pub fn was_put_off(&mut self, number: usize) -> bool {
        self.record(number).times_put_off > 0
    }

    /// Takes what is to be done now, if anything is: about guests that have stopped, in the order
    /// in which they have; else the checkpoint that has waited the longest, if the console is
    /// quiet. `guests` are those of the machine, with their numbers.
    pub fn next(
        &mut self,
        guests: impl Iterator<Item = (usize, Arc<G>)>,
        now_us: u64,
    ) -> Option<Duty<G>> {
        if let Some((_, guest, how)) = self.stopped.pop_front() {
            return Some(Duty::Treat(guest, how));
        }
        if let Some(at) = self.put_off.iter().position(|(due_us, ..)| *due_us <= now_us) {
            let (_, _, guest, how) = self.put_off.remove(at);
            return Some(Duty::Treat(guest, how));
        }
        let records = &self.records;
        let tables =
            guests.filter_map(|(number, guest)| Some((guest, records.get(number)?.checkpoints?)));
        let (guest, table) = periodic::first_due(tables, now_us)?;
        let begins_us = self.courtesy.begins_us(table.next_us());
        (begins_us <= now_us).then_some(Duty::Store(guest, table))
    }

    /// Returns when [`Self::next`] has something, unless something happens before: now, if a guest
    /// has stopped.
    pub fn next_us(&self, now_us: u64) -> Option<u64> {
        if !self.stopped.is_empty() {
            return Some(now_us);
        }
        let tables = self.records.iter().filter_map(|record| record.checkpoints.as_ref());
        let stored_us = tables.map(Timetable::next_us).min();
        let stored_us = stored_us.map(|due_us| self.courtesy.begins_us(due_us));
        let put_off_us = self.put_off.iter().map(|(due_us, ..)| *due_us).min();
        stored_us.into_iter().chain(put_off_us).min()
    }

    /// Decides what helps a guest that has stopped so, and is configured so, if it is.
    pub fn decide(
        &mut self,
        number: usize,
        how: Stopped,
        config: Option<&GuestConfig>,
        now_us: u64,
    ) -> Remedy {
        let (on_reset, on_crash) = config
            .map_or((Policy::Restart, Policy::Stop), |config| (config.on_reset, config.on_crash));
        self.record(number).recovery.decide(how, on_reset, on_crash, now_us)
    }

    /// Notes that what was decided is done.
    pub fn done(&mut self, number: usize, remedy: Remedy, now_us: u64) {
        if matches!(remedy, Remedy::Restart | Remedy::Resume { .. }) {
            self.record(number).recovery.helped(now_us);
        }
    }

    /// Returns up to which number the guest's periodic checkpoints are not to be deleted; 0: any
    /// may be. `newest` is the highest number that the store has, before a new one is made.
    pub fn spared(&mut self, number: usize, newest: u64, now_us: u64) -> u64 {
        self.record(number).recovery.spared(newest, now_us)
    }

    /// Notes that no checkpoint is made this time, as the guest does not run.
    pub fn skip(&mut self, number: usize, now_us: u64) {
        if let Some(table) = &mut self.record(number).checkpoints {
            table.skip(now_us);
        }
        self.courtesy.made(now_us);
    }

    /// Notes that a guest is helped, or needs no help: nothing is put off.
    fn settle(&mut self, number: usize) {
        self.put_off.retain(|(_, other, ..)| *other != number);
        self.record(number).times_put_off = 0;
    }

    fn forget_stop(&mut self, number: usize) {
        self.stopped.retain(|(other, ..)| *other != number);
    }

    fn record(&mut self, number: usize) -> &mut Record<E> {
        if self.records.len() <= number {
            self.records.resize_with(number + 1, Record::new);
        }
        &mut self.records[number]
    }
}

impl<G, E> Default for Care<G, E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
