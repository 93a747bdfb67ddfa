//! The console on the machine's UART: its bytes become [`commands`], or input for a guest. It runs on the first core, where it takes turns with
//! vCPUs, as [`turns`] says.
//!
//! The public functions take the lock of [`CONSOLE`], so their callers must not hold it.

mod commands;
mod top;

use crate::work::Work;
use crate::{care, guests, output, typed};
use core::fmt;
use spin::LazyLock;
use stasis_console::{CAPACITY, Console, Input, Names, PIECE, Terminal, WAITING};
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::interrupts;
use stasis_run::turns::{self, Task};

/// The console. Both the task and the cores that run vCPUs say everything through it.
static CONSOLE: LazyLock<TaskLock<Console>> = LazyLock::new(|| TaskLock::new(Console::new()));

/// The console's UART as a terminal.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes(bytes);
    }
}

/// The console's UART as a terminal for a panic, in which the UART's lock may be lost.
struct PanicUart;

impl Terminal for PanicUart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes_in_panic(bytes);
    }
}

/// Opens the console on the calling core. `intid` is the interrupt of its UART.
pub fn init(intid: u32) {
    interrupts::open_console(intid);
    CONSOLE.lock_without_task().prompt(&mut Uart);
    // Bytes that were typed before must be handled now.
    turns::wake_console();
}

/// Handles what was received, up to the end of the first command. Returns whether there may be more.
pub fn serve(work: &mut Work) -> bool {
    /// Bytes for a guest that are handled at once; the rest waits for the next call.
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
                if let Some(domain) = guests::all().iter().find(|domain| domain.number == guest) {
                    domain.type_in(character);
                }
                // The guest may have been attached again just now, and may have sent something before.
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

/// Shows what has waited for the end of an answer: lines, and output of the guest that was just attached. That takes up to 2.8 s at
/// 115,200 bits/s, in which others need this core and the console, so the task yields between the pieces.
fn show_rest(task: &mut Task) {
    /// The number of pieces after which the rest is skipped: twice as many as there can be at first.
    const MOST: usize = 2 * (CAPACITY + WAITING) / PIECE;
    for _ in 0..MOST {
        if !CONSOLE.lock(task).show(&mut Uart) {
            return;
        }
        task.yield_now();
    }
    // The guest sends more than the UART can take. To show all of it would keep the core and the console from others.
    CONSOLE.lock(task).skip(&mut Uart);
}

/// Says a line of the log.
pub fn log(line: fmt::Arguments) {
    CONSOLE.lock_without_task().log(line, &mut Uart);
}

/// Says the lines that wait for the end of an answer, because the machine is about to end.
fn show_waiting() {
    CONSOLE.lock_without_task().show_waiting(&mut Uart);
}

/// Says in a panic the lines that wait for the end of an answer, unless the console's lock is lost: its holder may be what has panicked.
pub fn show_waiting_in_panic() {
    const PATIENCE: usize = 10_000_000;
    if let Some(mut console) = (0..PATIENCE).find_map(|_| CONSOLE.try_lock()) {
        console.show_waiting(&mut PanicUart);
    }
}

/// Takes a byte that a guest has sent.
pub fn guest_output(domain: &Domain, byte: u8) {
    CONSOLE.lock_without_task().output(domain.number, &[byte], &mut Uart);
}

/// Forgets what the guest in this domain has sent.
pub fn forget(domain: &Domain) {
    CONSOLE.lock_without_task().forget(domain.number);
}

/// Says what has become of a guest that runs.
pub fn notice(domain: &Domain, what: &str) {
    CONSOLE.lock_without_task().notice(format_args!("guest \"{}\" {what}", domain.name), &mut Uart);
}

/// Says that a guest has stopped by itself, and why.
pub fn halted(domain: &Domain, why: &str) {
    CONSOLE.lock_without_task().halted(domain.number, &domain.name, why, &mut Uart);
}

/// Leaves the core to others, as part of a command, until the counter reads `counter` or something happens.
fn rest_until(task: &mut Task, counter: u64) {
    interrupts::listen_to_console();
    task.rest_until(counter);
}

/// Returns the names that the Tab key can complete.
fn names(work: &mut Work) -> Names {
    Names {
        guests: guests::all().iter().map(|domain| domain.name.clone()).collect(),
        configured: guests::configured_names(),
        checkpoints: crate::catalog::names(work),
    }
}
