//! The console on the machine's UART: its bytes, which become [`commands`] or a guest's. On the first core, where it takes
//! turns with vCPUs: see [`turns`].

mod commands;
mod top;

use crate::slot::Slot;
use crate::{gic, guests, output, turns};
use core::sync::atomic::{AtomicU32, Ordering};
use spin::LazyLock;
use spin::mutex::SpinMutex;
use stasis_vm::console::{Console, Input, Names, Terminal};

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
            Input::Complete => {
                let names = names();
                CONSOLE.lock().complete(&names, &mut Uart);
            }
            Input::Guest { guest, byte } => {
                if let Some(slot) = guests::all().iter().find(|slot| slot.number == guest) {
                    slot.type_byte(byte);
                }
            }
            Input::Line(line) => {
                let result = commands::execute(&line);
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

/// Leaves the core to others, as part of a command, until an instant or until something happens.
fn rest_until(counter: u64) {
    gic::route_here(UART_INTERRUPT.load(Ordering::Relaxed));
    turns::rest_until(counter);
}

/// What Tab can complete.
fn names() -> Names {
    Names {
        guests: guests::all().iter().map(|slot| slot.name.clone()).collect(),
        configured: guests::configured_names(),
        checkpoints: crate::checkpoint::names_in_store(),
    }
}
