//! The console on the machine's UART: its bytes, and what its commands do. On the first core, where it takes turns with
//! vCPUs: see [`turns`].

use crate::slot::{Resident, RunState, Slot};
use crate::{firmware, gic, guests, output, turns};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::LazyLock;
use spin::mutex::SpinMutex;
use stasis_vm::console::command::{self, Command};
use stasis_vm::console::table::{GuestRow, write_guests};
use stasis_vm::console::{Console, Input, Terminal, Text};

static CONSOLE: LazyLock<SpinMutex<Console>> = LazyLock::new(|| SpinMutex::new(Console::new()));
/// The UART's interrupt.
static UART_INTERRUPT: AtomicU32 = AtomicU32::new(u32::MAX);

/// The UART as the console wants it.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes(bytes);
    }
}

/// Opens the console on this core, whose interrupt is `intid`.
pub fn init(intid: u32) {
    UART_INTERRUPT.store(intid, Ordering::Relaxed);
    gic::route_here(intid);
    CONSOLE.lock().prompt(&mut Uart);
    // What was typed before is due now.
    turns::wake_console();
}

/// Takes an interrupt, if it is the console's: then there is something for [`serve`]. What was
/// received is taken from the UART there, so the interrupt is kept off until then.
pub fn take_interrupt(intid: u32) -> bool {
    let ours = intid == UART_INTERRUPT.load(Ordering::Relaxed);
    if ours {
        gic::disable(intid);
        turns::wake_console();
    }
    ours
}

/// Handles what was received.
pub fn serve() {
    while let Some(byte) = output::read() {
        let input = CONSOLE.lock().input(byte, &mut Uart);
        match input {
            Input::Nothing => {}
            Input::Guest { guest, byte } => {
                if let Some(slot) = guests::all().get(guest) {
                    slot.type_byte(byte);
                }
            }
            Input::Line(line) => {
                let result = execute(&line);
                CONSOLE.lock().answer(result, &mut Uart);
            }
        }
    }
    gic::route_here(UART_INTERRUPT.load(Ordering::Relaxed));
}

/// Takes what a guest sends.
pub fn guest_output(slot: &Slot, bytes: &[u8]) {
    CONSOLE.lock().output(slot.number, bytes, &mut Uart);
}

/// Forgets what the guest that was in this place has sent.
pub fn forget(slot: &Slot) {
    CONSOLE.lock().forget(slot.number);
}

/// Tells what has become of a guest that runs.
pub fn notice(slot: &Slot, what: &str) {
    CONSOLE.lock().notice(format_args!("guest \"{}\" {what}", slot.name), &mut Uart);
}

/// Tells that a guest has stopped by itself.
pub fn halted(slot: &Slot, why: &str) {
    CONSOLE.lock().halted(slot.number, &slot.name, why, &mut Uart);
}

fn execute(line: &str) -> Result<(), String> {
    let command = command::parse(line).map_err(|error| error.to_string())?;
    let mut uart = Uart;
    let out = &mut Text(&mut uart);
    match command {
        Command::Help(topic) => command::write_help(out, topic).map_err(|e| e.to_string()),
        Command::Guests => list_guests(out),
        Command::Pause(guest) => find(guest).and_then(|slot| pause(&slot)),
        Command::Unpause(guest) => find(guest).and_then(|slot| unpause(&slot)),
        Command::Attach(guest) => {
            let slot = find(guest)?;
            CONSOLE.lock().attach(slot.number, &slot.name, &mut Uart);
            Ok(())
        }
        Command::Gic(guest) => {
            let slot = find(guest)?;
            let parked = slot.park();
            write!(out, "{}", parked.guest.vgic).map_err(|e| e.to_string())
        }
        Command::Checkpoint { guest, name } => {
            let slot = find(guest)?;
            crate::checkpoint::store(&slot, name.unwrap_or(&slot.name), out)
        }
        Command::Resume { which, any_speed } => crate::checkpoint::resume(which, any_speed, out),
        Command::Delete(which) => crate::checkpoint::delete(which),
        Command::Store => crate::checkpoint::list(out),
        Command::Quit => Err(firmware::system_off().to_string()),
    }
}

/// The guest that a command names, by name or number.
fn find(word: &str) -> Result<Arc<Slot>, String> {
    let slots = guests::all();
    let rows: Vec<GuestRow> = slots.iter().map(|slot| row(slot, None, &[])).collect();
    let place = command::find_guest(&rows, word).map_err(|error| error.to_string())?;
    Ok(slots[place].clone())
}

/// A guest in a list; without `resident`, only what never changes.
fn row<'a>(slot: &'a Slot, resident: Option<&Resident>, cores: &'a [u32]) -> GuestRow<'a> {
    GuestRow {
        number: slot.number,
        name: &slot.name,
        state: resident.map_or("", |resident| resident.state.name()),
        vcpus: cores.len() as u8,
        memory: resident.map_or(0, |resident| resident.guest.ram_size()),
        cores,
    }
}

fn list_guests(out: &mut impl Write) -> Result<(), String> {
    let slots = guests::all();
    let cores: Vec<Vec<u32>> =
        slots.iter().map(|slot| slot.cores().map(|core| core as u32).collect()).collect();
    let rows: Vec<GuestRow> = slots
        .iter()
        .zip(&cores)
        .map(|(slot, cores)| row(slot, Some(&slot.park()), cores))
        .collect();
    write_guests(out, &rows).map_err(|error| error.to_string())
}

fn pause(slot: &Slot) -> Result<(), String> {
    let mut parked = slot.park();
    match parked.state {
        RunState::Running => {
            parked.set_state(RunState::Paused);
            Ok(())
        }
        state => Err(format!("guest \"{}\" is {}", slot.name, state.name())),
    }
}

fn unpause(slot: &Slot) -> Result<(), String> {
    let mut parked = slot.park();
    match parked.state {
        RunState::Paused => {
            parked.set_state(RunState::Running);
            Ok(())
        }
        state => Err(format!("guest \"{}\" is {}, not paused", slot.name, state.name())),
    }
}
