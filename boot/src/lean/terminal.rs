//! All that is said: the log, and the lines that guests print, each with its guest's name. The log
//! goes to the UART as it comes; what guests print waits until the console's task has time for it.
//!
//! The public functions take the locks of [`LINE`] and [`LINES`], in this order, so their callers
//! must hold neither. A guest's exit takes the second alone, under which nobody waits for the UART.

use crate::output;
use core::fmt::{self, Write};
use stasis_console::lines::{Line, Lines};
use stasis_console::{Terminal, Text};
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::roster;
use stasis_run::turns::Task;

/// Bytes of a guest's line that are sent at once. The UART may be full, and takes 87 us for a byte
/// at 115,200 bits/s; nobody else gets the core meanwhile.
const PIECE: usize = 1;

/// The line of a guest that is being sent. Whoever sends anything else holds this lock, and sends
/// the rest of the line before, so that lines are whole.
static LINE: TaskLock<Line> = TaskLock::new(Line::new());

/// What guests have printed and was not shown yet.
static LINES: TaskLock<Lines> = TaskLock::new(Lines::new());

/// The UART as a terminal.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes(bytes);
    }
}

/// The UART as a terminal for a panic, in which the UART's lock may be lost.
struct PanicUart;

impl Terminal for PanicUart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes_in_panic(bytes);
    }
}

/// Says a line of the log, behind the rest of the line that is being sent.
pub fn log(line: fmt::Arguments) {
    let mut current = LINE.lock_without_task();
    current.send(usize::MAX, &mut Uart);
    // Writing to the UART does not fail.
    let _ = writeln!(Text(&mut Uart), "{line}");
}

/// Shows in a panic all that guests have printed, unless a lock is lost: its holder may be what has
/// panicked.
pub fn show_waiting_in_panic() {
    const PATIENCE: usize = 10_000_000;
    let Some(mut line) = (0..PATIENCE).find_map(|_| LINE.try_lock()) else { return };
    line.send(usize::MAX, &mut PanicUart);
    if let Some(mut lines) = (0..PATIENCE).find_map(|_| LINES.try_lock()) {
        lines.show_all(&mut PanicUart);
    }
}

/// Takes a byte that a guest has sent. The console's task shows it, with its line.
pub fn guest_output(domain: &Domain, byte: u8) {
    let must_wake = LINES.lock_without_task().output(domain.number, &domain.name, byte);
    if must_wake {
        roster::wake_console();
    }
}

/// Drops a text that a guest has printed at its terminal, where nobody can be attached.
pub fn guest_text(_: &Domain, _: &[u8]) {}

/// Shows the next line that a guest has printed, and lets others run between its pieces. Returns
/// `false` if there is none: then the next one wakes the task.
pub fn show_line(task: &mut Task) -> bool {
    show(task, Lines::next)
}

/// Shows all that a guest has printed which has stopped, with the line that it has only begun.
pub fn show_last_words(task: &mut Task, domain: &Domain) {
    while show(task, |lines, line| lines.next_of(domain.number, line)) {}
}

/// Shows the line that `next` puts where it is sent from. Returns `false` if there is none.
fn show(task: &mut Task, next: impl FnOnce(&mut Lines, &mut Line) -> bool) -> bool {
    // The task has sent all of the line before.
    let mut line = LINE.lock(task);
    let is_there = next(&mut LINES.lock(task), &mut line);
    drop(line);
    if !is_there {
        return false;
    }
    while LINE.lock(task).send(PIECE, &mut Uart) {
        task.yield_now();
    }
    true
}

/// Forgets what the guest in this domain has printed.
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
