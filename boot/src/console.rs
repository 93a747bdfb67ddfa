//! The console on the machine's UART: its bytes, which become [`commands`] or a guest's. On the first core, where it takes
//! turns with vCPUs: see [`turns`].

mod commands;
mod top;

use crate::work::Work;
use crate::{care, guests, output, typed};
use core::fmt;
use spin::LazyLock;
use stasis_console::{CAPACITY, Console, Input, Names, PIECE, Terminal, WAITING};
use stasis_host::task::TaskLock;
use stasis_run::interrupts;
use stasis_run::slot::Slot;
use stasis_run::turns::{self, Task};

/// What all that is said goes through: of the task, and of cores that run vCPUs.
static CONSOLE: LazyLock<TaskLock<Console>> = LazyLock::new(|| TaskLock::new(Console::new()));

/// The UART as the console wants it.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes(bytes);
    }
}

/// The UART as a panic has it: its lock may be lost.
struct PanicUart;

impl Terminal for PanicUart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes_in_panic(bytes);
    }
}

/// Opens the console on this core, whose interrupt is `intid`.
pub fn init(intid: u32) {
    interrupts::open_console(intid);
    CONSOLE.lock_without_task().prompt(&mut Uart);
    // What was typed before is due now.
    turns::wake_console();
}

/// Handles what was received, up to the end of the first command. Returns whether more may be there.
pub fn serve(work: &mut Work) -> bool {
    /// A guest that is sent more than this at once waits for its rest.
    const MOST: usize = 1024;
    for _ in 0..MOST {
        let Some(character) = typed::next() else {
            interrupts::listen_to_console();
            return false;
        };
        let input = CONSOLE.lock(work.task).input(character, &mut Uart);
        match input {
            Input::Nothing => {}
            Input::Complete => {
                let names = names(work);
                CONSOLE.lock(work.task).complete(&names, &mut Uart);
            }
            Input::Guest { guest, character } => {
                if let Some(slot) = guests::all().iter().find(|slot| slot.number == guest) {
                    slot.type_in(character);
                }
                // The guest may just have been attached again, and have sent something before.
                show_rest(work.task);
            }
            Input::Line(line) => {
                typed::begin();
                let result = commands::execute(work, &line);
                match typed::end() {
                    0 => {}
                    lost => log::warn!("{lost} bytes that were typed during the command are lost"),
                }
                CONSOLE.lock(work.task).answer(result, &mut Uart);
                show_rest(work.task);
                care::console_is_used();
                return true;
            }
        }
        care::console_is_used();
    }
    true
}

/// Shows what has waited for an answer's end: lines, and what the guest has sent that was just attached. At 115,200 bits/s that takes
/// up to 2.8 s, in which others want this core, and the console for what they say.
fn show_rest(task: &mut Task) {
    /// Twice as many as it can be when it begins.
    const MOST: usize = 2 * (CAPACITY + WAITING) / PIECE;
    for _ in 0..MOST {
        if !CONSOLE.lock(task).show(&mut Uart) {
            return;
        }
        task.yield_now();
    }
    // More comes than the UART can send. To send it all would keep this core, and whoever wants to say something.
    CONSOLE.lock(task).skip(&mut Uart);
}

/// Says a line of the log. Not while [`CONSOLE`] is locked.
pub fn log(line: fmt::Arguments) {
    CONSOLE.lock_without_task().log(line, &mut Uart);
}

/// Says what waits for an answer's end: the machine is about to end.
fn show_waiting() {
    CONSOLE.lock_without_task().show_waiting(&mut Uart);
}

/// Says in a panic what waits for an answer's end, unless the console is lost: another core, or the caller, may have died with it.
pub fn show_waiting_in_panic() {
    const PATIENCE: usize = 10_000_000;
    if let Some(mut console) = (0..PATIENCE).find_map(|_| CONSOLE.try_lock()) {
        console.show_waiting(&mut PanicUart);
    }
}

/// Takes what a guest sends.
pub fn guest_output(slot: &Slot, byte: u8) {
    CONSOLE.lock_without_task().output(slot.number, &[byte], &mut Uart);
}

/// Forgets what the guest that was in this place has sent.
pub fn forget(slot: &Slot) {
    CONSOLE.lock_without_task().forget(slot.number);
}

/// Tells what has become of a guest that runs.
pub fn notice(slot: &Slot, what: &str) {
    CONSOLE.lock_without_task().notice(format_args!("guest \"{}\" {what}", slot.name), &mut Uart);
}

/// Tells that a guest has stopped by itself.
pub fn halted(slot: &Slot, why: &str) {
    CONSOLE.lock_without_task().halted(slot.number, &slot.name, why, &mut Uart);
}

/// Leaves the core to others, as part of a command, until an instant or until something happens.
fn rest_until(task: &mut Task, counter: u64) {
    interrupts::listen_to_console();
    task.rest_until(counter);
}

/// What Tab can complete.
fn names(work: &mut Work) -> Names {
    Names {
        guests: guests::all().iter().map(|slot| slot.name.clone()).collect(),
        configured: guests::configured_names(),
        checkpoints: crate::checkpoint::names_in_store(work),
    }
}
