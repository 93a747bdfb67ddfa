//! What is done about guests without a command: those that have stopped, and checkpoints that are due. On the console's core, and
//! in its turn: each thing takes as long as a command, and the console is looked after before the next.
//!
//! [`stasis_host::care`] decides; this carries it out.

use crate::checkpoint::{self, Keep};
use crate::console;
use crate::{guests, typed};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use spin::mutex::SpinMutex;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_host::care::remedy::{Means, Setback, help};
use stasis_host::care::{Attempt, Care, Duty, News, Outcome};
use stasis_host::config::GuestConfig;
use stasis_host::periodic::{self, Timetable};
use stasis_host::run_state::RunState;
use stasis_run::slot::Slot;
use stasis_run::{clock, turns};

/// What is remembered of all guests. Other cores note here that one has stopped.
static CARE: SpinMutex<Care<Slot, String>> = SpinMutex::new(Care::new());

/// Notes that the console is used: checkpoints that are due wait for it.
pub fn console_is_used() {
    CARE.lock().console_is_used(clock::now_us());
}

/// Begins to care for a guest that was made in this state.
pub fn begin(slot: &Slot, config: Option<&GuestConfig>, state: RunState) {
    CARE.lock().begin(slot.number, config, state, clock::now_us());
    turns::wake_console();
}

/// Notes that a guest runs from now on, whoever has started it.
pub fn runs(slot: &Slot) {
    CARE.lock().runs(slot.number, clock::now_us());
}

/// Notes that a guest starts anew.
pub fn starts(slot: &Slot) {
    CARE.lock().starts(slot.number, clock::now_us());
}

/// Notes that a guest does not run from now on.
pub fn rests(slot: &Slot) {
    CARE.lock().rests(slot.number);
}

/// Notes that a guest was resumed from this checkpoint, by whomever, and whether it is on then.
pub fn resumed(name: &str, checkpoint: u64, is_on: bool) {
    if let Some(slot) = guests::all().iter().find(|slot| slot.name == name) {
        CARE.lock().resumed(slot.number, checkpoint, is_on, clock::now_us());
    }
}

/// Ends to care for a guest that is removed: nothing is remembered of it.
pub fn end(slot: &Slot) {
    CARE.lock().end(slot.number);
}

/// Notes that a guest has stopped by itself. It is for [`serve`], for what is to be done may take long, and the core has other
/// vCPUs.
pub fn stopped(slot: Arc<Slot>, how: Stopped) {
    CARE.lock().stopped(slot.number, slot, how);
    turns::wake_console();
}

/// Does one of the things that are to be done. Returns whether there was one, in which time other things may have come.
pub fn serve() -> bool {
    let guests = guests::all().into_iter().map(|slot| (slot.number, slot));
    let duty = CARE.lock().next(guests, clock::now_us());
    match duty {
        None => return false,
        Some(Duty::Treat(slot, how)) => treat(&slot, how),
        Some(Duty::Store(slot, table)) => store(&slot, table),
    }
    true
}

/// Returns when [`serve`] has something to do, as the counter.
pub fn next_due() -> Option<u64> {
    let now_us = clock::now_us();
    let due_us = CARE.lock().next_us(now_us)?;
    Some(if due_us <= now_us { timer::counter() } else { clock::counter_at(due_us) })
}

/// Does what is configured about a guest that has stopped, unless a command was faster.
fn treat(slot: &Slot, how: Stopped) {
    let mut parked = slot.park();
    if !parked.state.needs_care() {
        return;
    }
    parked.release_devices();
    drop(parked);
    let config = guests::configured(&slot.name);
    let remedy = CARE.lock().decide(slot.number, how, config, clock::now_us());
    let report = help(remedy, how, &mut Helper(slot));
    match report.runs() {
        true => console::notice(slot, &report.to_string()),
        false => console::halted(slot, &report.to_string()),
    }
    CARE.lock().done(slot.number, remedy, clock::now_us());
}

/// What can be done with a guest.
struct Helper<'a>(&'a Slot);

impl Means for Helper<'_> {
    type Error = String;

    fn restart(&mut self) -> Result<(), String> {
        guests::restart(self.0).map_err(|error| error.to_string())
    }

    fn checkpoints(&mut self) -> Result<Vec<u64>, String> {
        checkpoint::of_guest(&self.0.name)
    }

    fn resume(&mut self, number: u64) -> Result<bool, String> {
        checkpoint::resume(&number.to_string(), None, false, &mut Silence)?;
        Ok(self.0.park().state.is_alive())
    }

    fn warn(&mut self, setback: Setback<'_, String>) {
        log::warn!("guest \"{}\" {setback}", self.0.name);
    }
}

/// Makes a guest's periodic checkpoint, if it runs; a command that is typed meanwhile comes before it. What fails, or takes too long, is
/// said in the log; the guest goes on.
fn store(slot: &Slot, table: Timetable) {
    let (name, number, began_us) = (&slot.name, slot.number, clock::now_us());
    if slot.park().state != RunState::Running {
        CARE.lock().skip(number, began_us);
        return;
    }
    let make = || store_and_replace_surplus(slot, table.periodic().keep).err();
    let (failure, was_told) = match table.may_be_given_up() {
        true => typed::yielding(make),
        false => (make(), false),
    };
    let attempt = Attempt { began_us, ended_us: clock::now_us(), failure, was_told };
    let News { outcome, behind } = CARE.lock().stored(number, attempt);
    match outcome {
        Some(outcome @ Outcome::Fails(_)) => log::error!("guest \"{name}\": {outcome}"),
        Some(outcome) => log::info!("guest \"{name}\": {outcome}"),
        None => {}
    }
    if let Some(behind) = behind {
        log::warn!("guest \"{name}\": {behind}");
    }
}

/// Makes a guest's periodic checkpoint, in the place of those that are too many then.
fn store_and_replace_surplus(slot: &Slot, keep: u8) -> Result<(), String> {
    let newest = checkpoint::newest()?;
    let spared = CARE.lock().spared(slot.number, newest, clock::now_us());
    let name = periodic::name(&slot.name);
    let keep = Keep { newest: keep, spared };
    checkpoint::store(&[slot], Some(&name), Some(keep), &mut Silence)
}

/// Where commands say what nobody has asked for.
struct Silence;

impl fmt::Write for Silence {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}
