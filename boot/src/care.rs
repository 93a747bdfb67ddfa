//! What is done about guests without a command: those that have stopped, and checkpoints that are due. On the console's core, and
//! in its turn: each thing takes as long as a command, and the console is looked after before the next.
//!
//! [`stasis_host::recovery`] and [`stasis_host::periodic`] decide; this carries it out.

use crate::checkpoint::{self, Keep};
use crate::console;
use crate::{guests, typed};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use spin::mutex::SpinMutex;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_host::config::{GuestConfig, Policy};
use stasis_host::periodic::{self, Courtesy, Timetable};
use stasis_host::recovery::{Recovery, Remedy};
use stasis_host::run_state::RunState;
use stasis_run::slot::Slot;
use stasis_run::{clock, turns};

/// Guests that have stopped by themselves, and nothing was done about it yet.
static STOPPED: SpinMutex<Vec<(Arc<Slot>, Stopped)>> = SpinMutex::new(Vec::new());
/// What is remembered of each guest, by its number.
static RECORDS: SpinMutex<Vec<Record>> = SpinMutex::new(Vec::new());

/// When the console was used, and when a checkpoint was made.
static COURTESY: SpinMutex<Courtesy> = SpinMutex::new(Courtesy::new());

/// What is remembered of a guest.
#[derive(Default)]
struct Record {
    recovery: Recovery,
    checkpoints: Option<Timetable>,
    /// Why its last periodic checkpoint failed: the same is not said twice.
    failure: Option<String>,
}

/// Notes that the console is used: checkpoints that are due wait for it.
pub fn console_is_used() {
    COURTESY.lock().typed(clock::now_us());
}

/// Begins to care for a guest that was made in this state.
pub fn begin(slot: &Slot, config: Option<&GuestConfig>, state: RunState) {
    let now = clock::now_us();
    let mut recovery =
        config.map_or_else(Recovery::default, |config| Recovery::new(config.well_after_us));
    if state == RunState::Running {
        recovery.runs(now);
    }
    let periodic = config.and_then(|config| config.periodic);
    let checkpoints = periodic.map(|periodic| Timetable::new(periodic, now));
    with_record(slot, |record| *record = Record { recovery, checkpoints, failure: None });
    turns::wake_console();
}

/// Notes that a guest runs from now on, whoever has started it.
pub fn runs(slot: &Slot) {
    with_record(slot, |record| record.recovery.runs(clock::now_us()));
}

/// Notes that a guest starts anew.
pub fn starts(slot: &Slot) {
    with_record(slot, |record| record.recovery.starts(clock::now_us()));
}

/// Notes that a guest does not run from now on.
pub fn rests(slot: &Slot) {
    with_record(slot, |record| record.recovery.rests());
}

/// Notes that a guest was resumed from this checkpoint, by whomever, and whether it runs then.
pub fn resumed(name: &str, number: u64, is_on: bool) {
    let slots = guests::all();
    let Some(slot) = slots.iter().find(|slot| slot.name == name) else { return };
    if !is_on {
        // If the guest before had stopped, that is over. Of one that runs nothing is forgotten: it may have stopped anew, and `treat`
        // passes over what concerns a guest that is alive.
        STOPPED.lock().retain(|(stopped, _)| !Arc::ptr_eq(stopped, slot));
    }
    with_record(slot, |record| {
        record.recovery.resumed(number, clock::now_us());
        if !is_on {
            record.recovery.rests();
        }
    });
}

/// Ends to care for a guest that is removed: nothing is remembered of it.
pub fn end(slot: &Slot) {
    STOPPED.lock().retain(|(stopped, _)| !core::ptr::eq(&raw const **stopped, slot));
    with_record(slot, |record| *record = Record::default());
}

fn with_record<T>(slot: &Slot, action: impl FnOnce(&mut Record) -> T) -> T {
    let mut records = RECORDS.lock();
    if records.len() <= slot.number {
        records.resize_with(slot.number + 1, Record::default);
    }
    action(&mut records[slot.number])
}

/// Notes that a guest has stopped by itself. It is for [`serve`], for what is to be done may take long, and the core has other
/// vCPUs.
pub fn stopped(slot: Arc<Slot>, how: Stopped) {
    STOPPED.lock().push((slot, how));
    turns::wake_console();
}

/// Does one of the things that are to be done. Returns whether there was one, in which time other things may have come.
pub fn serve() -> bool {
    let stopped = {
        let mut stopped = STOPPED.lock();
        (!stopped.is_empty()).then(|| stopped.remove(0))
    };
    if let Some((slot, how)) = stopped {
        treat(&slot, how);
        return true;
    }
    let tables = guests::all().into_iter().filter_map(|slot| {
        let table = with_record(&slot, |record| record.checkpoints)?;
        Some((slot, table))
    });
    let now = clock::now_us();
    let Some((slot, table)) = periodic::first_due(tables, now) else { return false };
    let begins = COURTESY.lock().begins_us(table.next_us());
    if begins > now {
        return false;
    }
    store(&slot, table);
    COURTESY.lock().made(clock::now_us());
    true
}

/// When [`serve`] has something to do, as the counter.
pub fn next_due() -> Option<u64> {
    if !STOPPED.lock().is_empty() {
        return Some(timer::counter());
    }
    let records = RECORDS.lock();
    let tables = records.iter().filter_map(|record| record.checkpoints.as_ref());
    let due = tables.map(Timetable::next_us).min()?;
    Some(clock::counter_at(COURTESY.lock().begins_us(due)))
}

/// Does what is configured about a guest that has stopped.
fn treat(slot: &Slot, how: Stopped) {
    let (on_reset, on_crash) = guests::configured(&slot.name)
        .map_or((Policy::Restart, Policy::Stop), |config| (config.on_reset, config.on_crash));
    let mut parked = slot.park();
    // A command was faster.
    if !parked.state.needs_care() {
        return;
    }
    parked.release_devices();
    drop(parked);
    let now = clock::now_us();
    let remedy = with_record(slot, |record| record.recovery.decide(how, on_reset, on_crash, now));
    match remedy {
        Remedy::Stop => console::halted(slot, &how.to_string()),
        Remedy::GiveUp(limit) => {
            console::halted(slot, &format!("{how}, and stays off: it was helped {limit}"));
        }
        Remedy::Restart => restart(slot, how),
        Remedy::Resume { before } => match resume(slot, before) {
            Ok(number) => {
                console::notice(slot, &format!("{how}; it goes on from checkpoint {number}"));
            }
            Err(why) => {
                log::warn!("guest \"{}\" is not resumed: {why}", slot.name);
                restart(slot, how);
            }
        },
    }
    if matches!(remedy, Remedy::Restart | Remedy::Resume { .. }) {
        with_record(slot, |record| record.recovery.helped(clock::now_us()));
    }
}

fn restart(slot: &Slot, how: Stopped) {
    match guests::restart(slot) {
        Ok(()) => console::notice(slot, &format!("{how}; it starts again")),
        Err(why) => console::halted(slot, &format!("{how}, and stays off: {why}")),
    }
}

/// Resumes a guest from its last checkpoint that is good, of those before a number if there is one. Returns its number.
fn resume(slot: &Slot, before: Option<u64>) -> Result<u64, String> {
    let mut numbers = checkpoint::of_guest(&slot.name)?;
    numbers.retain(|number| before.is_none_or(|before| *number < before));
    let mut why = match before {
        None => "it has no checkpoint".to_string(),
        Some(before) => format!("it has no checkpoint before {before}, which did not help"),
    };
    for number in numbers {
        match checkpoint::resume(&number.to_string(), None, false, &mut Silence) {
            Ok(()) if slot.park().state.is_alive() => return Ok(number),
            Ok(()) => why = format!("checkpoint {number}: the guest is off there"),
            Err(error) => why = format!("checkpoint {number}: {error}"),
        }
        log::warn!("guest \"{}\" is not resumed from {why}", slot.name);
    }
    Err(why)
}

/// Makes a guest's periodic checkpoint, if it runs; a command that is typed meanwhile comes before it. What fails, or takes too long, is said in the log, once as long as it is the same; the guest
/// goes on.
fn store(slot: &Slot, table: Timetable) {
    let began = clock::now_us();
    if slot.park().state != RunState::Running {
        with_record(slot, |record| {
            record.checkpoints.iter_mut().for_each(|table| table.skip(began))
        });
        return;
    }
    let make = || store_and_replace_surplus(slot, table.periodic().keep).err();
    let (failure, was_told) = match table.may_be_given_up() {
        true => typed::yielding(make),
        false => (make(), false),
    };
    let ended = clock::now_us();
    if was_told && failure.is_some() {
        with_record(slot, |record| {
            record.checkpoints.iter_mut().for_each(|table| table.given_up(began, ended));
        });
        return;
    }
    let (is_new, behind) = with_record(slot, |record| {
        let is_new = record.failure != failure;
        record.failure.clone_from(&failure);
        (is_new, record.checkpoints.as_mut().and_then(|table| table.made(began, ended)))
    });
    match failure {
        Some(why) if is_new => {
            log::error!("guest \"{}\": no periodic checkpoint: {why}", slot.name);
        }
        None if is_new => log::info!("guest \"{}\": periodic checkpoints succeed again", slot.name),
        _ => {}
    }
    if let Some(behind) = behind {
        log::warn!("guest \"{}\": {behind}", slot.name);
    }
}

/// Makes a guest's periodic checkpoint, in the place of those that are too many then.
fn store_and_replace_surplus(slot: &Slot, keep: u8) -> Result<(), String> {
    let newest = checkpoint::newest()?;
    let spared = with_record(slot, |record| record.recovery.spared(newest, clock::now_us()));
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
