//! All that is said: the log, and the lines that guests print, each with its guest's name, go to the UART as they come.
//!
//! The public functions take the lock of [`LINES`], so their callers must not hold it.

use crate::output;
use core::fmt::{self, Write};
use stasis_console::lines::Lines;
use stasis_console::{Terminal, Text};
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// The lines that guests have begun. Both the task and the cores that run vCPUs say everything under this lock, so that lines are whole.
static LINES: TaskLock<Lines> = TaskLock::new(Lines::new());

/// The UART as a terminal.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes(bytes);
    }
}

/// Says a line of the log.
pub fn log(line: fmt::Arguments) {
    let _lines = LINES.lock_without_task();
    // Writing to the UART does not fail.
    let _ = writeln!(Text(&mut Uart), "{line}");
}

/// Does nothing: no line waits.
pub fn show_waiting_in_panic() {}

/// Takes a byte that a guest has sent.
pub fn guest_output(domain: &Domain, byte: u8) {
    LINES.lock_without_task().output(domain.number, &domain.name, byte, &mut Uart);
}

/// Drops a text that a guest has printed at its terminal, where nobody can be attached.
pub fn guest_text(_: &Domain, _: &[u8]) {}

/// Forgets what the guest in this domain has begun to print.
pub fn forget(domain: &Domain) {
    LINES.lock_without_task().forget(domain.number);
}

/// Says what has become of a guest that runs.
pub fn notice(domain: &Domain, what: &str) {
    log::info!("guest \"{}\" {what}", domain.name);
}

/// Says that a guest has stopped by itself, and why.
pub fn halted(_: &mut Task, domain: &Domain, why: &str) {
    log::warn!("guest \"{}\" {why}", domain.name);
}
