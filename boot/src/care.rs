//! What is done about guests without a command: those that have stopped, and checkpoints that are due. On the console's core, and
//! in its turn: it takes as long as a command.
//!
//! [`stasis_vm::recovery`] and [`stasis_vm::periodic`] decide; this carries it out.

use crate::checkpoint;
use crate::console;
use crate::guests;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use spin::mutex::SpinMutex;
use stasis_run::slot::{RunState, Slot};
use stasis_run::{clock, turns};
use stasis_vm::config::{Periodic, Policy};
use stasis_vm::periodic::{self, Timetable};
use stasis_vm::recovery::{ATTEMPTS, PERIOD_US, Recovery, Remedy, Stopped};

/// Guests that have stopped by themselves, and nothing was done about it yet.
static STOPPED: SpinMutex<Vec<(Arc<Slot>, Stopped)>> = SpinMutex::new(Vec::new());
/// What is remembered of each guest, by its number.
static RECORDS: SpinMutex<Vec<Record>> = SpinMutex::new(Vec::new());

/// What is remembered of a guest.
#[derive(Default)]
struct Record {
    recovery: Recovery,
    checkpoints: Option<(Timetable, Periodic)>,
    /// Why its last periodic checkpoint failed: the same is not said twice.
    failure: Option<String>,
}

/// Begins to care for a guest.
pub fn begin(slot: &Slot, periodic: Option<Periodic>) {
    let checkpoints =
        periodic.map(|periodic| (Timetable::new(periodic, clock::now_us()), periodic));
    with_record(slot, |record| *record = Record { checkpoints, ..Record::default() });
    turns::wake_console();
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

/// Does what is to be done.
pub fn serve() {
    let stopped = core::mem::take(&mut *STOPPED.lock());
    for (slot, how) in stopped {
        treat(&slot, how);
    }
    for slot in guests::all() {
        let now = clock::now_us();
        let due = with_record(&slot, |record| {
            let (table, periodic) = record.checkpoints.as_mut()?;
            table.take(now).then_some(*periodic)
        });
        if let Some(periodic) = due {
            store(&slot, periodic);
        }
    }
}

/// When [`serve`] has something to do, as the counter.
pub fn next_due() -> Option<u64> {
    let records = RECORDS.lock();
    let tables = records.iter().filter_map(|record| record.checkpoints.as_ref());
    tables.map(|(table, _)| clock::counter_at(table.next_us())).min()
}

/// Does what is configured about a guest that has stopped.
fn treat(slot: &Slot, how: Stopped) {
    let (on_reset, on_crash) = guests::configured(&slot.name)
        .map_or((Policy::Restart, Policy::Stop), |config| (config.on_reset, config.on_crash));
    let mut parked = slot.park();
    // A command was faster.
    if parked.state.is_alive() {
        return;
    }
    parked.release_devices();
    drop(parked);
    let now = clock::now_us();
    let remedy = with_record(slot, |record| record.recovery.decide(how, on_reset, on_crash, now));
    match remedy {
        Remedy::Stop => console::halted(slot, &how.to_string()),
        Remedy::GiveUp => {
            let seconds = PERIOD_US / 1_000_000;
            let why =
                format!("{how}, and stays off: it was helped {ATTEMPTS} times in {seconds} s");
            console::halted(slot, &why);
        }
        Remedy::Restart => restart(slot, how),
        Remedy::Resume { older } => match resume(slot, older) {
            Ok(number) => {
                console::notice(slot, &format!("{how}; it goes on from checkpoint {number}"));
            }
            Err(why) => {
                log::warn!("guest \"{}\" is not resumed: {why}", slot.name);
                restart(slot, how);
            }
        },
    }
}

fn restart(slot: &Slot, how: Stopped) {
    match guests::restart(slot) {
        Ok(()) => console::notice(slot, &format!("{how}; it starts again")),
        Err(why) => console::halted(slot, &format!("{how}, and stays off: {why}")),
    }
}

/// Resumes a guest from its last checkpoint that is good, but for the last `older` ones. Returns its number.
fn resume(slot: &Slot, older: usize) -> Result<u64, String> {
    let numbers = checkpoint::of_guest(&slot.name)?;
    let mut why = match older {
        0 => "it has no checkpoint".to_string(),
        _ => format!("it has no checkpoint but its last {older}, which did not help"),
    };
    for number in numbers.into_iter().skip(older) {
        match checkpoint::resume(&number.to_string(), None, false, &mut Silence) {
            Ok(()) => return Ok(number),
            Err(error) => {
                why = format!("checkpoint {number}: {error}");
                log::warn!("guest \"{}\" is not resumed from {why}", slot.name);
            }
        }
    }
    Err(why)
}

/// Makes a guest's periodic checkpoint, if it runs, and deletes those that are too many then. What fails is said in the log, once
/// as long as it is the same; the guest goes on.
fn store(slot: &Slot, Periodic { keep, .. }: Periodic) {
    if slot.park().state != RunState::Running {
        return;
    }
    let name = periodic::name(&slot.name);
    let result = checkpoint::store(&[slot], Some(&name), &mut Silence)
        .and_then(|()| checkpoint::delete_surplus(&name, keep));
    let failure = result.err();
    let news = with_record(slot, |record| {
        let is_new = record.failure != failure;
        record.failure.clone_from(&failure);
        is_new
    });
    match failure {
        Some(why) if news => {
            log::error!("guest \"{}\": no periodic checkpoint: {why}", slot.name);
        }
        None if news => log::info!("guest \"{}\": periodic checkpoints succeed again", slot.name),
        _ => {}
    }
}

/// Where commands say what nobody has asked for.
struct Silence;

impl fmt::Write for Silence {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}
